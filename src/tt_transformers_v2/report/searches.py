# SPDX-License-Identifier: Apache-2.0
"""Searches among the jobs of a report: the front as table and picture, and what each layer bears.

Pictures are images of their own inside the page: their styles follow the reader's theme, and nothing in them can run.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ..common.drawing import Drawing
from ..search import search_pictures as pictures
from .html_table import html_table
from .loading import Job, Sweep

_MOST = 8  # searches shown; further ones have their own reports
_COLUMNS = (
    "",
    "tokens/s/user, predicted",
    "TTFT ms, predicted",
    "KL",
    "95 %",
    "top-1",
    "KL on the search's text",
    "file",
)


def search_sections(sweeps: Sequence[Sweep]) -> str:
    """HTML of a section for every job that searched; empty where none did."""
    found = [(sweep, job) for sweep in sweeps for job in sweep.jobs if job.finished and _section(job)]
    return _by_method([job for _, job in found]) + "".join("".join(_html(sweep, job)) for sweep, job in found[:_MOST])


def _by_method(jobs: Sequence[Job]) -> str:
    """Both fronts in one picture, where two searches of the same text and base differ in search.method."""
    alike: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for job in jobs:
        section = _section(job)
        if section and section.get("points") and section.get("method"):
            same = (section["basis"], section["text"], section["tokens"], section["objective"], str(section["base"]))
            alike.setdefault(same, {}).setdefault(section["method"], section)
    pictures_of = [
        _image(pictures.two_fronts(found["measured"], found["gradient"]))
        for found in alike.values()
        if {"measured", "gradient"} <= set(found)
    ]
    if not pictures_of:
        return ""
    return f'<section class="card"><h2>Search by method</h2>{"".join(pictures_of)}</section>'


def _section(job: Job) -> Mapping[str, Any] | None:
    section = job.result.get("search")
    return section if isinstance(section, dict) and "sensitivities" in section else None


def _html(sweep: Sweep, job: Job) -> Iterator[str]:
    section = _section(job)
    assert section is not None
    title = "Search" if job.name == sweep.name else f"Search of job {job.name}"
    yield f'<section class="card"><h2>{escape(title)}</h2>'
    yield f'<p class="faint small">{escape(str(section["basis"]))}</p>'
    if section.get("points"):
        for point in section["points"]:
            if point["name"] == section["chosen"]:
                yield f"<p><b>{escape(point['name'])}</b>: {escape(point['sentence'])}</p>"
        yield from _estimates(section.get("estimates"))
        yield f'<p class="faint small">verified on {escape(str(section["verified_on"]))}</p>'
        yield from html_table(_COLUMNS, _rows(section))
        yield _image(pictures.front(section))
    yield _image(pictures.heat_map(section))
    yield "</section>"


def _estimates(estimates: Mapping[str, Any] | None) -> Iterator[str]:
    """Estimated against measured, for the changes that were both."""
    if not estimates:
        return
    scale = "unscaled" if estimates["scale"] is None else f"times {estimates['scale']:.2f}"
    about = f"Sensitivities by gradients, {estimates['samples']} samples, {scale}; those that were also measured:"
    yield f"<p>{escape(about)}</p>"
    checks = estimates["checks"]
    rows = ((each["change"], f"{each['estimated']:.5f}", f"{each['measured']:.5f}") for each in checks)
    yield from html_table(("change", "KL estimated", "KL measured"), rows)


def _rows(section: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in (*section["points"], *section["presets"]):
        interval = "" if row["kl_low"] is None else f"{row['kl_low']:.4f} to {row['kl_high']:.4f}"
        yield (
            row["name"],
            f"{row['decode_tokens_per_s_per_user']:.2f}",
            f"{row['ttft_ms']:.1f}",
            f"{row['kl_divergence']:.4f}",
            interval,
            f"{row['top1']:.1%}",
            f"{row['searched_kl']:.4f}",
            row.get("tuning", ""),
        )


def _image(drawing: Drawing) -> str:
    data = base64.b64encode(drawing.svg().encode()).decode()
    return f'<p><img alt="{escape(drawing.title)}" src="data:image/svg+xml;base64,{data}"></p>'
