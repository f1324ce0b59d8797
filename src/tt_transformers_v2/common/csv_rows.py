# SPDX-License-Identifier: Apache-2.0
"""Rows of a CSV file with known columns, each checked; what is wrong is said with file and line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from .errors import ConfigError, did_you_mean

T = TypeVar("T")
_MOST_SHOWN = 10


def read_rows(
    path: Path,
    columns: Sequence[str],
    parse: Callable[[Mapping[str, str], int], T],
    optional: Sequence[str] = (),
) -> list[T]:
    """What `parse` makes of each row (its texts by column, stripped, and its line in the file).

    The file must have `columns`, in any order, and may have those of `optional`, which are empty where it does not; no
    others. `parse` raises ValueError for a wrong row. Raises ConfigError
    naming the file, its columns that are missing, unknown or repeated, then every wrong row with its line.
    """
    found: list[T] = []
    problems: list[str] = []
    absent = dict.fromkeys(optional, "")
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            _check_columns(path, list(reader.fieldnames or ()), columns, optional)
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    problems.append(f"{path}, line {line}: it has more or fewer fields than the header.")
                    continue
                try:
                    found.append(parse(absent | {key: value.strip() for key, value in row.items()}, line))
                except ValueError as error:
                    problems.append(f"{path}, line {line}: {error}")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is not a CSV file: {error}.") from None
    if problems:
        more = f"\n… and {len(problems) - _MOST_SHOWN} more." if len(problems) > _MOST_SHOWN else ""
        raise ConfigError("\n".join(problems[:_MOST_SHOWN]) + more)
    return found


def text(row: Mapping[str, str], name: str) -> str:
    """A column that must say something. Raises ValueError where it is empty."""
    if not row[name]:
        raise ValueError(f"{name} is empty.")
    return row[name]


def count(row: Mapping[str, str], name: str, least: int = 1) -> int:
    """A column of whole numbers of at least `least`. Raises ValueError for anything else."""
    if not row[name].isdecimal() or int(row[name]) < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {row[name]!r}.")
    return int(row[name])


def count_or_none(row: Mapping[str, str], name: str, least: int = 1) -> int | None:
    """As `count`; None where the column is empty."""
    return count(row, name, least) if row[name] else None


def _check_columns(path: Path, given: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> None:
    known = [*columns, *optional]
    missing = [name for name in columns if name not in given]
    if missing:
        raise ConfigError(f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}.")
    for name in given:
        if name not in known:
            raise ConfigError(f"{path} has an unknown column {name!r}.", did_you_mean(name, known))
    if len(given) != len(set(given)):
        raise ConfigError(f"{path} has a column twice.")
