# SPDX-License-Identifier: Apache-2.0
"""runtime.programs: fields of program configurations that the user typed, by op group, for both phases or for one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ..common.errors import ConfigError, did_you_mean
from ..common.units import TILE, tiles_text
from ..hardware.op_table import DECODE, MATRICES, PHASES, PREFILL, SDPA
from .plans import DramShardedPlan, MatmulPlan, Multicast1DPlan, MulticastPlan, Plan, SdpaPlan, rectangle

Programs = Mapping[str, Mapping[str, Any]]

# Op groups whose matmuls have a plan of their own in each phase, and those that see one tile of rows in both.
_MATMULS = dict.fromkeys(op.op_group for op in MATRICES.values() if not op.one_tile)
_OF_ONE_TILE = dict.fromkeys(op.op_group for op in MATRICES.values() if op.one_tile)
# A decode matmul's plan depends on where the weights lie (op_plans).
_DECODE_PLANS: tuple[type[Plan], ...] = (DramShardedPlan, Multicast1DPlan)
# What may be typed -> the plans it may reach.
PROGRAMS: dict[str, tuple[type[Plan], ...]] = {
    **dict.fromkeys(_MATMULS, (*_DECODE_PLANS, MulticastPlan)),
    **dict.fromkeys(_OF_ONE_TILE, _DECODE_PLANS),
    SDPA.op_group: (SdpaPlan,),
    **{f"{group}_{DECODE}": _DECODE_PLANS for group in _MATMULS},
    **{f"{group}_{PREFILL}": (MulticastPlan,) for group in _MATMULS},
    **{f"{SDPA.op_group}_{phase}": (SdpaPlan,) for phase in PHASES},
}
_MAY_BE_ZERO = ("q_chunk_size", "k_chunk_size")  # which lets ttnn choose
READERS_PER_BANK = (1, 2, 3)  # num_workers_per_dram_bank of ttnn 0.81.1 "must be in [1, 3]"
_SWITCHES = ("exp_approx_mode",)


def check_programs(programs: Mapping[str, Any]) -> None:
    """Raises ConfigError unless `programs` sets known fields of known op groups to whole numbers or flags."""
    for group, fields in programs.items():
        where = f"runtime.programs.{group}"
        if group not in PROGRAMS:
            raise ConfigError(f"no op group named {group!r} has a program.", did_you_mean(group, PROGRAMS))
        if not isinstance(fields, Mapping):
            raise ConfigError(f"{where} is a section, not a value.", f"Set its fields: {where}.FIELD=NUMBER.")
        for name, value in fields.items():
            if name not in (known := _fields(group)):
                raise ConfigError(f"the program of {group} has no {name!r}.", did_you_mean(str(name), known))
            if name in _SWITCHES:
                if not isinstance(value, bool):
                    raise ConfigError(f"{where}.{name} must be true or false, not {value!r}.")
                continue
            least = 0 if name in _MAY_BE_ZERO else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{where}.{name} must be a whole number of at least {least}, not {value!r}.")


def typed_fields(programs: Programs, group: str, phase: str, plan: Plan) -> dict[str, Any]:
    """Those fields that the user typed and this plan has; what is typed for the phase wins over both phases'."""
    typed: dict[str, Any] = {}
    for key in typed_keys(programs, group, phase):
        typed |= programs[key]
    return {name: value for name, value in typed.items() if hasattr(plan, name)}


def fixes_sizes(fields: Mapping[str, Any]) -> bool:
    """Whether typed fields say how an op is laid out, so that no other layout may be tried: switches do not."""
    return any(name not in _SWITCHES for name in fields)


def typed_keys(programs: Mapping[str, Any], group: str, phase: str) -> list[str]:
    """The keys that reach an op group in a phase, the finer one last."""
    return [key for key in (group, f"{group}_{phase}") if key in programs]


def check_blocks(group: str, plan: MatmulPlan, inputs: int) -> None:
    """Raises ConfigError unless cores and block of a matmul divide its inner width, `inputs` elements.

    Of a decode matmul ttnn does not check it; its kernel sends shard width / in0_block_w whole blocks from each core
    (tt-metal reader_bmm_tile_layout_in0_sender_dram_sharded.cpp) and would miss the rest.
    """
    tiles, block = inputs // TILE, plan.in0_block_w
    if not isinstance(plan, DramShardedPlan):
        if tiles % block:
            raise ConfigError(
                f"in0_block_w={block} of {group} does not divide the {tiles} tiles of its inner width.",
                f"Use {_or(divisors(tiles))}.",
            )
        return
    if tiles % plan.cores:
        raise ConfigError(
            f"{plan.cores} cores cannot share the {tiles} tiles of {group}'s inner width evenly.",
            f"Use {_or(divisors(tiles))} cores.",
        )
    held = tiles // plan.cores
    if held % block:
        raise ConfigError(
            f"in0_block_w={block} of {group}: each of {plan.cores} cores holds {tiles_text(held)} "
            f"of the inner width, not a whole number of such blocks (ttnn does not "
            "check this).",
            f"Use {_or(divisors(held))}.",
        )


