# SPDX-License-Identifier: Apache-2.0
"""The folder of a sweep: what was planned, frozen, and which jobs have left a result.

sweep.json      the sweep: its command, versions, counts; written last, so a folder without it has no plan
jobs.jsonl      every job, one line each, with what it needs to run
sections.json   sections of resolved experiments that jobs share
frozen/         a copy of the configuration folders
NUMBER_SLUG_HASH/result.json   a job's result: the truth; results.jsonl and results.csv are made from them
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..run.result_files import REPORT_FILE, RESULT_FILE, SCHEMA_VERSION, environment, git_state
from .frozen import FOLDER as FROZEN
from .frozen import Sections
from .job_plan import PLANNED, PlannedJob
from .locks import LOCK_FILE

PLAN_VERSION = 2
SWEEP_FILE = "sweep.json"
JOBS_FILE = "jobs.jsonl"
SECTIONS_FILE = "sections.json"
HINT = "Free some space or choose another hydra.sweep.dir; sweep.resume=DIR continues where this stopped."
_PLAN_FILES = (FROZEN, JOBS_FILE, SECTIONS_FILE, f".{JOBS_FILE}.new")


def holds_sweep(folder: Path) -> bool:
    """Whether `folder` holds a planned sweep. Raises ConfigError when it holds something else."""
    try:
        if (folder / SWEEP_FILE).is_file():
            return True
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file, not a folder.", "Choose another hydra.sweep.dir.")
        left = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror}.", "Choose another hydra.sweep.dir.") from None
    if left and LOCK_FILE not in left:
        raise ConfigError(
            f"{folder} contains other files but no sweep of this version.", "Choose another hydra.sweep.dir."
        )
    return False


def prepare(folder: Path) -> None:
    """Makes the folder of a new sweep. Raises ConfigError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}.", "Choose another hydra.sweep.dir.") from None


def discard_folder(folder: Path) -> None:
    """Removes what this sweep made in a folder where it then ran nothing."""
    discard_plan(folder)
    (folder / LOCK_FILE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def discard_plan(folder: Path) -> None:
    """Removes what planning left in a folder that has no sweep yet."""
    for name in _PLAN_FILES:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class Store:
    """A planned sweep's folder. `sweep` is the content of sweep.json. Jobs are read one at a time."""

    def __init__(self, folder: Path, sweep: dict[str, Any]) -> None:
        self.folder = folder
        self.sweep = sweep
        self._sections = Sections(folder / SECTIONS_FILE)
        try:
            self._sections.load()
            self._offsets = _line_offsets(folder / JOBS_FILE)
        except (OSError, ValueError) as error:
            raise ConfigError(f"the plan in {folder} cannot be read: {error}.", "Start the sweep again.") from None
        if len(self._offsets) != self.sweep["total"]:
            raise ConfigError(f"{folder / JOBS_FILE} is missing jobs of the plan.", "Start the sweep again.")

    @classmethod
    def open(cls, folder: Path) -> Store:
        """The sweep in `folder`. Raises ConfigError for one of another version or one that cannot be read."""
        return cls(folder, _read_sweep(folder / SWEEP_FILE))

    @classmethod
    def create(cls, folder: Path, command: list[str], jobs: Iterable[PlannedJob]) -> Store:
        """Writes the plan of a new sweep but for sweep.json: see `commit`. Raises ConfigError or OSError."""
        sections, counts, keys = Sections(folder / SECTIONS_FILE), dict.fromkeys(_COUNTED.values(), 0), {}
        temporary = folder / f".{JOBS_FILE}.new"
        with temporary.open("w", encoding="utf-8") as file:
            for job in jobs:
                counts[_COUNTED[job.status]] += 1
                keys.update(dict.fromkeys(text.partition("=")[0] for text in job.overrides))
                record = dataclasses.asdict(job) | {"job": job.name, "sections": sections.pack(job.sections)}
                file.write(json.dumps(record) + "\n")
        write_atomically(folder / SECTIONS_FILE, sections.save_text(), hint=HINT)
        temporary.replace(folder / JOBS_FILE)
        sweep = {
            "plan_version": PLAN_VERSION,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": command,
            "keys": list(keys),
            "total": sum(counts.values()),
            **counts,
            "git": git_state(),
            "environment": environment(),
        }
        return cls(folder, sweep)

    def commit(self) -> None:
        """Makes the plan one that can be resumed."""
        write_atomically(self.folder / SWEEP_FILE, json.dumps(self.sweep, indent=2) + "\n", hint=HINT)

    def jobs(self) -> Iterator[PlannedJob]:
        """Every job, in order, without its sections."""
        with (self.folder / JOBS_FILE).open(encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                del record["job"]
                yield PlannedJob(**record | {"sections": {}})

    def record(self, number: int) -> dict[str, Any]:
        """All of one job: what a worker needs to run it."""
        with (self.folder / JOBS_FILE).open("rb") as file:
            file.seek(self._offsets[number])
            record = json.loads(file.readline())
        return record | {"sections": self._sections.unpack(record["sections"])}

    def result(self, job: PlannedJob) -> dict[str, Any] | None:
        """The job's result, or None when it left none. Raises ConfigError for one that cannot be this job's."""
        path, again = self.folder / job.name / RESULT_FILE, "Remove it to run its job again."
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is not a readable result: {error}.", again) from None
        version = result.get("schema_version") if isinstance(result, dict) else None
        if version != SCHEMA_VERSION:
            raise ConfigError(f"{path} has schema version {version}; this version reads {SCHEMA_VERSION}.", again)
        if result.get("config_hash") not in (None, job.config_hash):
            raise ConfigError(f"{path} is the result of a different configuration.", again)
        return result

    def remove_leftovers(self) -> None:
        """Removes the unfinished temporary files of a process that was killed."""
        own = (SWEEP_FILE, SECTIONS_FILE, "results", REPORT_FILE)
        for pattern in (*(f".{name}.*" for name in own), f"*/.{RESULT_FILE}.*"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)


_COUNTED = {PLANNED: "planned", "skipped": "skipped", "duplicate": "duplicates"}


def _read_sweep(path: Path) -> dict[str, Any]:
    try:
        sweep = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "Choose another hydra.sweep.dir.") from None
    version = sweep.get("plan_version") if isinstance(sweep, dict) else None
    if version != PLAN_VERSION:
        raise ConfigError(
            f"{path} was written by another version (plan version {version}; this version reads {PLAN_VERSION}).",
            "Choose another hydra.sweep.dir.",
        )
    return sweep


def _line_offsets(path: Path) -> list[int]:
    offsets, position = [], 0
    with path.open("rb") as file:
        for line in file:
            offsets.append(position)
            position += len(line)
    return offsets
