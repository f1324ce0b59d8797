# SPDX-License-Identifier: Apache-2.0
"""Slurm jobs, or local processes in their manner, by submitit. Several jobs of a sweep share one of them."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError
from ...config.sweep_schema import LauncherConfig, LauncherName
from ..worker import Summary, Task, lost, run_job
from . import worker_environment

_POLL_S = {"local": 0.1, "slurm": 2.0}
_NO_LIMIT_MINUTES = 7 * 24 * 60
LOGS = "submitit"


def run_chunk(tasks: list[Task]) -> list[Summary]:
    """What one of submitit's jobs does."""
    return [run_job(task) for task in tasks]


class Submitit:
    """Keeps `workers` of submitit's jobs queued or running, each with `jobs_per_task` jobs of the sweep."""

    def __init__(self, config: LauncherConfig) -> None:
        self._config = config
        self._cluster = "slurm" if config.name is LauncherName.submitit_slurm else "local"

    def run(self, tasks: Iterator[Task], started: Callable[[Task], None]) -> Iterator[Summary]:
        executor: Any = None
        again: list[list[Task]] = []
        running: dict[Any, list[Task]] = {}
        try:
            while True:
                while len(running) < self._config.workers:
                    chunk = again.pop() if again else list(itertools.islice(tasks, self._config.jobs_per_task))
                    if not chunk:
                        break
                    for task in chunk:
                        started(task)
                    executor = executor or self._executor(Path(chunk[0].folder).parent / LOGS)
                    running[self._submit(executor, chunk)] = chunk
                if not running:
                    return
                for job in [job for job in running if job.done()]:
                    yield from self._outcome(job, running.pop(job), again)
                time.sleep(_POLL_S[self._cluster])
        finally:
            for job in running:
                job.cancel()

    def _outcome(self, job: Any, chunk: list[Task], again: list[list[Task]]) -> Iterator[Summary]:
        """The summaries of a finished job; where its process died, the job it died in fails and the rest runs again."""
        error = job.exception()
        if error is None:
            yield from job.result()
            return
        left = list(chunk)
        while left and _has_result(left[0]):
            yield lost(left.pop(0), "")
        if left:
            yield lost(left.pop(0), f"the worker process died: {str(error).splitlines()[0]} ({job.paths.stderr})")
        if left:
            again.append(left)

    def _submit(self, executor: Any, chunk: list[Task]) -> Any:
        # On a cluster Slurm gives every job its own cores.
        with _environment(self._config.workers if self._cluster == "local" else 1):
            return executor.submit(run_chunk, chunk)

    def _executor(self, logs: Path) -> Any:
        import submitit

        config = self._config
        minutes = _NO_LIMIT_MINUTES
        if config.timeout_minutes is not None:
            minutes = math.ceil(config.timeout_minutes * config.jobs_per_task) + 1
        try:
            executor = submitit.AutoExecutor(folder=logs, cluster=self._cluster)
            executor.update_parameters(timeout_min=minutes, cpus_per_task=config.cpus, name="tt-sweep")
            if config.memory_gb is not None:
                executor.update_parameters(mem_gb=config.memory_gb)
            if self._cluster == "slurm":
                executor.update_parameters(**{f"slurm_{name}": value for name, value in config.slurm.items()})
        except (RuntimeError, NameError, TypeError) as error:
            raise ConfigError(f"submitit rejects the settings: {error}.", "See docs/sweeps.md, Launchers.") from None
        return executor


def _has_result(task: Task) -> bool:
    return (Path(task.folder) / "result.json").exists()


@contextmanager
def _environment(workers: int) -> Iterator[None]:
    """submitit's processes inherit the environment: for their start it is that of a worker."""
    before = dict(os.environ)
    os.environ.update(worker_environment(workers))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def open_launcher(config: LauncherConfig) -> Submitit:
    """A launcher for Slurm or for this machine, as `config` says. Raises ConfigError where there is no Slurm."""
    import shutil

    if config.name is LauncherName.submitit_slurm and shutil.which("sbatch") is None:
        raise ConfigError("Slurm is not available: sbatch is not on the PATH.", "Use launcher=submitit_local.")
    return Submitit(config)
