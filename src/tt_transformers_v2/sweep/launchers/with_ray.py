# SPDX-License-Identifier: Apache-2.0
"""ray tasks, on a cluster or on one that is started on this machine."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

from ...config.sweep_schema import LauncherConfig
from ..worker import Summary, Task, lost, run_job
from . import worker_environment


class Ray:
    """Keeps `workers` ray tasks running, each asking for `cpus` cores."""

    def __init__(self, config: LauncherConfig) -> None:
        self._config = config

    def run(self, tasks: Iterator[Task], started: Callable[[Task], None]) -> Iterator[Summary]:
        import ray
        from ray.exceptions import RayError

        own_cluster = not ray.is_initialized()
        if own_cluster:
            self._start(ray)
        remote = ray.remote(num_cpus=self._config.cpus, max_retries=0)(run_job)
        running: dict[Any, Task] = {}
        try:
            while True:
                for task in itertools.islice(tasks, self._config.workers - len(running)):
                    started(task)
                    running[remote.remote(task)] = task
                if not running:
                    return
                (reference,), _ = ray.wait(list(running), num_returns=1)
                task = running.pop(reference)
                try:
                    yield ray.get(reference)
                except RayError as error:
                    yield lost(task, f"the ray worker died: {str(error).splitlines()[0]}")
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            if own_cluster:
                ray.shutdown()

    def _start(self, ray: Any) -> None:
        config = self._config
        options: dict[str, Any] = {"address": config.address} if config.address else {}
        if not config.address:
            # ray would not start tasks that ask for more cores than it sees.
            cores = max(os.cpu_count() or 1, config.workers * config.cpus)
            options = {"num_cpus": cores, "include_dashboard": False}
        environment = {"env_vars": worker_environment(config.workers)}
        ray.init(runtime_env=environment, log_to_driver=False, logging_level="error", **options)


def open_launcher(config: LauncherConfig) -> Ray:
    """A launcher on the cluster at `config.address`; without one, on a cluster of this machine's own."""
    return Ray(config)
