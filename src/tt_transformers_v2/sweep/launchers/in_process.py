# SPDX-License-Identifier: Apache-2.0
"""One job after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...config.sweep_schema import LauncherConfig
from ..worker import Summary, Task, run_job


class InProcess:
    """The default launcher: no start-up time and no copies."""

    def run(self, tasks: Iterator[Task], started: Callable[[Task], None]) -> Iterator[Summary]:
        for task in tasks:
            started(task)
            yield run_job(task)


def open_launcher(config: LauncherConfig) -> InProcess:
    """The launcher; nothing of `config` matters here."""
    return InProcess()
