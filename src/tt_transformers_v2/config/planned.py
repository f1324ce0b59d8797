# SPDX-License-Identifier: Apache-2.0
"""The plans of an experiment's ops, and what is wrong with programs that were typed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..common.errors import ConfigError
from ..common.units import TILE
from ..hardware.op_table import DECODE, MATRICES, PHASES, PREFILL, SDPA, ModelOp
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..perf.ops import padded_prompt
from ..planning.op_plans import Fitted, OpPlans, parts_of, unused_programs
from ..planning.plans import Plan
from ..planning.typed_programs import typed_keys
from .findings import Finding, Severity, declare, found
from .model_rules import knobs

if TYPE_CHECKING:
    from .resolve import Experiment

BLOCK, UNUSED = "program-block", "program-unused"
declare(BLOCK, Severity.error, "a typed program whose blocks do not divide the inner width of its matmul")
declare(UNUSED, Severity.error, "a typed field that no program of this configuration has")


def lm_head_columns(config: DeviceConfig, spec: ModelSpec) -> int:
    """The most columns of the LM head in one matmul, as tt_transformers cuts it (conf/rules/knobs.yaml)."""
    known = knobs(config, spec)
    if "lm_head_max_columns_per_device" in known:
        return known["lm_head_max_columns_per_device"]
    return known["lm_head_max_columns_per_core"] * TILE


def row_limit(config: DeviceConfig, spec: ModelSpec) -> int:
    """The most rows that a prefill matmul takes at once (tt_transformers' prefill_len_cutoff)."""
    return knobs(config, spec).get("prefill_len_cutoff", 1024)


def op_plans(experiment: Experiment, fitted: Fitted | None = None, *, tensor_parallel: bool = True) -> OpPlans:
    """The plans of the experiment's ops. Without `tensor_parallel` nothing is known of the chips' parts.

    Raises ConfigError where the mesh forbids the split.
    """
    config, hardware, spec = experiment.config, experiment.hardware, experiment.spec
    return OpPlans(
        hardware,
        programs=config.runtime.programs,
        readers_per_bank=config.runtime.dram_readers_per_bank or 1,
        row_limit=row_limit(hardware, spec),
        users=math.ceil(config.workload.batch / hardware.parallelism.data_parallel_size),
        parts=parts_of(hardware, spec, lm_head_columns(hardware, spec)) if tensor_parallel else {},
        fitted=fitted or {},
    )


def program_findings(experiment: Experiment) -> list[Finding]:
    """What is wrong with runtime.programs: blocks that divide nothing, and fields that no op would see."""
    programs = experiment.config.runtime.programs
    if not programs:
        return []
    try:
        plans = op_plans(experiment)
    except ConfigError:  # the mesh has findings of its own
        return []
    findings: dict[str, Finding] = {}
    reached: list[tuple[ModelOp, str, Plan]] = []
    for own in (plans, *(plans.on(hardware) for hardware, _ in experiment.hardware.own_layers())):
        for op, phase, rows in _matmuls(experiment, plans.users):
            refused, plan = _asked(own, op, phase, rows)
            if plan is not None:
                reached.append((op, phase, plan))
            else:
                advice = f"Set {_smaller(own, op, phase, rows)}."
                findings.setdefault(refused, found(BLOCK, refused, f"This is {op.name} in {phase}.", advice))
        reached += [(SDPA, phase, own.attention(phase, plans.users)[0]) for phase in PHASES]
    unused = [] if findings else unused_programs(programs, reached)
    if unused:
        findings[UNUSED] = found(
            UNUSED,
            f"no program of this configuration has {', '.join(f'runtime.programs.{name}' for name in unused)}.",
            "A program's fields depend on the phase, and in decode on where the weights lie.",
            f"Leave {'it' if len(unused) == 1 else 'them'} out.",
        )
    return list(findings.values())


def _asked(plans: OpPlans, op: ModelOp, phase: str, rows: int) -> tuple[str, Plan | None]:
    """The plan of an op, or why there is none."""
    try:
        return "", plans.matmul(op, phase, rows, *plans.parts[op.matrix]).plan
    except ConfigError as error:
        return error.message, None


def _smaller(plans: OpPlans, op: ModelOp, phase: str, rows: int) -> str:
    """The typed program of an op with the largest smaller block that its plan takes, or else with fewer cores."""
    for name in ("in0_block_w", "cores"):
        for key in reversed(typed_keys(plans.programs, op.op_group, phase)):
            for value in range(plans.programs[key].get(name, 1) - 1, 0, -1):
                changed = {**plans.programs, key: {**plans.programs[key], name: value}}
                if _asked(dataclasses.replace(plans, programs=changed), op, phase, rows)[1] is not None:
                    return f"runtime.programs.{key}.{name}={value}"
    return " and ".join(f"runtime.programs.{key}={{}}" for key in typed_keys(plans.programs, op.op_group, phase))


def _matmuls(experiment: Experiment, users: int) -> Iterator[tuple[ModelOp, str, int]]:
    """Op, phase and rows of every matmul."""
    tokens = min(padded_prompt(experiment.config.workload.prompt_length), experiment.hardware.max_prefill_chunk_size)
    for op in MATRICES.values():
        yield op, PREFILL, TILE if op.one_tile else tokens
        yield op, DECODE, users
