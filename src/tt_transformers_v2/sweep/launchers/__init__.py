# SPDX-License-Identifier: Apache-2.0
"""Where the jobs of a sweep run. A launcher takes tasks one at a time, so that a sweep of any length stays small."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Protocol

from ...common.checkout import PACKAGE
from ...common.errors import ConfigError
from ...config.sweep_schema import LauncherConfig, LauncherName
from ..worker import Summary, Task

_NEEDS = {
    LauncherName.joblib: "joblib",
    LauncherName.submitit_local: "submitit",
    LauncherName.submitit_slurm: "submitit",
    LauncherName.ray: "ray",
}


class Launcher(Protocol):
    """Runs tasks and yields what became of each, in whatever order they end.

    Closing the iterator stops what is still running. `started` is told of every task that is handed out.
    """

    def run(self, tasks: Iterator[Task], started: Callable[[Task], None]) -> Iterator[Summary]:
        """Takes tasks as there is room for them and yields a summary for each."""
        ...


def open_launcher(config: LauncherConfig) -> Launcher:
    """The launcher that `config` names. Raises ConfigError when the package it needs is not installed."""
    needed = _NEEDS.get(config.name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        raise ConfigError(
            f"launcher={config.name} needs {needed}, which is not installed.",
            f"Run pip install 'tt-transformers-v2[{needed}]', or use launcher=in_process.",
        )
    module = config.name.value if needed is None else f"with_{needed}"
    launcher: Launcher = importlib.import_module(f"{__name__}.{module}").open_launcher(config)
    return launcher


def worker_environment(workers: int) -> dict[str, str]:
    """Environment variables of a worker: it finds this package, and `workers` of them share the machine's cores."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    found = [str(PACKAGE.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(found))} | {
        name: os.environ.get(name, threads) for name in limits
    }
