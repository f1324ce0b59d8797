# SPDX-License-Identifier: Apache-2.0
"""Calibrated weights among the jobs of a report: quality on unseen text, and each layer's error before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from .html_table import html_table
from .loading import Job, Sweep

_MOST = 8  # jobs shown; further ones have their own reports
_VERIFIED = ("verified on", "tokens", "numerics", "KL nearest", "KL calibrated", "top-1 nearest", "top-1 calibrated")
_LAYERS = ("layer", "matrices", "error nearest", "error calibrated", "calibrated / nearest")


def calibrated_sections(sweeps: Sequence[Sweep]) -> str:
    """HTML of a section for every job that calibrated weights; empty where none did."""
    found = [(sweep, job) for sweep in sweeps for job in sweep.jobs if job.finished and _section(job)]
    return "".join("".join(_html(sweep, job)) for sweep, job in found[:_MOST])


def _section(job: Job) -> Mapping[str, Any] | None:
    section = job.result.get("quantize")
    return section if isinstance(section, dict) and "layers" in section else None


def _html(sweep: Sweep, job: Job) -> Iterator[str]:
    section = _section(job)
    assert section is not None
    title = "Calibrated weights" if job.name == sweep.name else f"Calibrated weights of job {job.name}"
    yield f'<section class="card"><h2>{escape(title)}</h2>'
    yield f'<p class="faint small">{escape(str(section["basis"]))}</p>'
    yield f"<p>Calibrated on {section['tokens']} tokens of {escape(str(section['text']))}.</p>"
    for line in section["warnings"]:
        yield f"<p>{escape(str(line))}</p>"
    yield from html_table(_VERIFIED, (_verified(row) for row in section["verified"]))
    yield '<p class="faint small">Errors of outputs on the calibration text, relative to the outputs:</p>'
    yield from html_table(_LAYERS, (_layer(row) for row in section["layers"]))
    yield "</section>"


def _verified(row: Mapping[str, Any]) -> tuple[str, ...]:
    before, after = row["nearest"], row["calibrated"]
    return (
        f"{row['how']} ({row['text']})",
        str(row["tokens"]),
        row["numerics"],
        *(f"{each['kl_divergence']:.4f}" for each in (before, after)),
        *(f"{each['top1']:.1%}" for each in (before, after)),
    )


def _layer(row: Mapping[str, Any]) -> tuple[str, ...]:
    before, after = row["nearest"], row["calibrated"]
    share = f"{after / before:.2f}" if before else ""
    return str(row["layer"]), str(row["matrices"]), f"{before:.2%}", f"{after:.2%}", share
