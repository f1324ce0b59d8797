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
_LAYERS = ("layer", "option", "sites", "KL nearest", "KL calibrated", "calibrated / nearest")


def search_sections(sweeps: Sequence[Sweep]) -> str:
    """HTML of a section for every job that searched; empty where none did."""
    found = [(sweep, job) for sweep in sweeps for job in sweep.jobs if job.finished and _section(job)]
    own = ("".join(_html(sweep, job)) for sweep, job in found[:_MOST])
    return _side_by_side([job for _, job in found]) + "".join(own)


def _side_by_side(jobs: Sequence[Job]) -> str:
    """Fronts in one picture, where searches of the same text and model differ in search.method or search.rounding."""
    alike: dict[tuple[Any, ...], dict[tuple[str, str], Mapping[str, Any]]] = {}
    for job in jobs:
        section = _section(job)
        if section and section.get("points") and section.get("method"):
            same = tuple(section[key] for key in ("basis", "text", "tokens", "objective", "verified_on"))
            same += tuple(section["base"][key] for key in ("decode_tokens_per_s_per_user", "ttft_ms"))
            alike.setdefault(same, {}).setdefault((section["method"], _rounding_of(section)), section)
    return "".join(map(_one_picture, (found for found in alike.values() if len(found) > 1)))


def _one_picture(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    names = ("method", "rounding")
    differing = [i for i, name in enumerate(names) if len({key[i] for key in found}) > 1]
    labelled = {", ".join(key[i] for i in differing): section for key, section in sorted(found.items(), reverse=True)}
    by = " and ".join(names[i] for i in differing)
    drawing = pictures.fronts(labelled, {"method": "method of sensitivities"}.get(by, by))
    return f'<section class="card"><h2>Search by {by}</h2>{_image(drawing)}</section>'


def _rounding_of(section: Mapping[str, Any]) -> str:
    rounding = section.get("rounding")
    return " or ".join(rounding["choices"]) if rounding else "nearest"


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
        yield from _weights_commands(section["points"])
        yield _image(pictures.front(section))
    yield _image(pictures.heat_map(section))
    yield from _rounding(section.get("rounding"))
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


def _weights_commands(points: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How to get the weights of the points that have calibrated ones."""
    if any(point.get("weights_command") for point in points):
        rows = [
            (point["name"], point.get("calibrated_on") or "the model's own weights", point.get("weights_command") or "")
            for point in points
        ]
        yield from html_table(("", "weights calibrated on", "written for quantize.weights=DIR by"), rows)


def _rounding(rounding: Mapping[str, Any] | None) -> Iterator[str]:
    """Each layer's sensitivity rounded to nearest and calibrated, and the text that it was calibrated on."""
    if not rounding:
        return
    yield f"<p>Weights calibrated on {rounding['tokens']} tokens of {escape(str(rounding['text']))}.</p>"
    for line in rounding["warnings"]:
        yield f"<p>{escape(str(line))}</p>"
    yield '<p class="faint small">KL added by the sites of a layer, one at a time, before and after calibration:</p>'
    yield from html_table(_LAYERS, (_layer(row) for row in rounding["layers"]))


def _layer(row: Mapping[str, Any]) -> tuple[str, ...]:
    before, after = row["nearest"], row["calibrated"]
    share = f"{after / before:.2f}" if before > 0 else ""
    return str(row["layer"]), row["option"], str(row["sites"]), f"{before:.5f}", f"{after:.5f}", share


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
