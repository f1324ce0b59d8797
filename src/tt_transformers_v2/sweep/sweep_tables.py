# SPDX-License-Identifier: Apache-2.0
"""The tables of a sweep: results.jsonl gets a line per job, results.csv is made anew from it."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from ..common.files import csv_text, write_atomically
from ..run.result_files import COLUMNS, look_up
from .sweep_store import HINT

JSONL, CSV, PARQUET = "results.jsonl", "results.csv", "results.parquet"
_LEAST_INTERVAL = 1.0  # seconds between two results.csv while jobs run
_SHARE = 20  # results.csv takes at most a twentieth of the time


def row_of(name: str, result: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The row of one job: its folder, the overrides by `keys`, and the figures."""
    pairs = (str(text).partition("=") for text in result.get("overrides", []))
    overridden = {key: value for key, _, value in pairs}
    return (
        {"job": name}
        | {key: overridden.get(key, "") for key in keys}
        | {column: look_up(result, path) for column, path in COLUMNS.items()}
    )


def check_tables(parquet: bool) -> None:
    """Raises ConfigError, before jobs run, where results.parquet is asked for and cannot be written."""
    if parquet and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(
            "sweep.parquet=true needs pyarrow, which is not installed.",
            "Install it with pip install 'tt-transformers-v2[parquet]', or read results.csv.",
        )


def _typed(values: list[Any]) -> Any:
    """A column: numbers and booleans as such where all of them are, else text."""
    import pyarrow

    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pyarrow.array(values, pyarrow.bool_())
    if kinds and kinds <= {int, float}:
        return pyarrow.array(values, pyarrow.int64() if kinds == {int} else pyarrow.float64())
    return pyarrow.array([None if value is None else str(value) for value in values], pyarrow.string())


class Tables:
    """Both tables of a sweep, written by one process. Rows are kept in the file, not in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[str, int] = {}
        self._size = 0
        self._next_csv = 0.0

    def start(self, rows: Iterable[dict[str, Any]]) -> None:
        """Both tables from `rows` alone, whatever an interrupted process left in them."""
        lines, size = [], 0
        self._offsets.clear()
        for row in rows:
            line = json.dumps(row) + "\n"
            self._offsets[row["job"]] = size
            size += len(line)
            lines.append(line)
        write_atomically(self._folder / JSONL, "".join(lines), hint=HINT)
        self._size = size
        self._write_csv()

    def add(self, row: dict[str, Any]) -> None:
        """One job's line at the end of results.jsonl; results.csv follows at once or within seconds."""
        line = (json.dumps(row) + "\n").encode()
        path = self._folder / JSONL
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            try:
                if os.write(descriptor, line) < len(line):
                    os.truncate(path, self._size)
                    raise OSError(28, "No space left on device")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}.", HINT) from None
        self._offsets[row["job"]] = self._size
        self._size += len(line)
        if time.monotonic() >= self._next_csv:
            self._write_csv()

    def finish(self) -> None:
        """Both tables complete and in job order."""
        lines = list(self._lines())
        write_atomically(self._folder / JSONL, "".join(lines), hint=HINT)
        self._offsets = {}
        size = 0
        for line in lines:
            self._offsets[json.loads(line)["job"]] = size
            size += len(line)
        self._size = size
        self._write_csv()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in job order."""
        return map(json.loads, self._lines())

    def write_parquet(self) -> None:
        """results.parquet with the types that the figures have; a column without any figure is text."""
        import pyarrow
        from pyarrow import parquet

        rows = [{key: None if value == "" else value for key, value in row.items()} for row in self.rows()]
        columns = {key: [row.get(key) for row in rows] for key in (rows[0] if rows else {})}
        table = pyarrow.table({name: _typed(values) for name, values in columns.items()})
        target = io.BytesIO()
        parquet.write_table(table, target)
        write_atomically(self._folder / PARQUET, target.getvalue(), hint=HINT)

    def _lines(self) -> Iterator[str]:
        with (self._folder / JSONL).open("rb") as file:
            for name in sorted(self._offsets):
                file.seek(self._offsets[name])
                yield file.readline().decode()

    def _write_csv(self) -> None:
        started = time.monotonic()
        write_atomically(self._folder / CSV, csv_text(self.rows()), hint=HINT)
        now = time.monotonic()
        self._next_csv = now + max(_LEAST_INTERVAL, _SHARE * (now - started))
