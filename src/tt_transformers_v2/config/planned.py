# SPDX-License-Identifier: Apache-2.0
"""The plans of an experiment's ops, and what is wrong with programs that were typed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from ..common.units import TILE
from ..hardware.op_table import DECODE, MATRICES, PHASES, PREFILL, SDPA, ModelOp
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..perf.ops import padded_prompt
from ..planning.dst import DST_TILES
from ..planning.op_plans import Fitted, OpPlans, parts_of, unused_programs
from ..planning.plans import Plan, SdpaPlan
from ..planning.typed_programs import READERS_PER_BANK, divisors, typed_keys
from .findings import Finding, Severity, declare, found
from .model_rules import knobs

if TYPE_CHECKING:
    from .resolve import Experiment

BLOCK, UNUSED, EXPONENTIAL = "program-block", "program-unused", "exp-approx-decode"
Asked = tuple[ModelOp, str, int]  # an op, its phase and its rows
# The fields of which another value is looked for.
TRIED = ("in0_block_w", "cores", "columns", "rows", "readers_per_bank", "out_subblock_h", "out_subblock_w")
EXP = "exp_approx_mode"
TRIED_OF_ATTENTION = ("q_chunk_size", "k_chunk_size", "columns", "rows")
declare(BLOCK, Severity.error, "a typed program whose blocks, subblocks, chunks or cores its op cannot take")
declare(UNUSED, Severity.error, "a typed field that no program of this configuration has")
declare(EXPONENTIAL, Severity.warning, "a typed exp_approx_mode=false that decode attention does not heed")


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
    """What is wrong with runtime.programs: what no op can take, fields that no op would see or that change nothing."""
    programs = experiment.config.runtime.programs
    if not programs:
        return []
    try:
        plans = op_plans(experiment)
    except ConfigError:  # the mesh has findings of its own
        return []
    owns = [plans, *(plans.on(hardware) for hardware, _ in experiment.hardware.own_layers())]
    asked = [each for each in _matmuls(experiment, plans.users) if each[0].matrix in plans.parts]
    tokens = _prompt_rows(experiment)
    windows = {kind.attention.window for kind in experiment.spec.layer_counts}
    findings: dict[str, Finding] = {}
    reached: list[tuple[ModelOp, str, Plan]] = []
    for own in owns:
        for op, phase, rows in asked:
            refused, plan = _asked(own, op, phase, rows)
            if plan is not None:
                reached.append((op, phase, plan))
            elif refused not in findings:
                alike = [each for each in asked if each[0].op_group == op.op_group]
                findings[refused] = found(BLOCK, refused, f"This is {op.name} in {phase}.", _advice(owns, alike, phase))
        for phase, window in product(PHASES, windows):
            refused, attends = _attended(own, phase, plans.users if phase == DECODE else tokens, window)
            if attends is not None:
                reached.append((SDPA, phase, attends))
            elif refused not in findings:
                fix = _attention_advice(owns, phase, tokens, windows)
                findings[refused] = found(BLOCK, refused, f"This is attention in {phase}.", fix)
    unused = [] if findings else unused_programs(programs, reached)
    if unused:
        typed = " and ".join(f"runtime.programs.{name}" for name in unused)
        findings[UNUSED] = found(
            UNUSED,
            f"no program of this configuration has {typed}.",
            "A program's fields depend on the phase, and in decode on where the weights lie.",
            f"Type fields that it has, without {typed}.",
        )
    return [*findings.values(), *_unheeded(programs)]


def _unheeded(programs: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """A switch of decode attention that ttnn takes and that changes nothing."""
    keys = [key for key in typed_keys(programs, SDPA.op_group, DECODE) if EXP in programs[key]]
    if not keys or programs[keys[-1]][EXP]:
        return
    typed = " and ".join(f"runtime.programs.{key}.{EXP}" for key in keys)
    prefill = f"{SDPA.op_group}_{PREFILL}"
    moves = SDPA.op_group in keys and EXP not in programs.get(prefill, {})
    yield found(
        EXPONENTIAL,
        f"runtime.programs.{keys[-1]}.{EXP}=false changes nothing in decode.",
        "On Tenstorrent's simulator decode attention takes the approximate exponential whatever it says.",
        f"{f'Type runtime.programs.{prefill}.{EXP}=false' if moves else 'Run what is planned'}, without {typed}.",
    )


def _asked(plans: OpPlans, op: ModelOp, phase: str, rows: int) -> tuple[str, Plan | None]:
    """The plan of an op, or why there is none."""
    try:
        return "", plans.matmul(op, phase, rows, *plans.parts[op.matrix]).plan
    except ConfigError as error:
        return error.message, None


def _attended(plans: OpPlans, phase: str, rows: int, window: int | None) -> tuple[str, SdpaPlan | None]:
    """The plan of attention, or why there is none."""
    try:
        return "", plans.attention(phase, rows, window=window)[0]
    except ConfigError as error:
        return error.message, None


def _attention_advice(owns: list[OpPlans], phase: str, tokens: int, windows: set[int | None]) -> str:
    """Another value of the one field that is wrong, or none of what was typed."""
    programs, grid, users = owns[0].programs, owns[0].grid, owns[0].users
    keys = typed_keys(programs, SDPA.op_group, phase)
    for name in TRIED_OF_ATTENTION:
        for key in reversed(keys):
            if not (typed := programs[key].get(name)):
                continue
            if name in ("columns", "rows"):
                values = list(range(grid[name == "rows"], 0, -1))
            else:
                whole = max(TILE, typed // TILE * TILE)
                values = [whole, 1 << whole.bit_length() - 1]  # decode wants a power of two
            for value in values:
                changed = {**programs, key: {**programs[key], name: value}}
                tried = [dataclasses.replace(own, programs=changed) for own in owns]
                asked = [
                    (each, users if each == DECODE else tokens, window) for each, window in product(PHASES, windows)
                ]
                if all(_attended(own, *each)[1] is not None for own in tried for each in asked):
                    return f"Set runtime.programs.{key}.{name}={value}."
    return _without(programs, keys)


def _advice(owns: list[OpPlans], alike: list[Asked], phase: str) -> str:
    """The largest smaller block that all matmuls of an op group take, or else fewer cores, or none of what was typed.

    `owns` are the plans of every kind of layers, `alike` the matmuls of the group.
    """
    programs, group = owns[0].programs, alike[0][0].op_group
    keys = typed_keys(programs, group, phase)
    for name in TRIED:
        for key in reversed(keys):
            for value in _worth_trying(name, programs[key], owns[0], alike):
                changed = {**programs, key: {**programs[key], name: value}}
                tried = [dataclasses.replace(own, programs=changed) for own in owns]
                if all(_asked(own, *each)[1] is not None for own in tried for each in alike):
                    return f"Set runtime.programs.{key}.{name}={value}."
    return _without(programs, keys)


def _without(programs: Mapping[str, Any], keys: list[str]) -> str:
    fields = " and ".join(f"runtime.programs.{key}.{name}" for key in keys for name in programs[key])
    return f"Run what is planned, without {fields}."


def _worth_trying(name: str, typed: Mapping[str, Any], plans: OpPlans, alike: list[Asked]) -> list[int]:
    """Values of a typed field that an op might take, the largest first and few however large the typed one: a block or
    a number of cores divides the tiles of an inner width."""
    if name not in typed:
        return []
    limits = {"columns": plans.grid[0], "rows": plans.grid[1], "readers_per_bank": max(READERS_PER_BANK)}
    if name in limits:
        return list(range(limits[name], 0, -1))
    if name in ("out_subblock_h", "out_subblock_w"):
        return list(range(min(typed[name] - 1, DST_TILES), 0, -1))
    inner = {plans.parts[op.matrix][0] // TILE for op, _, _ in alike}
    return sorted({d for tiles in inner for d in divisors(tiles) if d < typed[name]}, reverse=True)


def _matmuls(experiment: Experiment, users: int) -> Iterator[Asked]:
    """Op, phase and rows of every matmul."""
    tokens = _prompt_rows(experiment)
    for op in MATRICES.values():
        yield op, PREFILL, TILE if op.one_tile else tokens
        yield op, DECODE, users


def _prompt_rows(experiment: Experiment) -> int:
    """Rows of a prompt, or of a chunk of it."""
    return min(padded_prompt(experiment.config.workload.prompt_length), experiment.hardware.max_prefill_chunk_size)