def check_layout(group: str, plan: MatmulPlan, grid: tuple[int, int], *, outputs: int, rows: int, dst: int) -> None:
    """Raises ConfigError for a typed program that ttnn 0.81.1 refuses whatever lies in L1.

    Cores beyond the device's `grid` (columns x rows), a subblock that does not divide the output's block or has more
    than the `dst` tiles that Dst holds, too few cores for the output of `rows` x `outputs` elements, more rows of tiles
    than there are, or more than 3 readers of a DRAM bank. Of cores that form no rectangle the ttnn backend has none to
    give.
    """
    tall = math.ceil(rows / TILE)
    if isinstance(plan, DramShardedPlan):
        if plan.readers_per_bank not in READERS_PER_BANK:
            raise ConfigError(f"readers_per_bank={plan.readers_per_bank} of {group}: a DRAM bank has 1 to 3 readers.")
        if plan.per_core_m != tall:
            raise ConfigError(f"per_core_m={plan.per_core_m} of {group}: its rows are {tiles_text(tall)}.")
        if rectangle(plan.cores, grid) is None:
            raise ConfigError(
                f"{plan.cores} cores of {group} form no rectangle within the device's {grid[0]} x {grid[1]}."
            )
        if (needed := math.ceil(math.ceil(outputs / TILE) / plan.per_core_n)) > grid[0] * grid[1]:
            raise ConfigError(
                f"the output of {group} takes {needed} cores with per_core_n={plan.per_core_n}, "
                f"and the device has {grid[0] * grid[1]}."
            )
        return
    _check_grid(group, plan.columns, plan.rows, grid)
    for name, block, size in (
        ("out_subblock_h", "per_core_m", plan.per_core_m),
        ("out_subblock_w", "per_core_n", plan.per_core_n),
    ):
        if size % (part := getattr(plan, name)):
            raise ConfigError(f"{name}={part} of {group} does not divide {block}={size}.")
    if (held := plan.out_subblock_h * plan.out_subblock_w) > dst:
        raise ConfigError(f"a subblock of {group} has {held} tiles (out_subblock_h x out_subblock_w); Dst holds {dst}.")
    wide, high = math.ceil(math.ceil(outputs / TILE) / plan.per_core_n), math.ceil(tall / plan.per_core_m)
    if isinstance(plan, MulticastPlan):
        if plan.per_core_m > tall:
            raise ConfigError(f"per_core_m={plan.per_core_m} of {group} is more than its rows' {tiles_text(tall)}.")
        for name, axis, needed, there in (
            ("per_core_n", "columns", wide, plan.columns),
            ("per_core_m", "rows", high, plan.rows),
        ):
            if needed > there:
                raise ConfigError(
                    f"the output of {group} takes {needed} {axis} of cores with {name}={getattr(plan, name)}, "
                    f"and its program has {there}."
                )
    elif wide * high > plan.columns * plan.rows:
        raise ConfigError(
            f"the output of {group} takes {wide * high} cores with per_core_m={plan.per_core_m} and "
            f"per_core_n={plan.per_core_n}, and its program has {plan.columns * plan.rows}."
        )


def check_attention(phase: str, plan: SdpaPlan, grid: tuple[int, int], users: int) -> None:
    """Raises ConfigError for a typed attention program that ttnn 0.81.1 refuses whatever lies in L1.

    Cores beyond the device's `grid`, fewer than the `users` of a decode step, or chunks that are no whole tiles, in
    decode a power of two of them. 0 lets ttnn choose, which it does in decode only. Of q_chunk_size decode makes no
    use.
    """
    group, cores = f"{SDPA.op_group} in {phase}", plan.columns * plan.rows
    _check_grid(group, plan.columns, plan.rows, grid)
    if phase == DECODE and cores < users:
        raise ConfigError(
            f"the {plan.columns} x {plan.rows} cores of {group} are fewer than its {users} users, who need one each."
        )
    for name in ("k_chunk_size",) if phase == DECODE else _MAY_BE_ZERO:
        size = getattr(plan, name)
        if size % TILE:
            raise ConfigError(f"{name}={size} of {group}: chunks are whole tiles of {TILE} tokens.")
        if phase == DECODE and size & (size - 1):
            raise ConfigError(f"{name}={size} of {group}: chunks of keys are a power of two of tokens there.")
        if size == 0 and phase == PREFILL:
            raise ConfigError(
                f"{name}=0 of {group}: ttnn chooses chunks in decode only, which runtime.programs.sdpa_decode types."
            )


def _check_grid(group: str, columns: int, rows: int, grid: tuple[int, int]) -> None:
    if columns > grid[0] or rows > grid[1]:
        raise ConfigError(
            f"the {columns} x {rows} cores of {group} reach beyond the {grid[0]} x {grid[1]} of the device."
        )


def divisors(number: int) -> list[int]:
    """All divisors of a whole number, the smallest first."""
    return [d for d in range(1, number + 1) if number % d == 0]


def _or(numbers: list[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last


def _fields(group: str) -> list[str]:
    """What may be typed for a group: the numbers of its plans, and their switches."""
    names = [
        field.name
        for plan in PROGRAMS[group]
        for field in dataclasses.fields(plan)
        if field.type == "int" or field.name in _SWITCHES
    ]
    return list(dict.fromkeys(names))
