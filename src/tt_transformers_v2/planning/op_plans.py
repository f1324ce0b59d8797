# SPDX-License-Identifier: Apache-2.0
"""The plan of every matmul and of attention, decided once for all who ask: the emulated backend, the ttnn backend,
preflight and the checks.

A plan follows from the layer's own hardware configuration, where its weights lie, the chip's part of the matrix, the
phase and its rows, what the user typed into runtime.programs, and what a preflight found to fit L1. ttnn never chooses
alone: every matmul of the ttnn backend has the program config of a plan from here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.units import TILE
from ..hardware.enums import Placement
from ..hardware.op_table import DECODE, LM_HEAD, SDPA, ModelOp
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from . import plans
from .dst import dst_tiles
from .plans import DramShardedPlan, MatmulPlan, Plan, SdpaPlan
from .split import Split, lm_head_parts
from .typed_programs import Programs, check_attention, check_blocks, check_layout, fixes_sizes, typed_fields

AS_PLANNED, FITTED, TYPED, TYPED_AND_FITTED = "as planned", "fitted", "typed", "typed and fitted"

# The first layer of those with one configuration (None: an op of the whole model), op group, phase, first plan -> the
# smaller one that fits L1.
Fitted = Mapping[tuple[int | None, str, str, Plan], Plan]


@dataclass(frozen=True)
class Planned:
    """A matmul of one chip and its plan.

    inputs, outputs: of the chip's part of the matrix, in elements, whole tiles. rows: of activations, all of them;
    rows_at_once of them in one matmul. origin: "as planned", "fitted" (a preflight found that the first plan does not
    fit L1), "typed" (runtime.programs has fields of it) or "typed and fitted" (it has switches only, and the sizes were
    fitted).
    """

    inputs: int
    outputs: int
    rows: int
    rows_at_once: int
    plan: MatmulPlan
    origin: str

    def replaced_by(self, fits: Any) -> Planned:
        """The same with the plan that fits L1, where that is another one (None: it is not known)."""
        if fits is None or fits == self.plan:
            return self
        return dataclasses.replace(self, plan=fits, origin=FITTED)

    @property
    def cores(self) -> int:
        """Cores that compute: of a decode matmul with sharded weights those that hold the activations."""
        return self.plan.cores if isinstance(self.plan, DramShardedPlan) else self.plan.columns * self.plan.rows

    @property
    def grid(self) -> list[int] | None:
        """Columns x rows of the cores where the program names a rectangle."""
        return None if isinstance(self.plan, DramShardedPlan) else [self.plan.columns, self.plan.rows]


@dataclass(frozen=True)
class OpPlans:
    """The plans of one configuration, or of one of its layers.

    Args:
        hardware: the configuration; `at_layer` gives a layer's own.
        programs: runtime.programs. readers_per_bank: 1 or 2 cores that read from each DRAM bank in a decode matmul.
        row_limit: the most rows that a prefill matmul takes at once (tt_transformers' prefill_len_cutoff).
        users: of a decode step. parts: matrix -> (inputs, outputs) that one matmul of a chip sees, where the model is
            known (`parts_of`).
        fitted: what preflights found to fit.
        layer: the first layer of those that have this configuration, None for the whole model's.
    """

    hardware: DeviceConfig
    programs: Programs = field(default_factory=dict)
    readers_per_bank: int = 1
    row_limit: int = 1024
    users: int = 1
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    fitted: Fitted = field(default_factory=dict)
    layer: int | None = None

    def on(self, hardware: DeviceConfig) -> OpPlans:
        """The same for another configuration."""
        return dataclasses.replace(self, hardware=hardware, layer=None)

    def at_layer(self, layer: int) -> OpPlans:
        """The plans of a layer, in its own configuration."""
        own = self.hardware.for_layer(layer)
        return dataclasses.replace(self, hardware=own, layer=first_layer(self.hardware, layer))

    @property
    def grid(self) -> tuple[int, int]:
        """Columns x rows of the cores that a program may use."""
        columns, rows = self.hardware.spec.grid
        return columns, rows

    @property
    def weights_sharded(self) -> bool:
        """Whether matrices are spread over the DRAM banks by their columns; otherwise they are interleaved."""
        memory = self.hardware.memory
        return memory.use_width_sharding and memory.weights_placement is Placement.DRAM

    def matmul(self, op: ModelOp, phase: str, rows: int, inputs: int, outputs: int) -> Planned:
        """The plan of [rows, inputs] x [inputs, outputs]: a chip's part of the matrix (planning.split), in elements.

        `rows` are a prompt's tokens in prefill, users in decode. An op that sees one tile of rows in either phase (the
        LM head) is planned as in decode. Raises ConfigError for typed blocks that do not divide the inner width
        and for what else ttnn refuses of a typed program.
        """
        inputs, outputs = _whole_tiles(inputs), _whole_tiles(outputs)
        at_once = rows
        if phase == DECODE or op.one_tile:
            first = self._decode(op, phase, rows, inputs, outputs)
        else:
            at_once = plans.rows_at_once(rows, self.row_limit)
            wide = self.hardware.kernel(op, phase).fp32_dest_acc_en
            planned = plans.prefill_matmul(inputs, outputs, rows=at_once, grid=self.grid, fp32_dest_acc_en=wide)
            first = dataclasses.replace(planned, fuse_batch=at_once == rows)
        plan, origin = self._chosen(op, phase, first)
        check_blocks(op.op_group, plan, inputs)
        if origin == TYPED:
            kernel = self.hardware.kernel(op, phase)
            # ttnn 0.81.1 keeps to half-sync mode's number of tiles whatever dst_full_sync_en says.
            dst = dst_tiles(kernel.fp32_dest_acc_en)
            check_layout(op.op_group, plan, self.grid, outputs=outputs, rows=at_once, dst=dst)
        return Planned(inputs, outputs, rows, at_once, plan, origin)

    def attention(
        self, phase: str, rows: int, *, window: int | None = None, cached: int | None = None
    ) -> tuple[SdpaPlan, str]:
        """The plan of attention over `rows` tokens of a prompt, or of a decode step, and its origin as in Planned.

        window: tokens of a sliding window. cached: tokens of a user that the KV cache has room for, where it is
        otherwise than attention_chunks.cache_tokens has it. Raises ConfigError for a typed program that ttnn refuses.
        """
        if phase == DECODE:
            first = plans.decode_attention(self.grid, window, cached)
        else:
            first = plans.prefill_attention(rows, self.grid)
        plan, origin = self._chosen(SDPA, phase, first)
        if origin != AS_PLANNED:
            check_attention(phase, plan, self.grid, rows)
        return plan, origin

    def fixed(self, op: ModelOp, phase: str, plan: Plan) -> bool:
        """Whether the user typed sizes of this plan, so that no smaller one may be tried."""
        return fixes_sizes(typed_fields(self.programs, op.op_group, phase, plan))

    def _decode(self, op: ModelOp, phase: str, rows: int, inputs: int, outputs: int) -> MatmulPlan:
        if self.weights_sharded and not op.interleaved:
            return plans.decode_matmul(
                inputs,
                outputs,
                rows=rows,
                grid=self.grid,
                readers_per_bank=self.readers_per_bank,
                cores=self._typed_cores(op, phase),
            )
        wide = self.hardware.kernel(op, phase).fp32_dest_acc_en
        return plans.interleaved_matmul(inputs, outputs, rows=rows, grid=self.grid, fp32_dest_acc_en=wide)

    def _typed_cores(self, op: ModelOp, phase: str) -> int | None:
        """Cores that the user typed: the width of each one's output follows from them."""
        return typed_fields(self.programs, op.op_group, phase, _ANY_SHARDED).get("cores")

    def _chosen(self, op: ModelOp, phase: str, first: Any) -> tuple[Any, str]:
        """The plan with the fields the user chose, of those it has in this phase, or what a preflight found to fit."""
        fields = typed_fields(self.programs, op.op_group, phase, first)
        first = dataclasses.replace(first, **fields)
        found = self.fitted.get((self.layer if op.in_layer else None, op.op_group, phase, first))
        if fixes_sizes(fields) or found is None:
            return first, TYPED if fields else AS_PLANNED
        return found, TYPED_AND_FITTED if fields else FITTED


