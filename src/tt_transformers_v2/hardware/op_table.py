# SPDX-License-Identifier: Apache-2.0
"""The ops of a model as a configuration sees them: what each reads, and which settings it runs with.

One row per op: OP_TABLE's of every model, EXPERT_OPS' of layers with experts. Everything else that is known about
tensor groups (precision.*), op groups (compute.*) and the two phases follows from the rows: a new op is a new row, and
its groups a field each in `schema`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DECODE, PREFILL = "decode", "prefill"
PHASES = (DECODE, PREFILL)

Kind = Literal["matmul", "attention", "norm", "embedding", "elementwise"]


@dataclass(frozen=True)
class ModelOp:
    """One op and its groups; a field is "" where the op has no such thing.

    name: as predictions print it.
    kind: a "matmul" multiplies by weights; "attention" is both products with the KV cache.
    matrix: the weight matrix of a matmul, by its canonical name (models.weights).
    title: what it reads, in sentences.
    half: the half of a layer it belongs to, "attention" or "mlp".
    in_layer: whether layers have the op each for themselves, and so may have settings of their own.
    tensor_group, tensor_parent: the precision.* group of the weights or the cache it reads, and the coarser group that
        this one inherits from.
    op_group, op_parent: its compute.* group, and the coarser one.
    by_phase: whether the op group has a finer one for each phase, OP_GROUP_decode and OP_GROUP_prefill.
    activations: the precision.* group that its output is in. The residual stream has the attention path's.
    inputs_over: over which chips the inputs of a matrix are split: those that share the heads, or those that share the
        hidden size of a 2-D mesh. Its outputs are split over the others (planning.split).
    one_tile: it sees one tile of rows in either phase, and so runs as a decode matmul in both.
    interleaved: its weights lie interleaved over the DRAM banks whatever memory.use_width_sharding says: sharded, a
        small expert's columns would be padded to whole tiles on each bank.
    """

    name: str
    kind: Kind
    matrix: str = ""
    title: str = ""
    half: str = ""
    in_layer: bool = True
    tensor_group: str = ""
    tensor_parent: str = ""
    op_group: str = ""
    op_parent: str = ""
    by_phase: bool = False
    activations: str = "attention_activations"
    inputs_over: Literal["", "heads", "hidden"] = ""
    one_tile: bool = False
    interleaved: bool = False

    def group_in(self, phase: str) -> str:
        """The finest op group whose settings it runs with in a phase."""
        return self._groups[phase]

    @functools.cached_property
    def _groups(self) -> dict[str, str]:
        return {phase: f"{self.op_group}_{phase}" if self.by_phase else self.op_group for phase in PHASES}


# In the order of the schema's groups.
# fmt: off
OP_TABLE: tuple[ModelOp, ...] = (
    ModelOp(
        "ff1", "matmul", matrix="w1", title="FF1", half="mlp", inputs_over="hidden",
        tensor_group="ff1_ff3", tensor_parent="mlp_weights", op_group="ff1_ff3", op_parent="mlp",
        activations="mlp_activations",
    ),
    ModelOp(
        "ff3", "matmul", matrix="w3", title="FF3", half="mlp", inputs_over="hidden",
        tensor_group="ff1_ff3", tensor_parent="mlp_weights", op_group="ff1_ff3", op_parent="mlp",
        activations="mlp_activations",
    ),
    ModelOp(
        "ff2", "matmul", matrix="w2", title="FF2", half="mlp", inputs_over="heads",
        tensor_group="ff2", tensor_parent="mlp_weights", op_group="ff2", op_parent="mlp",
        activations="mlp_activations",
    ),
    ModelOp(
        "wqkv", "matmul", matrix="wqkv", title="QKV", half="attention", inputs_over="hidden",
        tensor_group="wqkv", tensor_parent="attention_weights", op_group="qkv", op_parent="attention", by_phase=True,
    ),
    ModelOp(
        "wo", "matmul", matrix="wo", title="WO", half="attention", inputs_over="heads",
        tensor_group="wo", tensor_parent="attention_weights", op_group="o", op_parent="attention", by_phase=True,
    ),
    ModelOp(
        "sdpa", "attention", title="KV cache", half="attention",
        tensor_group="kv_cache", op_group="sdpa", by_phase=True,
    ),
    ModelOp(
        "lm_head", "matmul", matrix="lm_head", title="LM head", in_layer=False, inputs_over="hidden", one_tile=True,
        tensor_group="lm_head", op_group="lm_head",
    ),
    ModelOp("rms_norm", "norm", op_group="norm"),
    ModelOp("silu_mul", "elementwise", half="mlp", activations="mlp_activations"),
    ModelOp("add", "elementwise"),
    ModelOp("embedding", "embedding", in_layer=False, tensor_group="embedding"),
)
# fmt: on
# The matmuls of layers with experts, which dense models do not have: each expert's, and the router's. What every token
# uses besides (a shared expert) runs as ff1, ff3 and ff2 do. The router's weights are BF16 unless asked otherwise and
# its settings inherit from none, as tt-metal's Mixtral and gpt-oss have it (t3000/mixtral8x7b/tt/mixtral_moe.py,
# gpt_oss/tt/topk.py@00b0fa3f): a choice of experts is all or nothing.
# fmt: off
EXPERT_OPS: tuple[ModelOp, ...] = (
    ModelOp(
        "experts_ff1", "matmul", matrix="experts.w1", title="experts' FF1", half="mlp", inputs_over="hidden",
        tensor_group="experts", tensor_parent="mlp_weights", op_group="experts", op_parent="mlp",
        activations="mlp_activations", interleaved=True,
    ),
    ModelOp(
        "experts_ff3", "matmul", matrix="experts.w3", title="experts' FF3", half="mlp", inputs_over="hidden",
        tensor_group="experts", tensor_parent="mlp_weights", op_group="experts", op_parent="mlp",
        activations="mlp_activations", interleaved=True,
    ),
    ModelOp(
        "experts_ff2", "matmul", matrix="experts.w2", title="experts' FF2", half="mlp", inputs_over="heads",
        tensor_group="experts", tensor_parent="mlp_weights", op_group="experts", op_parent="mlp",
        activations="mlp_activations", interleaved=True,
    ),
    ModelOp(
        "router", "matmul", matrix="router", title="router", half="mlp", inputs_over="hidden",
        tensor_group="router", op_group="router",
    ),
)
# fmt: on
# The tensor groups and op groups that only layers with experts have.
EXPERT_GROUPS = ("experts", "router")
# Tensor groups of no op's weights or output: what travels between chips.
OTHER_TENSOR_GROUPS = ("ccl",)

_EVERY_OP = (*OP_TABLE, *EXPERT_OPS)
OPS: Mapping[str, ModelOp] = {op.name: op for op in OP_TABLE}
# Weight matrix -> the matmul with it.
MATRICES: Mapping[str, ModelOp] = {op.matrix: op for op in OP_TABLE if op.matrix}
# The same of layers with experts; the gate of a shared expert runs as the router does.
EXPERT_MATRICES: Mapping[str, ModelOp] = {op.matrix: op for op in EXPERT_OPS}
ROUTER = EXPERT_MATRICES["router"]
SDPA, LM_HEAD, NORM = OPS["sdpa"], OPS["lm_head"], OPS["rms_norm"]
SILU_MUL, RESIDUAL_ADD, EMBEDDING = OPS["silu_mul"], OPS["add"], OPS["embedding"]


def _readers() -> dict[str, tuple[ModelOp, ...]]:
    found: dict[str, tuple[ModelOp, ...]] = {}
    for op in OP_TABLE:
        if op.tensor_group:
            found[op.tensor_group] = (*found.get(op.tensor_group, ()), op)
    return found


def _op_group_parents() -> dict[str, str]:
    found: dict[str, str] = {}
    for op in _EVERY_OP:
        if op.op_parent:
            found[op.op_group] = op.op_parent
        if op.by_phase:
            found |= {op.group_in(phase): op.op_group for phase in PHASES}
    return found


def _tensor_group_parents() -> dict[str, str]:
    finer = {op.activations: "activations" for op in OP_TABLE}
    return finer | {op.tensor_group: op.tensor_parent for op in _EVERY_OP if op.tensor_parent}


# Tensor group of weights, or the KV cache -> the ops that read it.
READERS: Mapping[str, tuple[ModelOp, ...]] = _readers()
# Tensor group of weights -> the op group that multiplies by them.
WEIGHT_OP_GROUPS: Mapping[str, str] = {op.tensor_group: op.op_group for op in MATRICES.values()}
# Finer op group -> the group it inherits from; the roots inherit from none.
OP_GROUP_PARENTS: Mapping[str, str] = _op_group_parents()
ROOT_OP_GROUPS: tuple[str, ...] = tuple(dict.fromkeys(op.op_parent or op.op_group for op in _EVERY_OP if op.op_group))
OP_GROUPS: tuple[str, ...] = (*ROOT_OP_GROUPS, *OP_GROUP_PARENTS)
# Finer tensor group -> the group it inherits from.
TENSOR_GROUP_PARENTS: Mapping[str, str] = _tensor_group_parents()
# Groups of the whole model, which no layer has of its own.
GLOBAL_TENSOR_GROUPS = tuple(op.tensor_group for op in OP_TABLE if not op.in_layer and op.tensor_group)
GLOBAL_OP_GROUPS = tuple(op.op_group for op in OP_TABLE if not op.in_layer and op.op_group)


def finest_op_groups(group: str) -> tuple[str, ...]:
    """The op groups below `group` that have none below them; the group itself where it is one."""
    return _finest(group, OP_GROUP_PARENTS)


def finest_tensor_groups(group: str) -> tuple[str, ...]:
    """The tensor groups below `group` that have none below them; the group itself where it is one."""
    return _finest(group, TENSOR_GROUP_PARENTS)


def _finest(group: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    finer = [name for name, parent in parents.items() if parent == group]
    return tuple(finest for name in finer for finest in _finest(name, parents)) or (group,)
