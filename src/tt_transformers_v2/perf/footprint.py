# SPDX-License-Identifier: Apache-2.0
"""What one chip has to hold of a model, in bytes: weights as they are stored, KV cache, activations alive at once.

A chip holds its tensor-parallel share of the fullest pipeline stage's layers, its share of the embedding (split by
width) and of the LM head (split by vocabulary), the norms in BF16, whole, and the KV cache of its data-parallel group's
users. Tied embeddings are stored twice: the device keeps the embedding row-major for look-up and the LM head transposed
in tiles, in its own format, as tt_transformers does. KV heads are split over the tensor-parallel chips, and replicated
where there are fewer heads than chips.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ..common.units import TILE
from ..hardware.enums import DataFormat, MathFidelity, Placement, Prefill
from ..hardware.op_table import DECODE, EMBEDDING, LM_HEAD, MATRICES, SDPA, ModelOp
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..planning.split import head_split
from .ops import (
    fused_all_gather_matmul,
    heads_per_chip,
    matmul_op,
    matrices_per_chip,
    padded,
    padded_prompt,
)

KV_BLOCK = 32  # tokens per page of the paged KV cache (tt_transformers' short-context default)


class DecoderShape(Protocol):
    """What the adjustments look at in a model specification."""

    @property
    def num_layers(self) -> int:
        """Decoder layers."""
        ...

    @property
    def num_heads(self) -> int:
        """Query heads of a layer."""
        ...

    @property
    def num_kv_heads(self) -> int:
        """Key and value heads of a layer."""
        ...

    @property
    def head_dim(self) -> int:
        """Elements of one head."""
        ...

    @property
    def max_context(self) -> int:
        """The longest context in tokens."""
        ...


def kv_cache_bytes(config: DeviceConfig, model: DecoderShape, batch: int, context: int) -> int:
    """Bytes of KV cache on one chip for `batch` users of `context` tokens each; whole tiles, heads split over chips."""
    heads = math.ceil(model.num_kv_heads / head_split(config))
    users = math.ceil(batch / config.parallelism.data_parallel_size)
    tiles = math.ceil(context / TILE) * math.ceil(model.head_dim / TILE)
    layers = math.ceil(model.num_layers / config.parallelism.pipeline_parallel_size)
    return 2 * layers * users * heads * tiles * config.precision.kv_cache.tile_bytes


def weight_bytes(hw: DeviceConfig, spec: ModelSpec) -> dict[str, int]:
    """DRAM bytes of one chip's weights by tensor group; matrices placed in L1 count nothing here.

    Matrices sharded over the DRAM banks are stored with as many tile columns on every bank (perf.ops.matmul_op).
    """
    matrices = [MATRICES[name].tensor_group for name in (*spec.matrices(), LM_HEAD.matrix)]
    groups = dict.fromkeys((*matrices, EMBEDDING.tensor_group, "norm"), 0)
    if hw.memory.weights_placement is Placement.DRAM:
        groups |= matrix_bytes(hw, spec, banks=hw.spec.chip.dram_banks if hw.memory.use_width_sharding else 0)
    columns = math.ceil(spec.hidden_dim / hw.parallelism.tensor_parallel_size)
    groups["embedding"] = math.ceil(spec.vocab_size * columns * hw.precision.of("embedding").bytes_per_element)
    per_layer = 2 * spec.hidden_dim + (2 * spec.head_dim if spec.qk_norm else 0)
    groups["norm"] = 2 * (_stage_layers(hw, spec) * per_layer + spec.hidden_dim)
    return groups


def matrix_bytes(hw: DeviceConfig, spec: ModelSpec, *, banks: int) -> dict[str, int]:
    """Bytes of one chip's matrices by tensor group, their columns sharded over `banks` (0: interleaved, unpadded)."""
    fused = fused_all_gather_matmul(hw, spec)
    tiles: dict[str, int] = {}
    for name, shape in matrices_per_chip(spec, hw.parallelism.tensor_parallel_size).items():
        op = MATRICES[name]
        # The fused all-gather and matmul reads wo interleaved.
        stored = _stored_tiles(op, shape, 0 if name == "wo" and fused else banks)
        tiles[op.tensor_group] = tiles.get(op.tensor_group, 0) + stored
    return {group: number * _bytes_per_tile(hw, spec, group) for group, number in tiles.items()}


def kv_block_bytes(hw: DeviceConfig, spec: ModelSpec) -> int:
    """Bytes of one page of one user's cache on one chip: KV_BLOCK keys and values in all its layers."""
    _, kv_heads = heads_per_chip(spec, hw.parallelism.tensor_parallel_size)
    tiles = KV_BLOCK // TILE * padded(spec.head_dim) // TILE
    return 2 * kv_heads * tiles * _bytes_per_tile(hw, spec, SDPA.tensor_group)