_ANY_SHARDED = DramShardedPlan(cores=1, in0_block_w=1, per_core_m=1, per_core_n=1)


def parts_of(hardware: DeviceConfig, spec: ModelSpec, lm_head_columns: int) -> dict[str, tuple[int, int]]:
    """Matrix -> (inputs, outputs), in elements, that a matmul of one chip sees; the LM head's first `lm_head_columns`
    or fewer. Raises ConfigError where the mesh forbids the split."""
    parts = Split.over(hardware).matrices(spec)
    inputs, outputs = parts[LM_HEAD.matrix]
    return parts | {LM_HEAD.matrix: (inputs, lm_head_parts(outputs, lm_head_columns)[0])}


def first_layer(hardware: DeviceConfig, layer: int) -> int:
    """The first of the layers that have the same configuration as `layer`."""
    own = hardware.layers.get(layer)
    if own is None:
        return next(i for i in range(layer + 1) if i not in hardware.layers)
    return min(i for i, other in hardware.layers.items() if other is own)


def ordered_kinds(hardware: DeviceConfig, num_layers: int) -> list[tuple[DeviceConfig, list[int]]]:
    """The different configurations of the layers in the order of their first layers, and which layers have each."""
    kinds = [(own, sorted(layers)) for own, layers in hardware.layer_kinds(num_layers)]
    return sorted(kinds, key=lambda kind: kind[1][0])


def unused_programs(programs: Programs, reached: Iterable[tuple[ModelOp, str, Plan]]) -> list[str]:
    """The typed fields, as GROUP.FIELD, that none of the plans `reached` (op, phase, plan) has."""
    unused = {(group, name) for group, fields in programs.items() for name in fields}
    for op, phase, plan in reached:
        for group in (op.op_group, f"{op.op_group}_{phase}"):
            unused -= {(group, name) for name in programs.get(group, {}) if hasattr(plan, name)}
    return sorted(f"{group}.{name}" for group, name in unused)


def _whole_tiles(elements: int) -> int:
    return math.ceil(elements / TILE) * TILE
