# SPDX-License-Identifier: Apache-2.0
"""What was seen to run, and to run out of DRAM, on cards: the rows that the reserve of the memory map was fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.csv_rows import count, count_or_none, read_rows, text
from ..common.errors import did_you_mean

RAN, OUT_OF_MEMORY = "ran", "out_of_memory"
COLUMNS = (
    *("model", "device", "tp", "dp", "mode", "batch", "context", "chunk", "trace_region"),
    *("outcome", "date", "source", "flag"),
)


@dataclass(frozen=True)
class MemoryRow:
    """One report. `batch` counts users per data-parallel group and `context` the tokens of cache each has.

    chunk: the longest prefill chunk in tokens; trace_region: bytes per chip over all banks, as the release took it
    (None where not stated). mode: as in the rows of speed. flag: why a row does not count, "" where it does.
    """

    model: str
    device: str
    tensor_parallel: int
    data_parallel: int
    mode: str
    batch: int
    context: int
    chunk: int | None
    trace_region: int | None
    outcome: str
    date: str
    source: str
    flag: str
    line: int

    @property
    def ran(self) -> bool:
        """Whether it ran; otherwise DRAM was too small."""
        return self.outcome == RAN


def read_memory_rows(path: Path) -> list[MemoryRow]:
    """The rows of a CSV file with the COLUMNS. Raises ConfigError with file and line for what is wrong."""
    return read_rows(path, COLUMNS, _row)


def _row(row: Mapping[str, str], line: int) -> MemoryRow:
    outcome = text(row, "outcome")
    if outcome not in (RAN, OUT_OF_MEMORY):
        raise ValueError(
            f"outcome must be {RAN} or {OUT_OF_MEMORY}, not {outcome!r}. {did_you_mean(outcome, (RAN, OUT_OF_MEMORY))}"
        )
    return MemoryRow(
        model=text(row, "model"),
        device=text(row, "device"),
        tensor_parallel=count(row, "tp"),
        data_parallel=count(row, "dp"),
        mode=text(row, "mode"),
        batch=count(row, "batch"),
        context=count(row, "context"),
        chunk=count_or_none(row, "chunk"),
        trace_region=count_or_none(row, "trace_region", least=0),
        outcome=outcome,
        date=text(row, "date"),
        source=text(row, "source"),
        flag=row["flag"],
        line=line,
    )
