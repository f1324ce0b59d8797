# SPDX-License-Identifier: Apache-2.0
"""Measured rows: what someone published or measured on a card, read from a CSV file and checked."""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..common.csv_rows import count, count_or_none, read_rows, text
from ..common.errors import ConfigError
from ..hardware.enums import Named, Prefill, Sampling, Stack
from .row_flags import contradiction, counted, unknown

REQUIRED = ("model", "device", "tp", "dp", "batch", "seq", "mode", "ttft_ms", "tsu", "source")
OPTIONAL = ("ts", "target_tsu", "sampling", "prefill", "stack", "context", "release", "date", "flag")
_HOW: dict[str, type[Named]] = {"sampling": Sampling, "prefill": Prefill, "stack": Stack}
_DATE = re.compile(r"20\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$")
# What no system has reached or stayed below, by more than a factor of ten: outside, a figure is in another unit.
_PLAUSIBLE = {"tsu": (0.1, 2000.0), "ttft_ms": (0.5, 5e6)}


@dataclass(frozen=True)
class MeasuredRow:
    """One measurement. `batch` counts users per data-parallel group, `seq` tokens of the prompt.

    `mode` is a precision mode or `cfg:` with formats by tensor group; ttft_ms in ms, tokens_per_s_per_user as named
    (None where not given). `context` is the tokens in the cache while decoding: the prompt and half of the output, None
    for those of the prompt. sampling, prefill, stack: how it was run; None is what the calibration does. ttft_ms of a
    batched prefill is the pass over the users' prompts divided by their number. `release` and `date` (YYYY, YYYY-MM or
    YYYY-MM-DD) of the software, "" where unknown. `flag` has words of perf.row_flags; "" where there is nothing to say.
    `file` and `line`: where it stands.
    """

    model: str
    device: str
    tensor_parallel: int
    data_parallel: int
    batch: int
    seq: int
    mode: str
    ttft_ms: float | None
    tokens_per_s_per_user: float | None
    source: str
    flag: str = ""
    line: int = 0
    context: int | None = None
    sampling: Sampling | None = None
    prefill: Prefill | None = None
    stack: Stack | None = None
    release: str = ""
    date: str = ""
    file: str = field(default="", compare=False)

    def __str__(self) -> str:
        split = f"TP{self.tensor_parallel}" + (f" DP{self.data_parallel}" if self.data_parallel > 1 else "")
        users = "1 user" if self.batch == 1 else f"{self.batch} users"
        how = "".join(f", {word}" for word in (self.sampling, self.stack) if word is not None)
        return f"{self.model} on {self.device} {split}, {users}, {self.seq} tokens, {self.mode}{how}"

    def as_dict(self) -> dict[str, Any]:
        """Its columns, as results have them: without the path of the file that it was read from."""
        columns = asdict(self)
        del columns["file"]
        return columns

    def counts(self, phase: str) -> bool:
        """Whether nothing that its flag says keeps its figure of `phase` (decode or prefill) from being compared."""
        return counted(self.flag.split(), phase)


def read_points(path: str | Path) -> list[MeasuredRow]:
    """The rows of a CSV file with the columns REQUIRED (OPTIONAL may be left out).

    Raises ConfigError naming the file and what is wrong: missing or unknown columns, then every bad row at once.
    """
    found = [replace(row, file=str(path)) for row in read_rows(Path(path), REQUIRED, _row, OPTIONAL)]
    if not found:
        raise ConfigError(f"{path} has no rows.")
    return found


@functools.cache
def packaged_points(path: Path) -> tuple[MeasuredRow, ...]:
    """As `read_points`, read once."""
    return tuple(read_points(path))


def _row(row: Mapping[str, str], line: int) -> MeasuredRow:
    found = MeasuredRow(
        model=text(row, "model"),
        device=text(row, "device"),
        tensor_parallel=count(row, "tp"),
        data_parallel=count(row, "dp"),
        batch=count(row, "batch"),
        seq=count(row, "seq"),
        mode=text(row, "mode"),
        ttft_ms=_measure(row, "ttft_ms"),
        tokens_per_s_per_user=_measure(row, "tsu"),
        source=text(row, "source"),
        flag=row["flag"],
        line=line,
        context=count_or_none(row, "context"),
        sampling=_way(row, "sampling"),
        prefill=_way(row, "prefill"),
        stack=_way(row, "stack"),
        release=row["release"],
        date=_date(row["date"]),
    )
    if reason := unknown(found.flag.split()):
        raise ValueError(reason)
    if reason := contradiction(found.flag.split(), found.sampling, found.prefill, found.stack):
        raise ValueError(reason)
    if found.context is not None and found.context < found.seq:
        raise ValueError(f"context={found.context} is less than the prompt, seq={found.seq}: it is isl + osl / 2.")
    if found.ttft_ms is None and found.tokens_per_s_per_user is None:
        raise ValueError("it has neither ttft_ms nor tsu.")
    return found


def _measure(row: Mapping[str, str], name: str) -> float | None:
    if not row[name]:
        return None
    try:
        value = float(row[name])
    except ValueError:
        value = -1.0
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number or empty, not {row[name]!r}.")
    least, most = _PLAUSIBLE[name]
    if not least <= value <= most:
        unit = "milliseconds" if name == "ttft_ms" else "tokens per second and user"
        raise ValueError(f"{name}={row[name]} must be {least:g} to {most:g} {unit}: check the unit.")
    return value


def _way(row: Mapping[str, str], name: str) -> Any:
    value = row[name]
    if value and value not in list(_HOW[name]):
        raise ValueError(f"{name} must be {', '.join(_HOW[name])} or empty, not {value!r}.")
    return _HOW[name](value) if value else None


def _date(text: str) -> str:
    whole = text + "-01" * (2 - text.count("-"))
    try:
        known = not text or bool(_DATE.match(text) and datetime.date.fromisoformat(whole))
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"date must be YYYY, YYYY-MM or YYYY-MM-DD, not {text!r}.")
    return text
