# SPDX-License-Identifier: Apache-2.0
"""Measured rows: what someone published or measured on a card, read from a CSV file and checked."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import ConfigError, did_you_mean

REQUIRED = ("model", "device", "tp", "dp", "batch", "seq", "mode", "ttft_ms", "tsu", "source")
OPTIONAL = ("ts", "target_tsu", "flag")


@dataclass(frozen=True)
class MeasuredRow:
    """One measurement. `batch` counts users per data-parallel group, `seq` tokens of prompt and cache.

    `mode` is a precision mode or `cfg:` with formats by tensor group; ttft_ms in ms, tokens_per_s_per_user as named
    (None where not given); `flag` says why a row is not to be trusted, "" where nothing is known against it.
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

    def __str__(self) -> str:
        split = f"TP{self.tensor_parallel}" + (f" DP{self.data_parallel}" if self.data_parallel > 1 else "")
        users = "1 user" if self.batch == 1 else f"{self.batch} users"
        return f"{self.model} on {self.device} {split}, {users}, {self.seq} tokens, {self.mode}"


def read_points(path: str | Path) -> list[MeasuredRow]:
    """The rows of a CSV file with the columns REQUIRED (OPTIONAL may be left out).

    Raises ConfigError naming the file and what is wrong: missing or unknown columns, then every bad row at once.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            _check_columns(str(path), reader.fieldnames)
            rows = list(reader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is not a CSV file: {error}.") from None
    found, problems = [], []
    for line, row in enumerate(rows, start=2):
        try:
            found.append(_row(row, line))
        except ValueError as error:
            problems.append(f"{path}, row {line}: {error}")
    if problems:
        more = f"\n… and {len(problems) - 10} more." if len(problems) > 10 else ""
        raise ConfigError("\n".join(problems[:10]) + more)
    if not found:
        raise ConfigError(f"{path} has no rows.")
    return found


@functools.cache
def packaged_points(path: Path) -> tuple[MeasuredRow, ...]:
    """As `read_points`, read once."""
    return tuple(read_points(path))


def _check_columns(path: str, columns: Iterable[str] | None) -> None:
    given = list(columns or ())
    missing = [name for name in REQUIRED if name not in given]
    if missing:
        raise ConfigError(f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}.")
    for name in given:
        if name not in (*REQUIRED, *OPTIONAL):
            raise ConfigError(f"{path} has an unknown column {name!r}.", did_you_mean(name, [*REQUIRED, *OPTIONAL]))
    if len(given) != len(set(given)):
        raise ConfigError(f"{path} has a column twice.")


def _row(row: Mapping[str, str | None], line: int) -> MeasuredRow:
    if None in row or any(value is None for value in row.values()):
        raise ValueError("it has more or fewer fields than the header.")
    text = {key: (value or "").strip() for key, value in row.items()}
    for name in ("model", "device", "mode", "source"):
        if not text[name]:
            raise ValueError(f"{name} is empty.")
    found = MeasuredRow(
        model=text["model"],
        device=text["device"],
        tensor_parallel=_count(text, "tp"),
        data_parallel=_count(text, "dp"),
        batch=_count(text, "batch"),
        seq=_count(text, "seq"),
        mode=text["mode"],
        ttft_ms=_measure(text, "ttft_ms"),
        tokens_per_s_per_user=_measure(text, "tsu"),
        source=text["source"],
        flag=text.get("flag", ""),
        line=line,
    )
    if found.ttft_ms is None and found.tokens_per_s_per_user is None:
        raise ValueError("it has neither ttft_ms nor tsu.")
    return found


def _count(text: Mapping[str, str], name: str) -> int:
    if not text[name].isdecimal() or int(text[name]) < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {text[name]!r}.")
    return int(text[name])


def _measure(text: Mapping[str, str], name: str) -> float | None:
    if not text[name]:
        return None
    try:
        value = float(text[name])
    except ValueError:
        value = -1.0
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number or empty, not {text[name]!r}.")
    return value
