# SPDX-License-Identifier: Apache-2.0
"""What a user could type so that ttnn accepts an op it refused: candidates, the likeliest first, none of them tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...common.errors import ConfigError
from ...hardware.enums import Placement
from ...hardware.op_table import DECODE, OP_TABLE, PREFILL, SDPA
from ...hardware.schema import DeviceConfig
from ...planning.plans import DramShardedPlan
from ...planning.typed_programs import typed_keys
from .preflight_walk import Question
from .recording.asking import Row
from .recording.recorder import OpRefused, overflows_l1

MOST_HINTS = 2  # of a run that failed
CHUNKS = (512, 128)  # tokens; the last is the shortest prompt that is computed


@dataclass(frozen=True)
class Fix:
    """Overrides to type (dotted path -> value), or the typed programs to leave out; and why it may help."""

    why: str
    overrides: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What to type, or not to."""
        if self.left_out:
            return "leave out " + " and ".join(f"runtime.programs.{key}" for key in self.left_out)
        return " ".join(f"{path}={_spelled(value)}" for path, value in self.overrides.items())


@contextmanager
def advised(question: Question) -> Iterator[None]:
    """What ttnn refuses while a model runs, as a ConfigError with what may help; all else passes."""
    try:
        yield
    except OpRefused as refusal:
        row = {"op": refusal.op, "phase": refusal.phase, "said": refusal.said, "passes_with": None}
        program = None if refusal.plan is None else dataclasses.asdict(refusal.plan)
        fixes = candidates(row | {"program": program}, question)[:MOST_HINTS]
        if not fixes:
            raise
        hints = "; or ".join(f"{fix.text} ({fix.why})" for fix in fixes)
        phase = f" in {refusal.phase}" if refusal.phase else ""
        raise ConfigError(
            f"ttnn refused {refusal.op}{phase}: {refusal.said}",
            f"May help: {hints}. task=preflight tries it without a card.",
        ) from refusal


def candidates(row: Row, question: Question) -> list[Fix]:
    """What may help against the refusal of `row`; empty where ttnn's sentence says all there is to say."""
    found = [*_of_program(row, question), *_of_sentence(row, question)]
    if overflows_l1(row["said"]):
        found += _of_room(row, question)
    return found


def _of_program(row: Row, question: Question) -> Iterator[Fix]:
    """The typed program is the first suspect."""
    group, phase, program = row["op"], row["phase"], row["program"]
    if program is None:
        return
    keys = typed_keys(question.programs, group, phase)
    if not keys:
        if overflows_l1(row["said"]) and not question.autofit:
            yield Fix("auto-fit tries smaller programs", {"runtime.autofit": True})
        return
    if row["passes_with"] is not None:
        changed = {name: value for name, value in row["passes_with"].items() if value != program[name]}
        yield Fix(_why_smaller(row), {f"runtime.programs.{keys[-1]}.{name}": value for name, value in changed.items()})
    yield Fix("lets auto-fit choose the program", left_out=tuple(keys))


def _why_smaller(row: Row) -> str:
    if overflows_l1(row["said"]):
        return "smaller blocks need less L1"
    if "subblock" in row["said"] and "fit in hardware" in row["said"]:
        return "Dst holds 8 tiles, 4 with fp32_dest_acc_en"
    return "the nearest program that ttnn accepts"


def _of_sentence(row: Row, question: Question) -> Iterator[Fix]:
    """What ttnn's sentence names, whatever the op."""
    config, said = question.config, row["said"]
    if "must be DRAM" in said and config.memory.kv_cache_placement is Placement.L1 and row["op"] == SDPA.name:
        yield Fix("ttnn's decode attention reads the cache from DRAM only", {"memory.kv_cache_placement": "DRAM"})
    if question.readers_per_bank > 1 and row["program"] is not None and "readers_per_bank" in row["program"]:
        yield Fix("older programs use one reader per bank", {"runtime.dram_readers_per_bank": 1})
    if config.memory.use_height_sharding and row["op"] in ("add", "silu_mul") and not overflows_l1(said):
        yield Fix("the result does not have to be height-sharded", {"memory.use_height_sharding": False})


def _of_room(row: Row, question: Question) -> Iterator[Fix]:
    """What leaves more of a core's L1, the least costly first."""
    config, phase = question.config, row["phase"]
    group = kernel_group(row["op"], phase)
    if group is not None and config.compute_for(group).fp32_dest_acc_en:
        path = f"compute.{group}.fp32_dest_acc_en"
        yield Fix("16-bit Dst halves partial results, at some cost in accuracy", {path: False})
    if (row["program"] or {}).get("kind") == DramShardedPlan.__name__ and config.memory.use_width_sharding:
        yield Fix("interleaved weights need less L1 and are read more slowly", {"memory.use_width_sharding": False})
    yield from _of_placement(config, phase)
    if phase == PREFILL:
        for chunk in dict.fromkeys((question.tokens // 2, *CHUNKS)):
            if chunk < question.tokens:
                yield Fix("a smaller chunk has fewer rows", {"device.max_prefill_chunk_size": chunk})
    if phase == DECODE and question.users > 1:
        users = question.users // 2 * config.parallelism.data_parallel_size
        yield Fix("fewer users mean fewer rows and a smaller cache", {"workload.batch": users})


def _of_placement(config: DeviceConfig, phase: str) -> Iterator[Fix]:
    memory = config.memory
    if memory.weights_placement is Placement.L1:
        yield Fix("moves the weights out of L1", {"memory.weights_placement": "DRAM"})
    if memory.kv_cache_placement is Placement.L1:
        yield Fix("moves the cache out of L1", {"memory.kv_cache_placement": "DRAM"})
    if memory.use_height_sharding:
        yield Fix("spreads elementwise results evenly over all cores", {"memory.use_height_sharding": False})
    if phase == DECODE and memory.activations_placement is Placement.L1:
        yield Fix("moves activations between ops out of L1", {"memory.activations_placement": "DRAM"})


def kernel_group(op: str, phase: str) -> str | None:
    """The op group of the configuration whose compute settings an op runs with; None for ops without any."""
    known = {(row.op_group if row.kind == "matmul" else row.name): row for row in OP_TABLE if row.op_group}
    return known[op].group_in(phase) if op in known else None


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
