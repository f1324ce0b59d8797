# SPDX-License-Identifier: Apache-2.0
"""Runs a sweep from its command line: plans it or finds its plan, runs what is missing, and leaves the tables."""

from __future__ import annotations

import itertools
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ..common.command_names import command
from ..common.errors import ConfigError
from ..common.terminal import ProgressLine
from ..config.conf_folders import in_own_context, use_only
from ..config.sweep_schema import LauncherName, OnInvalid
from ..run.runner import blank_result
from .frozen import freeze, frozen_dirs
from .job_plan import PLANNED, SKIPPED, PlannedJob, plan_jobs
from .launchers import Launcher, open_launcher
from .locks import sweep_lock
from .request import Request, read_request
from .samplers import Objective, Sampler, best_trials, check_sampler, open_sampler, read_objectives
from .sweep_progress import Progress
from .sweep_store import SWEEP_FILE, Store, discard_folder, discard_plan, holds_sweep, prepare
from .sweep_tables import CSV, Tables, check_tables, row_of
from .sweep_text import print_sweep
from .trackers import Tracker, check_trackers, open_trackers
from .worker import Task

_MOST_REASONS = 3
_MOST_REPORTED = 20_000  # jobs; a page of 10,000 takes about four seconds and 5 MB
_MOST_ROWS = 100  # of the table that is printed; results.csv has them all


@dataclass
class _State:
    """A sweep's plan and how far it has come: the numbers of jobs to run, and counts of the others."""

    store: Store
    tables: Tables
    pending: list[int]
    done: int
    failed: int
    fresh: bool

    @property
    def skipped(self) -> int:
        return int(self.store.sweep["skipped"]) + int(self.store.sweep["duplicates"])


WriteReport = Callable[[Path], Path]


@in_own_context
def run_sweep(overrides: Sequence[str], folder: Path, write_report: WriteReport) -> int:
    """Runs the sweep that `overrides` ask for in `folder`, or resumes an earlier one.

    `write_report` makes the page of a sweep's folder and returns its path.

    Returns:
        The exit code: 0 when every job is done, 1 when one failed, 130 when interrupted.

    Raises:
        ConfigError: a mistake of the user's, or a folder that cannot be read or written.
    """
    request = read_request(overrides)
    check_sampler(request.sweep)
    check_tables(request.sweep.parquet)
    check_trackers(request.sweep)
    launcher = open_launcher(request.launcher)
    folder = (_resumed_folder(request, folder) if request.sweep.resume else folder).absolute()
    if not holds_sweep(folder):
        _refuse_nothing_swept(request)
        prepare(folder)
    with sweep_lock(folder), _terminated_as_interrupted():
        return _run(request, launcher, folder, write_report)


def _run(request: Request, launcher: Launcher, folder: Path, write_report: WriteReport) -> int:
    fresh = not holds_sweep(folder)
    store = _planned(request, folder) if fresh else _found(request, folder)
    state = _state(store, request.sweep.retry_failed, fresh)
    sampler = open_sampler(request.axes, request.sweep, state.pending)
    interrupted = False
    print(f"{sampler.total} job{'s' * (sampler.total != 1)} to run", file=sys.stderr, flush=True)
    with Progress(
        state.done + state.failed + sampler.total, done=state.done, failed=state.failed, skipped=state.skipped
    ) as progress:
        for row in state.tables.rows():
            progress.note_best(row)
            if row["status"] != "skipped":
                sampler.tell(int(row["job"].split("_")[0]), row)
        try:
            with open_trackers(request.sweep, store.folder) as trackers:
                _run_pending(state, request, launcher, sampler, trackers, progress)
        except KeyboardInterrupt:
            interrupted = True
    store.remove_leftovers()
    if interrupted:
        state = _recounted(store, progress)
    state.tables.finish()
    if request.sweep.parquet:
        state.tables.write_parquet()
    _print_tables(state, progress, read_objectives(request.sweep.objectives))
    _report(store, write_report)
    if interrupted:
        print(f"interrupted; resume with --multirun sweep.resume={store.folder}", file=sys.stderr)
        return 130
    return 1 if progress.failed else 0


