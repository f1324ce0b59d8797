# SPDX-License-Identifier: Apache-2.0
"""One job of a sweep, in whatever process a launcher gives it. It always ends in a result, except when interrupted."""

from __future__ import annotations

import functools
import json
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..config.conf_folders import in_own_context, use_only
from ..config.experiment_json import from_sections
from ..run.result_files import RESULT_FILE, write_result
from ..run.runner import blank_result, run
from .locks import job_lock
from .sweep_store import HINT
from .sweep_tables import row_of

if TYPE_CHECKING:
    from ..accuracy.state_reuse import SharedStates

LOG_FILE = "run.log"


@dataclass(frozen=True)
class Task:
    """A job on its way to a worker.

    Attributes:
        record: its line in jobs.jsonl, with its resolved experiment.
        folder: where its result goes.
        conf: the sweep's frozen configuration folders.
        keys: the columns of overrides in the tables.
        retry: run it again when its result says that it failed.
        verify: check that it still is the configuration that was planned.
        timeout_minutes: fail it after so long; None for never.
    """

    record: dict[str, Any]
    folder: str
    conf: list[str]
    keys: list[str]
    retry: bool = False
    verify: bool = True
    timeout_minutes: float | None = None

    @property
    def number(self) -> int:
        """Its place in the plan, by which samplers and summaries know it."""
        return int(self.record["number"])


@dataclass(frozen=True)
class Summary:
    """What became of a job: its row of the table, where its log is, and whether its result could not be written."""

    number: int
    row: dict[str, Any]
    log: str = ""
    unwritten: bool = False

    @property
    def failed(self) -> bool:
        """Whether there is no result without an error."""
        return bool(self.row["status"] != "ok")


@functools.cache
def _states() -> SharedStates:
    """What this process keeps from job to job."""
    from ..accuracy.state_reuse import SharedStates

    return SharedStates()


@in_own_context
def run_job(task: Task) -> Summary:
    """Runs one job from its frozen record and leaves its result.json; a failure leaves its traceback in run.log."""
    folder = Path(task.folder)
    use_only([Path(path) for path in task.conf])
    try:
        folder.mkdir(exist_ok=True)
        with job_lock(folder):
            return _summary(task, _earlier(folder, task.retry) or _run(task, folder))
    except OSError as error:
        return _not_written(task, f"cannot write {folder}: {error.strerror}")
    except ConfigError as error:
        return _not_written(task, str(error))


def lost(task: Task, why: str) -> Summary:
    """The summary of a job whose worker is gone: the result it left all the same, or a failure that says `why`."""
    try:
        folder = Path(task.folder)
        folder.mkdir(exist_ok=True)
        return _summary(task, _earlier(folder, retry=task.retry) or _failed(task, folder, why, why))
    except (ConfigError, OSError) as error:
        return _not_written(task, str(error))


def _earlier(folder: Path, retry: bool) -> dict[str, Any] | None:
    """A result that is there already: a worker outlived its sweep."""
    try:
        result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{folder / RESULT_FILE} is not a readable result: {error}.") from None
    return None if retry and result["status"] != "ok" else result


def _run(task: Task, folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    record, experiment = task.record, None
    try:
        with _time_limit(task.timeout_minutes):
            experiment = from_sections(record["sections"])
            if task.verify and experiment.config_hash() != record["config_hash"]:
                raise ConfigError("this job no longer matches the plan.", "Start the sweep again.")
            return run(experiment, folder, record["overrides"], show_progress=False, shared=_states())
    except Exception as error:
        message = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}".strip()
        config = None if experiment is None else experiment.to_dict()
        return _failed(task, folder, message, traceback.format_exc(), config, time.monotonic() - started)


def _failed(
    task: Task, folder: Path, message: str, log: str, config: dict[str, Any] | None = None, seconds: float | None = None
) -> dict[str, Any]:
    """Leaves the result of a failed job, and `log` in run.log."""
    write_atomically(folder / LOG_FILE, log.rstrip() + "\n", hint=HINT)
    result = blank_result(task.record["overrides"]) | {
        "error": message,
        "config": config,
        "config_hash": task.record["config_hash"],
        "seconds": seconds,
    }
    write_result(folder, result)
    return result


def _summary(task: Task, result: dict[str, Any]) -> Summary:
    log = Path(task.folder) / LOG_FILE
    row = row_of(task.record["name"], result, task.keys)
    return Summary(task.number, row, str(log) if result["status"] != "ok" and log.exists() else "")


def _not_written(task: Task, message: str) -> Summary:
    row = row_of(task.record["name"], blank_result(task.record["overrides"]) | {"error": message}, task.keys)
    return Summary(task.number, row, unwritten=True)


@contextmanager
def _time_limit(minutes: float | None) -> Iterator[None]:
    """Raises TimeoutError inside after `minutes`, where this thread can be interrupted."""
    if minutes is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(signal_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not finished within {minutes:g} minutes")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, minutes * 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
