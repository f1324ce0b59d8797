# SPDX-License-Identifier: Apache-2.0
"""What a person sees while a sweep runs: one live table, or now and then a line where there is no terminal."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

from .worker import Summary, Task

_REFRESH_S = 0.25
_LEAST_PAUSE_S = 1.0  # between two lines
_PAUSE_SHARE = 0.05  # of the time so far: long sweeps do not fill their logs

# Figure -> (how it is written, whether more is better).
_FIGURES = {
    "decode_tokens_per_s_per_user": ("{:.1f} tokens/s/user", True),
    "kl_divergence": ("KL {:.4f}", False),
}


class Progress:
    """Counts and shows the jobs of a sweep on standard error. Failures are printed at once, each with its log."""

    def __init__(self, total: int, *, done: int, failed: int, skipped: int) -> None:
        self.total, self.done, self.failed, self.skipped = total, done, failed, skipped
        self._at_start = done + failed
        self._started = time.monotonic()
        self._running: set[int] = set()
        self._best: dict[str, tuple[float, str]] = {}
        self._live: Any = None
        self._next_line = self._started + _LEAST_PAUSE_S
        self._next_refresh = 0.0

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, task: Task) -> None:
        """A task was handed to a worker."""
        self._running.add(task.number)
        self._show()

    def finished(self, summary: Summary) -> None:
        """A job left its result."""
        self._running.discard(summary.number)
        if summary.failed:
            self.failed += 1
            self._say(_failure(summary))
        else:
            self.done += 1
            self.note_best(summary.row)
        self._show()

    def note_best(self, row: dict[str, Any]) -> None:
        """Remembers the row where it is the best of a figure so far."""
        for figure, (_, more) in _FIGURES.items():
            value = row.get(figure)
            if isinstance(value, (int, float)):
                best = self._best.get(figure)
                if best is None or (value > best[0] if more else value < best[0]):
                    self._best[figure] = (value, str(row["job"]))

    def counts(self) -> str:
        """One line: how many jobs are done, failed and skipped, and how many are left."""
        left = self.total - self.done - self.failed
        parts = [f"{self.done} of {self.total} jobs done", f"{self.failed} failed", f"{self.skipped} skipped"]
        return ", ".join([*parts, f"{left} to go"] if left else parts)

    def best(self) -> list[str]:
        """The best job so far by each figure that there is."""
        return [f"{_FIGURES[figure][0].format(value)} ({job})" for figure, (value, job) in self._best.items()]

    def _eta(self) -> str:
        finished = self.done + self.failed - self._at_start
        if not finished:
            return "?"
        left = self.total - self.done - self.failed
        seconds = (time.monotonic() - self._started) / finished * left
        return str(timedelta(seconds=round(seconds)))

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, soft_wrap=True, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _show(self) -> None:
        now = time.monotonic()
        if self._live is not None:
            if now >= self._next_refresh:
                self._live.update(self._table(), refresh=True)
                self._next_refresh = now + _REFRESH_S
        elif now >= self._next_line:
            best = "; best " + ", ".join(self.best()) if self._best else ""
            self._say(f"{self.counts()}, ETA {self._eta()}{best}")
            self._next_line = now + max(_LEAST_PAUSE_S, _PAUSE_SHARE * (now - self._started))

    def _table(self) -> Any:
        from rich.table import Table

        table = Table()
        for name in ("done", "running", "failed", "skipped", "ETA", "best so far"):
            table.add_column(name)
        counts = (f"{self.done}/{self.total}", len(self._running), self.failed, self.skipped, self._eta())
        table.add_row(*map(str, counts), "\n".join(self.best()))
        return table


def _failure(summary: Summary) -> str:
    message = str(summary.row["error"] or "failed").splitlines()
    more = f" (and {len(message) - 1} more lines)" if len(message) > 1 else ""
    return f"failed: {summary.row['job']}: {message[0]}{more}" + (f"\n  log: {summary.log}" if summary.log else "")
