# SPDX-License-Identifier: Apache-2.0
"""Reads the folders of sweeps and runs. What cannot be read is kept as a job that says so, and a warning."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..common.command_names import command
from ..common.errors import ConfigError
from ..run.result_files import RESULT_FILE, SCHEMA_VERSION

BROKEN = "broken"  # status of a job whose result.json cannot be read
JOBS_FILE = "jobs.jsonl"
SWEEP_FILE = "sweep.json"
_MOST_LISTED = 4


@dataclass
class Job:
    """One job of a sweep, whether or not it left a result.

    `name` is its folder's; `result` is empty where there is none; `reason` says why it failed or was skipped.
    """

    name: str
    status: str
    overrides: list[str]
    config_hash: str | None = None
    reason: str = ""
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether it ended without an error, so that its result has figures."""
        return self.status == "ok"

    @property
    def config(self) -> dict[str, Any] | None:
        """The configuration that it ran, every value filled in; None where its result has none."""
        return self.result.get("config")

    @property
    def typed(self) -> dict[str, str]:
        """What was overridden, by key; a removed key has the value "removed"."""
        pairs = {}
        for text in self.overrides:
            key, equals, value = text.lstrip("+").partition("=")
            pairs[key.lstrip("~")] = value if equals and not text.startswith("~") else "removed"
        return pairs


@dataclass
class Sweep:
    """The jobs of one folder, where they ran (each distinct state once), when it was started or else last written (Unix
    time in seconds; None where neither is known), what was odd about the folder, and the command, if known."""

    name: str
    folder: Path
    jobs: list[Job]
    git: list[dict[str, Any]]
    environments: list[dict[str, Any]]
    time: float | None
    warnings: list[str]
    command: str = ""

    def labels(self) -> list[str]:
        """A short name per job: the number its folder starts with, where that tells all jobs apart."""
        numbers = [_leading_digits(job.name) for job in self.jobs]
        told_apart = all(numbers) and len(set(numbers)) == len(numbers)
        return numbers if told_apart else [job.name for job in self.jobs]

    def when(self) -> str:
        """When it was started, or else when the last result was written, in UTC to the minute; "" where unknown."""
        return "" if self.time is None else as_utc(self.time)


