# SPDX-License-Identifier: Apache-2.0
"""The predicted time of one measured op: the model of a whole step, asked about a single op of any shape."""

from __future__ import annotations

import math

from ..common.units import TILE
from ..hardware.enums import DataFormat, MathFidelity
from ..hardware.op_table import DECODE, LM_HEAD, MATRICES, PREFILL
from ..models.spec import ModelSpec
from . import op_shapes as kinds
from .calibration import ArchCalibration
from .collective_times import all_gather_us, all_reduce_us, reduce_scatter_us
from .op_costs import OpCosts
from .op_rows import OpRow
from .op_shapes import OpShape
from .ops import decode_attention_op, matmul_op, padded, prefill_attention_op
from .timing import ChipFigures, Timer

# Columns over rows of a weight between these are QKV's and WO's, whose activations have a grid of their own; a report
# does not always say which weight it is.
_ATTENTION_RATIO = (0.5, 2.0)


def op_row_us(row: OpRow, chip: ChipFigures, constants: ArchCalibration) -> float | None:
    """Predicted microseconds of a measured op; None where the row says too little, or predictions have no such op.

    A row's own number of cores counts where the op runs on as many as its program config says.
    """
    if row.kind == kinds.MATMUL:
        return _matmul(row, chip, constants)
    if row.kind == kinds.ATTENTION:
        return _attention(row, chip, constants)
    if row.kind in kinds.COLLECTIVES:
        return _collective(row, chip, constants)
    return None if constants.ops is None else _small_op(row, chip, constants.ops)


def _matmul(row: OpRow, chip: ChipFigures, constants: ArchCalibration) -> float | None:
    shape = row.shape
    if not shape.outputs or row.weights is None:
        return None
    fidelity = row.fidelity or MathFidelity.HiFi2
    sharded = "sharded" in row.op.casefold()
    ratio = shape.outputs / shape.inputs
    matrix = "wqkv" if _ATTENTION_RATIO[0] <= ratio <= _ATTENTION_RATIO[1] else "w1" if ratio > 1 else "w2"
    op = matmul_op(
        LM_HEAD if "lm head" in row.op.casefold() else MATRICES[matrix],
        (padded(shape.inputs), padded(shape.outputs)),
        phase=row.phase,
        weights=row.weights,
        fidelity=fidelity,
        rows=padded(shape.rows),
        banks=chip.banks if sharded else 0,
        fused="auto" not in row.op.casefold(),  # whose blocks of K are not known either
    )
    if row.phase == PREFILL and not sharded:
        op = op._replace(name=matrix)
        chip = _on_cores(chip, row.cores, op.rows)
    return Timer(chip, constants).time(op, row.phase).us


def _on_cores(chip: ChipFigures, cores: int, rows: int) -> ChipFigures:
    """The chip with a grid of as many cores as a prefill matmul of `rows` ran on."""
    if not cores:
        return chip
    tall = min(chip.grid_rows, math.ceil(rows / TILE))
    return chip._replace(columns=max(1, round(cores / tall)), grid_rows=tall)


def _attention(row: OpRow, chip: ChipFigures, constants: ArchCalibration) -> float | None:
    shape = row.shape
    if not (shape.q_heads and shape.kv_heads and shape.head_dim):
        return None
    spec = _model(shape)
    cache = row.weights or DataFormat.BFP8
    if row.phase == DECODE:
        if not (shape.context and shape.users):
            return None
        op = decode_attention_op(
            spec,
            1,
            batch=shape.users,
            context=shape.context,
            kv_cache=cache,
            fidelity=row.fidelity or MathFidelity.HiFi2,
            in_dram=True,
        )
        return Timer(chip, constants).time(op, DECODE).us
    if not shape.tokens:
        return None
    op = prefill_attention_op(
        spec, 1, tokens=shape.tokens, rows=shape.tokens, chunks=1, fidelity=row.fidelity or MathFidelity.HiFi2
    )
    # Tokens before the chunk are attended to by every query of it, without a triangle.
    more = 1 + 2 * shape.offset / shape.tokens
    prompts = max(1, shape.users)
    op = op._replace(
        flops=op.flops * more * prompts,
        scores=op.scores * more * prompts,
        chunks=op.chunks * prompts,
        key_chunks=op.key_chunks * more,
    )
    if row.cores:
        chip = chip._replace(columns=row.cores, grid_rows=1)
    return Timer(chip, constants).time(op, PREFILL).us