def _recounted(store: Store, progress: Progress) -> _State:
    """The results themselves: an interrupt may have fallen between a job's result and its row."""
    state = _state(store, retry_failed=False, fresh=False)
    progress.done, progress.failed = state.done, state.failed
    for row in state.tables.rows():
        progress.note_best(row)
    return state


def _resumed_folder(request: Request, default: Path) -> Path:
    """The folder that sweep.resume names."""
    named = str(request.sweep.resume)
    if named != "last":
        folder = Path(named)
        if not (folder / SWEEP_FILE).is_file():
            raise ConfigError(f"sweep.resume: {folder} is not a sweep (no {SWEEP_FILE}).", "Use the folder of a sweep.")
        return folder
    found = sorted(default.parent.glob(f"*/{SWEEP_FILE}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise ConfigError(f"sweep.resume=last: there is no sweep in {default.parent} yet.")
    return found[-1].parent


def _refuse_nothing_swept(request: Request) -> None:
    if not request.names_jobs:
        raise ConfigError("nothing to sweep.", "Add an axis: --multirun KEY=A,B, or experiment=NAME.")


def _planned(request: Request, folder: Path) -> Store:
    """The plan of a new sweep. Where it cannot be made, nothing of it stays."""
    discard_plan(folder)
    total = math.prod(len(axis.points) for axis in request.axes)
    try:
        use_only(freeze(folder))
        store = Store.create(folder, request.command, _shown(plan_jobs(request.axes, total), total))
        _refuse_invalid(request, store)
        store.commit()
    except OSError as error:
        discard_folder(folder)
        raise ConfigError(f"cannot write {error.filename or folder}: {error.strerror}.", "Free some space.") from None
    except BaseException:
        discard_folder(folder)
        raise
    return store


def _shown(jobs: Iterator[PlannedJob], total: int) -> Iterator[PlannedJob]:
    """The jobs, with a progress bar while they are planned."""
    with ProgressLine("checking every job", enabled=total > 50) as progress:
        for job in jobs:
            progress.update("jobs", job.number + 1, total)
            yield job


def _refuse_invalid(request: Request, store: Store) -> None:
    """Raises ConfigError when no job can run, or one cannot and sweep.on_invalid=fail."""
    skipped, planned = store.sweep["skipped"], store.sweep["planned"]
    if not skipped or (planned and request.sweep.on_invalid is OnInvalid.skip):
        return
    invalid = [job for job in store.jobs() if job.status == SKIPPED]
    reasons = list(dict.fromkeys(f"{' '.join(job.overrides)}: {job.reason.splitlines()[0]}" for job in invalid))
    lines = "\n".join(reasons[:_MOST_REASONS])
    more = f"\nand {len(reasons) - _MOST_REASONS} more." if len(reasons) > _MOST_REASONS else ""
    of = f"{skipped} of {store.sweep['total']} jobs are invalid" if planned else "no valid jobs"
    hint = " Use sweep.on_invalid=skip to run the others." if planned else ""
    raise ConfigError(f"{of}; nothing was run.{hint}\n{lines}{more}")


def _found(request: Request, folder: Path) -> Store:
    """The plan in `folder`, which must be that of the same command."""
    store = Store.open(folder)
    if request.names_jobs and request.command != store.sweep["command"]:
        raise ConfigError(
            f"{folder} contains another sweep: {' '.join(store.sweep['command'])}.",
            "Choose another hydra.sweep.dir, or resume that one: --multirun sweep.resume=DIR.",
        )
    use_only(frozen_dirs(folder))
    store.remove_leftovers()
    return store


def _state(store: Store, retry_failed: bool, fresh: bool) -> _State:
    """Reads which jobs are done and writes the tables as they stand."""
    state = _State(store, Tables(store.folder), [], 0, 0, fresh)
    state.tables.start(_rows_so_far(state, retry_failed))
    return state


def _rows_so_far(state: _State, retry_failed: bool) -> Iterator[dict[str, Any]]:
    store = state.store
    keys = store.sweep["keys"]
    for job in store.jobs():
        if job.status != PLANNED:
            left_out = {"status": "skipped", "error": job.reason, "config_hash": job.config_hash}
            yield row_of(job.name, blank_result(job.overrides) | left_out, keys)
            continue
        result = None if state.fresh else store.result(job)
        if result is None or (retry_failed and result["status"] != "ok"):
            state.pending.append(job.number)
            continue
        state.done += result["status"] == "ok"
        state.failed += result["status"] != "ok"
        yield row_of(job.name, result, keys)


def _run_pending(
    state: _State,
    request: Request,
    launcher: Launcher,
    sampler: Sampler,
    trackers: Sequence[Tracker],
    progress: Progress,
) -> None:
    """Runs the missing jobs; stops early after sweep.max_failures of them."""
    most, failures = request.sweep.max_failures, 0
    summaries = launcher.run(_tasks(state, request, sampler), progress.started)
    try:
        for summary in summaries:
            if summary.unwritten:
                raise ConfigError(
                    str(summary.row["error"]), f"Then resume with --multirun sweep.resume={state.store.folder}"
                )
            state.tables.add(summary.row)
            sampler.tell(summary.number, summary.row)
            for tracker in trackers:
                tracker.tell(summary.row, state.store.folder / summary.row["job"])
            progress.finished(summary)
            failures += summary.failed
            if most is not None and failures >= most:
                print(f"stopped after {failures} failed jobs (sweep.max_failures)", file=sys.stderr)
                return
    finally:
        close = getattr(summaries, "close", None)
        if close is not None:
            close()


def _tasks(state: _State, request: Request, sampler: Sampler) -> Iterator[Task]:
    store = state.store
    conf = [str(path) for path in frozen_dirs(store.folder)]
    # The process that planned the jobs need not check that they still are what was planned.
    verify = not (state.fresh and request.launcher.name is LauncherName.in_process)
    for number in sampler.numbers():
        record = store.record(number)
        yield Task(
            record,
            str(store.folder / record["job"]),
            conf,
            store.sweep["keys"],
            retry=request.sweep.retry_failed,
            verify=verify,
            timeout_minutes=request.launcher.timeout_minutes,
        )


def _print_tables(state: _State, progress: Progress, objectives: Sequence[Objective]) -> None:
    """The table on standard output, without the jobs that were skipped; why they were, on standard error."""
    ran = (row for row in state.tables.rows() if row["status"] != "skipped")
    # The swept columns say what a job is; its number is enough to find its folder.
    shown = [row | {"job": row["job"].split("_")[0]} for row in itertools.islice(ran, _MOST_ROWS)]
    if shown:
        print_sweep(shown, str(state.store.folder / CSV))
    left_out = (job for job in state.store.jobs() if job.status == SKIPPED)
    for job in itertools.islice(left_out, _MOST_REASONS):
        print(f"skipped {job.name}: {job.reason.splitlines()[0]}", file=sys.stderr)
    if state.store.sweep["skipped"] > _MOST_REASONS:
        more = state.store.sweep["skipped"] - _MOST_REASONS
        print(f"skipped {more} more invalid jobs; {CSV} lists every reason", file=sys.stderr)
    if state.store.sweep["duplicates"]:
        print(f"left out {state.store.sweep['duplicates']} duplicates of other jobs", file=sys.stderr)
    print("; ".join([progress.counts(), *(f"best {best}" for best in progress.best())]))
    if objectives:
        best = best_trials(list(state.tables.rows()), objectives)
        wanted = ", ".join(f"{'max' if each.maximize else 'min'} {each.figure}" for each in objectives)
        print(f"best of {wanted}: jobs {', '.join(row['job'].split('_')[0] for row in best) or 'none'}")


def _report(store: Store, write_report: WriteReport) -> None:
    """The page of the sweep; one that would take long is left to the user."""
    if store.sweep["planned"] > _MOST_REPORTED:
        print(f"no report for so many jobs; write one with {command('report')} {store.folder}")
    else:
        print(f"report {write_report(store.folder)}")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM (a scheduler's goodbye) ends a sweep as Ctrl-C does: what is finished is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
