# SPDX-License-Identifier: Apache-2.0
"""The small ops of a decoder layer, one chip's: norms, heads, RoPE, cache, product, additions, moves, gaps.

They are tt_transformers' on Wormhole and Blackhole: two norms, two more where queries and keys are normalised, and two
where what attention and MLP add is; QKV split into heads, queries and keys rotated, keys and values written into the
cache, heads joined; the activation function with its product; two additions to the residual stream; the moves between
the layouts that these want. A bias is an op of its own behind the sum over chips; elsewhere the matmul adds it.

Around experts there are a top-k, what makes a routing of it, and passes over the outputs of all experts: a sparse
matmul leaves room for those that nobody chose too. The passes are taken as bound by DRAM. For gpt-oss-20b's layer on
one Blackhole chip and one user they come to 148 us, where the twelve of the profile, in L1, take 133.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ..common.units import TILE
from ..hardware.enums import DataFormat
from ..hardware.op_table import NORM, RESIDUAL_ADD, SILU_MUL
from ..models.layer_spec import ExpertsSpec, LayerSpec, MlpSpec
from ..models.spec import ModelSpec
from .decode_blocks import activation_cores
from .layer_matmuls import layer_matrices_per_chip
from .op_costs import OpCosts
from .ops import heads_per_chip, padded

CREATE_HEADS, ROPE, UPDATE_CACHE, CONCAT_HEADS = "create_heads", "rope", "update_cache", "concat_heads"
HEAD_NORM, MOVE, GAP, REST = "qk_norm", "move", "gap", "rest_of_layer"
# Moves of a decode layer in the profile of Llama-3.1-8B under tt_transformers' recipe (tt-metal autoports @3d6a972a):
# QKV and attention's output between sharded and interleaved, and a reshard before and behind the MLP.
DECODE_MOVES = 4
# Ops besides top-k that make a routing of the router's scores, and passes over the outputs of all experts at either
# width: activation function, product and transpose; transpose, shares and sum. Of gpt-oss-20b in tt-metal's
# models/autoports @18bb48a2 (optimized_decoder, July 2026).
ROUTING_OPS = 12
EXPERT_PASSES = 3
TOP_K, PASS = "top_k", "experts_pass"
_NARROWEST_TOP_K = 64  # columns that ttnn.topk pads to
_BF16 = DataFormat.BF16.bytes_per_element


class LayerOp(NamedTuple):
    """`executions` a layer of the op `name`, each of `us` microseconds."""

    name: str
    us: float
    executions: int


def decode_layer_ops(
    costs: OpCosts,
    spec: ModelSpec,
    tensor_parallel: int,
    *,
    batch: int,
    kv_cache: DataFormat,
    bandwidth: float,
    kind: LayerSpec | None = None,
) -> list[LayerOp]:
    """The small ops of one layer of a decode step of `batch` users, of `kind` or the first layer's.

    bandwidth: nominal GB/s of the chip.
    """
    kind = spec.layer(0) if kind is None else kind
    q_heads, kv_heads = heads_per_chip(spec, tensor_parallel)
    deep, tall = math.ceil(spec.hidden_dim / TILE), math.ceil(batch / TILE)
    norm = costs.norm(deep * tall, activation_cores("wqkv", deep, deep))
    ops = [
        LayerOp(NORM.name, norm, _norms(kind)),
        LayerOp(CREATE_HEADS, costs.create_heads(q_heads, kv_heads), 1),
        LayerOp(UPDATE_CACHE, costs.cache_update(kv_heads, kv_cache.bytes_per_element), 2),
        LayerOp(CONCAT_HEADS, costs.concat_heads(batch), 1),
        LayerOp(RESIDUAL_ADD.name, costs.add(spec.hidden_dim * tall), 2 + _biases(kind)),
        LayerOp(MOVE, costs.move_us, DECODE_MOVES),
    ]
    if kind.attention.rotary is not None:
        ops.insert(2, LayerOp(ROPE, costs.rope_us, 2))
    if kind.attention.qk_norm == "head":
        ops.insert(2, LayerOp(HEAD_NORM, costs.norm(math.ceil(spec.head_dim / TILE), 1), 2))
    elif kind.attention.qk_norm == "all":
        wide = math.ceil(q_heads * spec.head_dim / TILE)
        ops.insert(2, LayerOp(HEAD_NORM, costs.norm(wide * tall, activation_cores("wqkv", wide, wide)), 2))
    for mlp in _dense(kind):
        width = math.ceil(mlp.width / tensor_parallel)
        ops.insert(-2, LayerOp(SILU_MUL.name, costs.gated(width * tall), 1))
    if kind.experts is not None:
        rate, fed = costs.elementwise_efficiency * bandwidth * 1e3, kind.experts

        def one_pass(width: int) -> float:
            return max(costs.move_us * tall, 2 * fed.count * padded(batch) * width * _BF16 / rate)

        ops += _around_experts(costs, fed, spec.hidden_dim, tensor_parallel, tall, one_pass)
    return [*ops, LayerOp(GAP, costs.gap_us, gaps(ops, spec, kind, tensor_parallel))]


def gaps(ops: list[LayerOp], spec: ModelSpec, kind: LayerSpec, tensor_parallel: int) -> int:
    """Ops of a layer, small and large, after each of which the device waits for the next."""
    matmuls_and_attention = len(layer_matrices_per_chip(spec, kind, tensor_parallel)) + 1
    return sum(op.executions for op in ops) + matmuls_and_attention + (2 if tensor_parallel > 1 else 0)


def prefill_layer_ops(
    costs: OpCosts,
    spec: ModelSpec,
    tensor_parallel: int,
    *,
    rows: int,
    cores: int,
    bandwidth: float,
    kind: LayerSpec | None = None,
) -> list[LayerOp]:
    """The small ops of one layer of a prompt of `rows` tokens on `cores` of a chip with `bandwidth` GB/s.

    Each takes as long as a decode step's, or as its bytes over the bandwidth that such ops reach.
    """
    kind = spec.layer(0) if kind is None else kind
    q_heads, kv_heads = heads_per_chip(spec, tensor_parallel)
    deep, tall = math.ceil(spec.hidden_dim / TILE), math.ceil(rows / TILE)
    q, kv = q_heads * spec.head_dim, kv_heads * spec.head_dim

    def longer(us: float, elements: float) -> float:
        """`us`, or the time to read and write `elements` of BF16 a row."""
        return max(us, rows * elements * _BF16 / (costs.elementwise_efficiency * bandwidth * 1e3))

    ops = [
        LayerOp(NORM.name, longer(costs.norm(deep * tall, min(tall, cores)), 3 * spec.hidden_dim), _norms(kind)),
        LayerOp(CREATE_HEADS, longer(costs.create_heads(q_heads, kv_heads), 2 * (q + 2 * kv)), 1),
        LayerOp(UPDATE_CACHE, longer(costs.cache_update_us, 2 * kv), 2),
        LayerOp(CONCAT_HEADS, longer(costs.concat_heads_us, 2 * q), 1),
        LayerOp(RESIDUAL_ADD.name, longer(costs.add_us, 3 * spec.hidden_dim), 2 + _biases(kind)),
    ]
    if kind.attention.rotary is not None:
        ops.insert(2, LayerOp(ROPE, longer(costs.rope_us, q + kv), 2))
    if kind.attention.qk_norm:
        wide = spec.head_dim if kind.attention.qk_norm == "head" else q
        own = costs.norm(tall * math.ceil(wide / TILE), min(tall, cores))
        ops.insert(2, LayerOp(HEAD_NORM, longer(own, 3 * (q + kv) / 2), 2))
    for mlp in _dense(kind):
        ops.insert(-1, LayerOp(SILU_MUL.name, longer(costs.gated_us, 3 * math.ceil(mlp.width / tensor_parallel)), 1))
    if kind.experts is not None:
        fed = kind.experts

        def one_pass(width: int) -> float:
            return longer(costs.move_us * tall, 2 * fed.count * width)

        ops += _around_experts(costs, fed, spec.hidden_dim, tensor_parallel, math.ceil(tall / cores), one_pass)
    return [*ops, LayerOp(GAP, costs.gap_us, gaps(ops, spec, kind, tensor_parallel))]


def _norms(kind: LayerSpec) -> int:
    return 4 if kind.norms == "both" else 2


def _biases(kind: LayerSpec) -> int:
    """Additions of a bias behind the sum over chips."""
    return int(kind.attention.output_bias) + sum(mlp.bias for mlp in _dense(kind))


def _dense(kind: LayerSpec) -> list[MlpSpec]:
    """The MLP that every token uses, if there is one: the layer's, or the one beside its experts."""
    own = kind.mlp if kind.experts is None else kind.experts.shared
    return [] if own is None else [own]


def _around_experts(
    costs: OpCosts,
    experts: ExpertsSpec,
    hidden: int,
    tensor_parallel: int,
    tall: int,
    one_pass: Callable[[int], float],
) -> list[LayerOp]:
    """Routing and what is done with the experts' outputs; `one_pass(width)` is the time of a pass over all of them.

    tall: tile rows that the busiest core of a top-k has.
    """
    ops = [
        LayerOp(TOP_K, costs.topk(max(_NARROWEST_TOP_K, padded(experts.count))) * tall, 1),
        LayerOp(MOVE, costs.move_us, ROUTING_OPS),
        LayerOp(PASS, one_pass(math.ceil(experts.mlp.width / tensor_parallel)), EXPERT_PASSES),
        LayerOp(PASS, one_pass(hidden), EXPERT_PASSES),
    ]
    if experts.shared is not None:
        ops.append(LayerOp(RESIDUAL_ADD.name, costs.add(hidden * tall), 2 if experts.shared_gate else 1))
    return ops