def _model(shape: OpShape) -> ModelSpec:
    """A model of one layer with the heads of `shape`; nothing else of it is read."""
    width = shape.q_heads * shape.head_dim
    q_heads = math.ceil(shape.q_heads / shape.kv_heads) * shape.kv_heads
    return ModelSpec.uniform(TILE, width, 1, q_heads, TILE, shape.kv_heads, shape.head_dim)


def _collective(row: OpRow, chip: ChipFigures, constants: ArchCalibration) -> float | None:
    shape, chips = row.shape, row.shape.chips or chip.tensor_parallel
    if not shape.inputs or chips < 2 or row.activations is None:
        return None
    payload = padded(shape.rows) * shape.inputs * row.activations.bytes_per_element
    if row.kind == kinds.ALL_REDUCE:
        return all_reduce_us(payload, chips, chip.ring, constants)
    if row.kind == kinds.ALL_GATHER:
        # Brackets hold what one chip brings.
        return all_gather_us(payload * (chips if row.shapes.startswith("[") else 1), chips, chip.ring, constants)
    return reduce_scatter_us(payload, chips, chip.ring, constants)


def _small_op(row: OpRow, chip: ChipFigures, costs: OpCosts) -> float | None:
    shape = row.shape
    if row.kind == kinds.NORM:
        return _norm(row, chip, costs)
    if row.kind == kinds.GAP:
        return costs.gap_us
    if row.kind == kinds.TOPK:
        return costs.topk(shape.inputs) if shape.inputs else None
    if row.kind == kinds.SAMPLER:
        return costs.sampler_us
    if row.kind in (kinds.GATED, kinds.ADD):
        if not shape.inputs:
            return None
        tall = math.ceil(shape.rows / TILE)
        us = (costs.gated if row.kind == kinds.GATED else costs.add)(shape.inputs if row.phase == DECODE else 0)
        return us if tall == 1 else max(us, _bytes_us(3.0 * shape.rows * shape.inputs, chip, costs))
    if row.phase == PREFILL:
        return None
    if row.kind == kinds.MOVE:
        return costs.move_us
    if row.kind == kinds.ROPE:
        return costs.rope_us
    if row.kind == kinds.CREATE_HEADS and shape.q_heads:
        return costs.create_heads(shape.q_heads, shape.kv_heads)
    if row.kind == kinds.CONCAT_HEADS and shape.users:
        return costs.concat_heads(shape.users)
    if row.kind == kinds.UPDATE_CACHE and shape.kv_heads and row.weights is not None:
        return costs.cache_update(shape.kv_heads, row.weights.bytes_per_element)
    return None


def _norm(row: OpRow, chip: ChipFigures, costs: OpCosts) -> float | None:
    shape = row.shape
    if shape.inputs:
        rows, width = padded(shape.rows), shape.inputs
    elif shape.head_dim:
        rows, width = padded(max(shape.tokens, 1)) * max(shape.heads, 1), shape.head_dim
    else:
        return None
    tall, deep = rows // TILE, math.ceil(width / TILE)
    cores = row.cores or min(tall, chip.cores)
    # Rows of tiles are not split over cores where there are many of them.
    tiles = deep * math.ceil(tall / cores) * cores if tall >= cores else deep * tall
    us = costs.norm(tiles, cores)
    return us if tall == 1 else max(us, _bytes_us(3.0 * rows * width, chip, costs))


def _bytes_us(elements: float, chip: ChipFigures, costs: OpCosts) -> float:
    """Time to read and write `elements` of BF16 at the bandwidth that such ops reach."""
    return elements * DataFormat.BF16.bytes_per_element / (costs.elementwise_efficiency * chip.bandwidth * 1e3)