def as_utc(seconds: float) -> str:
    """Unix time as people write it, in UTC to the minute."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def read_sweep(folder: Path) -> Sweep:
    """The jobs of `folder`: a sweep (a result.json in each sub-folder) or a single run (its own result.json).

    Raises ConfigError where there is no such folder, no job in it, or a result written by a newer version.
    """
    if not folder.is_dir():
        what = "is a file, not the folder of a sweep" if folder.is_file() else "does not exist"
        raise ConfigError(f"{folder} {what}.", f"`{command('results')} ls` lists the results there are.")
    own = folder / RESULT_FILE
    paths = [own] if own.is_file() else sorted(folder.glob(f"*/{RESULT_FILE}"), key=lambda p: job_order(p.parent.name))
    subtrees = _Subtrees()
    warnings: list[str] = []
    jobs = [_read_job(path, subtrees, warnings) for path in paths]
    jobs += _unfinished(folder / JOBS_FILE, {job.name for job in jobs}, warnings)
    if not jobs:
        raise ConfigError(f"{folder} has no results: no job in it wrote a {RESULT_FILE}.", _sweeps_below(folder))
    jobs.sort(key=lambda job: job_order(job.name))
    shared = _shared_record(folder / SWEEP_FILE, warnings)
    return Sweep(
        folder.resolve().name,
        folder,
        jobs,
        _distinct([job.result.get("git") for job in jobs] + [shared.get("git")]),
        _distinct([job.result.get("environment") for job in jobs] + [shared.get("environment")]),
        _started(shared) or max((path.stat().st_mtime for path in paths), default=None),
        warnings,
        _command(shared),
    )


def read_sweeps(folders: Sequence[Path]) -> list[Sweep]:
    """`read_sweep` of each, with names that differ. Raises ConfigError also where a folder is given twice."""
    resolved = [folder.resolve() for folder in folders]
    twice = next((folder for folder in resolved if resolved.count(folder) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is given twice.")
    sweeps = [read_sweep(folder) for folder in folders]
    names = [sweep.name for sweep in sweeps]
    for sweep in sweeps:
        if names.count(sweep.name) > 1:
            sweep.name = "/".join(sweep.folder.resolve().parts[-2:])
    for number, sweep in enumerate(sweeps):
        if sweep.name in {other.name for other in sweeps[:number]}:
            sweep.name = f"{sweep.name} ({number + 1})"
    return sweeps


def job_order(name: str) -> tuple[int, str]:
    """Sorts job folders by their leading number, then by name."""
    digits = _leading_digits(name)
    return (int(digits) if digits else sys.maxsize, name)


def _leading_digits(name: str) -> str:
    return name[: len(name) - len(name.lstrip("0123456789"))]


def _read_job(path: Path, subtrees: _Subtrees, warnings: list[str]) -> Job:
    name = path.parent.name
    try:
        # NaN and Infinity are no JSON; a figure that is not finite is no figure.
        result = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        _check_shape(result)
    except OSError as error:
        return _broken(name, path, error.strerror or str(error), warnings)
    except (ValueError, RecursionError) as error:
        return _broken(name, path, f"not a result: {error}", warnings)
    if result["schema_version"] > SCHEMA_VERSION:
        raise ConfigError(
            f"{path} was written by a newer version (schema {result['schema_version']}; this one reads up to "
            f"{SCHEMA_VERSION}).",
            "Update tt-transformers-v2.",
        )
    if isinstance(result.get("accuracy"), dict):
        result["accuracy"].pop("modules", None)  # per layer; no report shows them, and they are most of the bytes
    result = subtrees.shared(result)
    for section in ("config", "performance"):
        if isinstance(result.get(section), dict):
            result[section] = subtrees.shared(result[section], f"{section}.")
    reason = str(result.get("error") or "")
    return Job(name, result["status"], result["overrides"], result.get("config_hash"), reason, result)


def _check_shape(result: Any) -> None:
    """Raises ValueError where `result` lacks what every result has."""
    if not isinstance(result, dict):
        raise ValueError(f"expected an object, found {type(result).__name__}")
    for key, kind in {"schema_version": int, "status": str, "overrides": list}.items():
        if not isinstance(result.get(key), kind):
            raise ValueError(f"{key} is missing or has the wrong type")
    if not all(isinstance(text, str) for text in result["overrides"]):
        raise ValueError("overrides are not all strings")
    if not isinstance(result.get("config"), dict | None):
        raise ValueError("config is not an object")


def _broken(name: str, path: Path, why: str, warnings: list[str]) -> Job:
    warnings.append(f"{path}: {why}")
    return Job(name, BROKEN, [], reason=f"{name}/{RESULT_FILE}: {why}")


class _Subtrees:
    """Keeps equal sections of results once: those of a sweep are alike, and thousands of them are large."""

    MOST = 16  # distinct values kept per section; more would cost more to look for than they save

    def __init__(self) -> None:
        self._seen: dict[str, list[Any]] = {}

    def shared(self, tree: dict[str, Any], path: str = "") -> dict[str, Any]:
        return {sys.intern(key): self._first_equal(path + key, value) for key, value in tree.items()}

    def _first_equal(self, key: str, value: Any) -> Any:
        if not isinstance(value, (dict, list, str)):
            return value
        seen = self._seen.setdefault(key, [])
        for other in seen:
            if other == value:
                return other
        if len(seen) < self.MOST:
            seen.append(value)
        return value


def _unfinished(path: Path, finished: set[str], warnings: list[str]) -> list[Job]:
    """The jobs of jobs.jsonl that left no result: skipped, duplicates, or planned and never run."""
    last: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(_lines(path, warnings), start=1):
        try:
            record = json.loads(line)
            if str(record["job"]) not in finished:
                last[str(record["job"])] = record
        except (ValueError, KeyError, TypeError):
            warnings.append(f"{path}: line {number} is not a job record")
    return [_planned(name, record) for name, record in last.items()]


def _planned(name: str, record: dict[str, Any]) -> Job:
    status, overrides = str(record.get("status") or "planned"), record.get("overrides")
    reason = str(record.get("reason") or ("no result yet" if status == "planned" else ""))
    texts = [str(text) for text in overrides] if isinstance(overrides, list) else []
    return Job(name, status, texts, record.get("config_hash"), reason)


def _lines(path: Path, warnings: list[str]) -> Iterator[str]:
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8") as file:
            yield from (line for line in file if line.strip())
    except (OSError, ValueError) as error:
        warnings.append(f"{path}: {error}")


def _shared_record(path: Path, warnings: list[str]) -> dict[str, Any]:
    """What a sweep may state once for all of its jobs."""
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        warnings.append(f"{path}: {error}")
        return {}
    return record if isinstance(record, dict) else {}


def _started(record: dict[str, Any]) -> float | None:
    """When the sweep was planned, by its own record: files that are copied get new times."""
    try:
        return datetime.fromisoformat(str(record.get("created"))).timestamp()
    except ValueError:
        return None


def _command(record: dict[str, Any]) -> str:
    words = record.get("command")
    return " ".join(map(str, words)) if isinstance(words, list) else ""


def _distinct(values: Iterable[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for value in values:
        if isinstance(value, dict) and value not in found:
            found.append(value)
    return found


def _sweeps_below(folder: Path) -> str:
    below = sorted({path.parent.parent.name for path in folder.glob(f"*/*/{RESULT_FILE}")})
    if not below:
        return f"`{command('results')} ls` lists the results there are."
    more = f" and {len(below) - _MOST_LISTED} more" if len(below) > _MOST_LISTED else ""
    return f"Choose a sweep in it: {', '.join(below[:_MOST_LISTED])}{more}."
