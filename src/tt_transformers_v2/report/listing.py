# SPDX-License-Identifier: Apache-2.0
"""What lies under outputs/: sweeps and single runs, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..common.command_names import command
from ..common.errors import ConfigError
from ..run.result_files import RESULT_FILE
from .document import held_overrides, swept_knobs
from .loading import Sweep, as_utc, read_sweep

MOST_NAMED = 6  # values of a knob; more are counted
DEPTH = 2  # folders between the root and a sweep or run: outputs/sweeps/DATE


@dataclass(frozen=True)
class Entry:
    """One sweep or run: its folder, when it was started or else written, jobs by status, and what was swept or, in a
    run, typed. `problem` stands in for all but the folder where it cannot be read."""

    folder: Path
    when: str
    kind: str
    jobs: dict[str, int]
    about: str
    problem: str = ""


def entries(root: Path, most: int | None = None) -> list[Entry]:
    """The `most` newest (default: all) sweeps and runs under `root`.

    Raises ConfigError where there is no such folder.
    """
    if not root.is_dir():
        raise ConfigError(
            f"{root} does not exist.", f"Run `{command('run')}` first, or pass the folder of your results."
        )
    return [_entry(folder) for _, folder in sorted(_found(root), reverse=True)[:most]]


def _found(root: Path) -> Iterator[tuple[float, Path]]:
    """Time of change and folder of every sweep and run; a job of a sweep is no run of its own."""
    patterns = ["/".join(["*"] * depth + [RESULT_FILE]) for depth in range(DEPTH + 2)]
    results = {path.parent: path for pattern in patterns for path in root.glob(pattern)}
    times: dict[Path, float] = {}
    for folder, path in results.items():
        is_job = folder != root and (folder.name.isdigit() or _is_sweep(folder.parent))
        owner = folder.parent if is_job else folder
        times[owner] = max(times.get(owner, 0.0), path.stat().st_mtime)
    return ((time, folder) for folder, time in times.items())


def _is_sweep(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("multirun.yaml", "sweep.json", "jobs.jsonl", "results.csv"))


def _entry(folder: Path) -> Entry:
    kind = "run" if (folder / RESULT_FILE).is_file() else "sweep"
    try:
        sweep = read_sweep(folder)
    except ConfigError as error:
        return Entry(folder, "", kind, {}, "", str(error))
    statuses = [job.status for job in sweep.jobs]
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
    return Entry(folder, sweep.when() or as_utc(folder.stat().st_mtime), kind, counts, about(sweep, kind))


def about(sweep: Sweep, kind: str) -> str:
    """What was swept, with the values; of a run, what was typed."""
    knobs = swept_knobs(sweep.jobs)
    if kind == "run" or not knobs:
        return " ".join(held_overrides(sweep.jobs)) or "defaults"
    return " ".join(f"{key}={_choices(values)}" for key, values in knobs.items())


def _choices(values: list[str]) -> str:
    distinct = dict.fromkeys(values)
    return ",".join(distinct) if len(distinct) <= MOST_NAMED else f"({len(distinct)} values)"