class ActivationFormats(NamedTuple):
    """Formats of one layer's activations: of the residual stream, in attention and in the MLP."""

    residual: DataFormat
    attention: DataFormat
    mlp: DataFormat


class LiveActivations(NamedTuple):
    """The most that a layer holds at once, in bytes: the residual stream, and besides it in either half."""

    residual: int
    attention: int
    mlp: int

    @property
    def most(self) -> int:
        """Bytes at the fullest moment: attention and MLP follow one another, the residual stream stays."""
        return self.residual + max(self.attention, self.mlp)


def activation_formats(hw: DeviceConfig, spec: ModelSpec) -> set[ActivationFormats]:
    """The different formats that the layers' activations have."""
    names = ("activations", "attention_activations", "mlp_activations")
    return {ActivationFormats(*map(own.precision.of, names)) for own, _ in hw.layer_kinds(spec.num_layers)}


def live_activations(
    spec: ModelSpec, tensor_parallel: int, formats: ActivationFormats, size: Callable[[int, DataFormat], int]
) -> LiveActivations:
    """The activations of one layer that are alive at once on one chip; `size(width, format)` is the bytes of one.

    tt_transformers (decoder.py, attention.py@00b769dd, mlp.py@03f118e6) keeps the residual stream split over the chips
    and frees a tensor after its last reader. Attention: its input and QKV, then QKV and the heads made of it. MLP: its
    input, gate and up, then gate, up and their product. The outputs of wo and w2 need less than that. Where attention
    and MLP differ (TTTv1's mixed activations) only the product is in the MLP's format, gate and up in the wider one:
    tt-metal issue 31076 shows 2 bytes per element of up.
    """
    wider = max(formats.attention, formats.mlp, key=lambda data: data.tile_bytes)
    q_heads, kv_heads = heads_per_chip(spec, tensor_parallel)
    qkv = size((q_heads + 2 * kv_heads) * spec.head_dim, formats.attention)
    split = math.ceil(spec.intermediate_dim / tensor_parallel)
    normed = size(spec.hidden_dim, wider)
    return LiveActivations(
        residual=size(math.ceil(spec.hidden_dim / tensor_parallel), formats.residual),
        attention=qkv + max(normed, qkv),
        mlp=2 * size(split, wider) + max(normed, size(split, formats.mlp)),
    )


def activation_bytes_per_token(hw: DeviceConfig, spec: ModelSpec) -> int:
    """DRAM bytes of one prompt token's activations on one chip, at the fullest moment of the fullest layer."""

    def size(width: int, data: DataFormat) -> int:
        return math.ceil(width * data.bytes_per_element)

    split = hw.parallelism.tensor_parallel_size
    return max(live_activations(spec, split, formats, size).most for formats in activation_formats(hw, spec))


def rotary_bytes_per_position(spec: ModelSpec) -> int:
    """DRAM bytes of one position in the rotary tables: a row of head_dim cosines and one of sines, in BF16.

    tt_transformers (rope.py, RotarySetup) keeps a row for each position of the context, whole on every chip, and
    prefill slices the rows of its chunk out of them.
    """
    return 2 * 2 * padded(spec.head_dim)


def prefill_tokens(hw: DeviceConfig, context: int, batched: int = 0) -> int:
    """Tokens of the largest chunk that prompts are computed in: one of up to `context` tokens, or those of several
    users in one pass, `batched` tokens together."""
    return min(hw.max_prefill_chunk_size, max(padded_prompt(context), batched))


def batched_tokens(prefill: Prefill | None, prompt_length: int, users: int) -> int:
    """Tokens of one pass over the prompts of `users`, each padded; 0 unless `prefill` is batched."""
    return padded_prompt(prompt_length) * users if prefill is Prefill.batched else 0


def _stored_tiles(op: ModelOp, shape: tuple[int, int], banks: int) -> int:
    """Tiles that a matrix takes in DRAM; format and fidelity make no difference to their number."""
    stored = matmul_op(
        op, shape, phase=DECODE, weights=DataFormat.BFP8, fidelity=MathFidelity.LoFi, rows=TILE, banks=banks
    )
    return int(stored.bank_tiles) * banks or int(stored.tiles)


def _stage_layers(hw: DeviceConfig, spec: ModelSpec) -> int:
    """Layers of the fullest pipeline stage."""
    return math.ceil(spec.num_layers / hw.parallelism.pipeline_parallel_size)


def _bytes_per_tile(hw: DeviceConfig, spec: ModelSpec, group: str) -> int:
    """Bytes that one tile of a tensor group takes in all layers of a pipeline stage together; of the LM head, once.

    Layers of their own are shared out evenly over the stages.
    """
    if group == LM_HEAD.tensor_group:
        return hw.precision.lm_head.tile_bytes
    kinds = hw.layer_kinds(spec.num_layers)
    whole = sum(len(layers) * own.precision.of(group).tile_bytes for own, layers in kinds)
    return -(-whole * _stage_layers(hw, spec) // spec.num_layers)
