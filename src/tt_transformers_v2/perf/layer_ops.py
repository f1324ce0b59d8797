# SPDX-License-Identifier: Apache-2.0
"""The small ops of a decoder layer, one chip's: norms, heads, RoPE, cache, product, additions, moves, gaps.

They are tt_transformers' on Wormhole and Blackhole: two norms, two more where queries and keys are normalised; QKV
split into heads, queries and keys rotated, keys and values written into the cache, heads joined; the activation
function with its product; two additions to the residual stream; the moves between the layouts that these want.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..common.units import TILE
from ..hardware.enums import DataFormat
from ..hardware.op_table import NORM, RESIDUAL_ADD, SILU_MUL
from ..models.spec import ModelSpec
from .decode_blocks import activation_cores
from .op_costs import OpCosts
from .ops import heads_per_chip

CREATE_HEADS, ROPE, UPDATE_CACHE, CONCAT_HEADS = "create_heads", "rope", "update_cache", "concat_heads"
HEAD_NORM, MOVE, GAP, REST = "qk_norm", "move", "gap", "rest_of_layer"
# Moves of a decode layer in the profile of Llama-3.1-8B under tt_transformers' recipe (tt-metal autoports @3d6a972a):
# QKV and attention's output between sharded and interleaved, and a reshard before and behind the MLP.
DECODE_MOVES = 4
_MATMULS_AND_ATTENTION = 6
_BF16 = DataFormat.BF16.bytes_per_element


class LayerOp(NamedTuple):
    """`executions` a layer of the op `name`, each of `us` microseconds."""

    name: str
    us: float
    executions: int


def decode_layer_ops(
    costs: OpCosts, spec: ModelSpec, tensor_parallel: int, *, batch: int, kv_cache: DataFormat
) -> list[LayerOp]:
    """The small ops of one layer of a decode step of `batch` users."""
    q_heads, kv_heads = heads_per_chip(spec, tensor_parallel)
    deep, tall = math.ceil(spec.hidden_dim / TILE), math.ceil(batch / TILE)
    width = math.ceil(spec.intermediate_dim / tensor_parallel)
    ops = [
        LayerOp(NORM.name, costs.norm(deep * tall, activation_cores("wqkv", deep, deep)), 2),
        LayerOp(CREATE_HEADS, costs.create_heads(q_heads, kv_heads), 1),
        LayerOp(ROPE, costs.rope_us, 2),
        LayerOp(UPDATE_CACHE, costs.cache_update(kv_heads, kv_cache.bytes_per_element), 2),
        LayerOp(CONCAT_HEADS, costs.concat_heads(batch), 1),
        LayerOp(SILU_MUL.name, costs.gated(width * tall), 1),
        LayerOp(RESIDUAL_ADD.name, costs.add(spec.hidden_dim * tall), 2),
        LayerOp(MOVE, costs.move_us, DECODE_MOVES),
    ]
    if spec.qk_norm:
        ops.insert(2, LayerOp(HEAD_NORM, costs.norm(math.ceil(spec.head_dim / TILE), 1), 2))
    return [*ops, LayerOp(GAP, costs.gap_us, gaps(ops, tensor_parallel))]


def gaps(ops: list[LayerOp], tensor_parallel: int) -> int:
    """Ops of a layer, small and large, after each of which the device waits for the next."""
    return sum(op.executions for op in ops) + _MATMULS_AND_ATTENTION + (2 if tensor_parallel > 1 else 0)


def prefill_layer_ops(
    costs: OpCosts, spec: ModelSpec, tensor_parallel: int, *, rows: int, cores: int, bandwidth: float
) -> list[LayerOp]:
    """The small ops of one layer of a prompt of `rows` tokens on `cores` of a chip with `bandwidth` GB/s.

    Each takes as long as a decode step's, or as its bytes over the bandwidth that such ops reach.
    """
    q_heads, kv_heads = heads_per_chip(spec, tensor_parallel)
    deep, tall = math.ceil(spec.hidden_dim / TILE), math.ceil(rows / TILE)
    width = math.ceil(spec.intermediate_dim / tensor_parallel)
    q, kv = q_heads * spec.head_dim, kv_heads * spec.head_dim

    def longer(us: float, elements: float) -> float:
        """`us`, or the time to read and write `elements` of BF16 a row."""
        return max(us, rows * elements * _BF16 / (costs.elementwise_efficiency * bandwidth * 1e3))

    ops = [
        LayerOp(NORM.name, longer(costs.norm(deep * tall, min(tall, cores)), 3 * spec.hidden_dim), 2),
        LayerOp(CREATE_HEADS, longer(costs.create_heads(q_heads, kv_heads), 2 * (q + 2 * kv)), 1),
        LayerOp(ROPE, longer(costs.rope_us, q + kv), 2),
        LayerOp(UPDATE_CACHE, longer(costs.cache_update_us, 2 * kv), 2),
        LayerOp(CONCAT_HEADS, longer(costs.concat_heads_us, 2 * q), 1),
        LayerOp(SILU_MUL.name, longer(costs.gated_us, 3 * width), 1),
        LayerOp(RESIDUAL_ADD.name, longer(costs.add_us, 3 * spec.hidden_dim), 2),
    ]
    if spec.qk_norm:
        own = costs.norm(tall * math.ceil(spec.head_dim / TILE), min(tall, cores))
        ops.insert(2, LayerOp(HEAD_NORM, longer(own, 3 * (q + kv) / 2), 2))
    return [*ops, LayerOp(GAP, costs.gap_us, gaps(ops, tensor_parallel))]
