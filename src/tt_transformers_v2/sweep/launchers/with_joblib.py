# SPDX-License-Identifier: Apache-2.0
"""Worker processes on this machine, by the process pool that joblib brings (loky)."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from ...config.sweep_schema import LauncherConfig
from ..worker import Summary, Task, lost, run_job
from . import worker_environment

_WATCH_S = 0.5
_DIED = "the worker process died: it was killed or ran out of memory"


class Joblib:
    """Keeps `workers` processes busy. A job that takes its process down fails alone."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(self, tasks: Iterator[Task], started: Callable[[Task], None]) -> Iterator[Summary]:
        from concurrent.futures.process import BrokenProcessPool

        pool = self._pool(self._workers)
        running: dict[Future[Summary], Task] = {}
        try:
            while True:
                for task in itertools.islice(tasks, self._workers - len(running)):
                    started(task)
                    running[pool.submit(run_job, task)] = task
                if not running:
                    return
                broken: list[Task] = []
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        broken.append(task)
                if broken:
                    # One process took the pool down; which one shows when the jobs run again one by one.
                    suspects = [*broken, *running.values()]
                    running.clear()
                    pool.shutdown(wait=True, kill_workers=True)
                    yield from self._one_by_one(suspects)
                    pool = self._pool(self._workers)
        finally:
            pool.shutdown(wait=True, kill_workers=True)

    def _one_by_one(self, suspects: list[Task]) -> Iterator[Summary]:
        from concurrent.futures.process import BrokenProcessPool

        for task in suspects:
            pool = self._pool(1)
            try:
                yield pool.submit(run_job, task).result()
            except BrokenProcessPool:
                yield lost(task, _DIED)
            finally:
                pool.shutdown(wait=True, kill_workers=True)

    def _pool(self, workers: int) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        environment = worker_environment(self._workers)
        return ProcessPoolExecutor(workers, env=environment, initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent: int) -> None:
    """Lets this worker end when the sweep's own process is gone, killed perhaps; loky's would wait for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def open_launcher(config: LauncherConfig) -> Joblib:
    """A launcher with `config.workers` processes, started with its first task."""
    return Joblib(config.workers)
