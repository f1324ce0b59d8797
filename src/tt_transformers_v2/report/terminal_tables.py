# SPDX-License-Identifier: Apache-2.0
"""Jobs, figures and differences as tables in the terminal, and as plain JSON."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ..run.result_files import look_up
from .compare import Change
from .document import UNTYPED, swept_knobs
from .facts import job_facts
from .loading import Job
from .metrics import METRICS, TEXTS, Metric, shown

# Metrics of the table of a sweep; the others are in the result of each job.
MAIN = (
    "measured_decode_tokens_per_s_per_user",
    "decode_tokens_per_s_per_user",
    "ttft_ms",
    "memory_gib",
    "kl_divergence",
    "top1",
    "pcc",
    "preflight_worst_l1",
    "preflight_failed_ops",
)
_PLAIN_WIDTH = 10_000  # columns where the output is no terminal, so that no cell is broken


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table on standard output: ruled in a terminal, columns apart by spaces elsewhere. `right` are aligned so."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(highlight=False) if terminal else Console(file=io.StringIO(), width=_PLAIN_WIDTH)
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=terminal)
    for head in heads:
        table.add_column(Text(head), justify="right" if head in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    if not terminal:
        for line in console.file.getvalue().splitlines():  # type: ignore[attr-defined]
            print(line.rstrip())


def say(text: str) -> None:
    """A line on standard output, as it is."""
    from rich.text import Text

    from ..common.terminal import console

    console().print(Text(text))


def metrics_of(jobs: Sequence[Job], names: Iterable[str] = MAIN) -> list[Metric]:
    """Those of `names` that some job has, in the order of METRICS."""
    wanted = set(names)
    return [m for m in METRICS if m.name in wanted and any(m.of(job.result) is not None for job in jobs)]


def print_jobs(
    jobs: Sequence[Job],
    *,
    among: Sequence[Job] | None = None,
    marks: Sequence[str] | None = None,
    extra: Iterable[str] = (),
) -> None:
    """One row per job: what was swept `among` these (default: the jobs themselves), status, the main figures and
    `extra` ones; `marks` as a first column."""
    knobs = swept_knobs(among or jobs)
    metrics = metrics_of(jobs, (*MAIN, *extra))
    words = ["bound"] if any(look_up(job.result, TEXTS["bound"]) for job in jobs) else []
    reasons = ["reason"] if any(job.reason for job in jobs) else []
    heads = [*([""] if marks else []), "job", *knobs, "status", *map(_head, metrics), *words, *reasons]
    rows = [
        [
            *([marks[index]] if marks else []),
            job.name,
            *(job.typed.get(key, UNTYPED) for key in knobs),
            job.status,
            *(shown(metric, metric.of(job.result)) for metric in metrics),
            *(str(look_up(job.result, TEXTS[word]) or "") for word in words),
            *([job.reason] if reasons else []),
        ]
        for index, job in enumerate(jobs)
    ]
    print_table(heads, rows, right=[_head(metric) for metric in metrics])


def print_job(job: Job) -> None:
    """All that one result says: its overrides, figures and facts."""
    say(f"{job.name}: {job.status}" + (f", {job.reason}" if job.reason else ""))
    rows = [("overrides", " ".join(job.overrides) or "none"), ("configuration", job.config_hash or "unknown")]
    rows += [
        (metric.label, f"{shown(metric, figure)} {metric.unit}".strip())
        for metric in METRICS
        if (figure := metric.of(job.result)) is not None
    ]
    rows += job_facts(job.result)
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        say(f"  {label:{width}}  {text}")


def print_changes(rows: Sequence[tuple[str, Change]], *, first: str = "job") -> None:
    """Figures before and after, each with what it belongs to in the column `first`."""
    by_name = {metric.name: metric for metric in METRICS}
    lines = [
        (
            where,
            _head(by_name[change.metric]),
            shown(by_name[change.metric], change.before),
            shown(by_name[change.metric], change.after),
            "" if change.percent is None else f"{change.percent:+.1f} %",
            {"same": ""}.get(change.verdict, change.verdict),
        )
        for where, change in rows
    ]
    print_table((first, "figure", "A", "B", "change", ""), lines, right=("A", "B", "change"))


def job_json(job: Job) -> dict[str, Any]:
    """A job as plain JSON: what it is and every figure it has, by name and in the units of METRICS."""
    figures = {metric.name: metric.of(job.result) for metric in METRICS}
    return {
        "job": job.name,
        "status": job.status,
        "reason": job.reason,
        "overrides": job.overrides,
        "config_hash": job.config_hash,
        "figures": {name: value for name, value in figures.items() if value is not None},
    }


def _head(metric: Metric) -> str:
    unit = f" [{metric.unit}]" if metric.unit else ""
    return f"{metric.label}{unit}"
