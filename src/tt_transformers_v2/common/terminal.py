# SPDX-License-Identifier: Apache-2.0
"""The terminal: a progress bar on standard error, a console on standard output."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class ProgressLine:
    """A rich progress bar on standard error; silent where that is no terminal."""

    def __init__(self, title: str, *, enabled: bool = True) -> None:
        self.title = title
        self.enabled = enabled and sys.stderr.isatty()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> ProgressLine:
        if self.enabled:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def update(self, stage: str, done: int, total: int | None) -> None:
        """`done` of `total` steps of `stage` are finished; None where nobody knows how many there will be."""
        if self._bar is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(f"{self.title}: {stage}", total=total)
        self._bar.update(self._tasks[stage], completed=done, total=total)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def console(width: int | None = None) -> Any:
    """A console on standard output that neither highlights numbers nor breaks lines of its own."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=width)
