# SPDX-License-Identifier: Apache-2.0
"""The `search` section of a result: sensitivities, the front and what verified it, and a sentence for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.files import csv_text, write_atomically
from ..config.layers import write_select
from ..config.resolve import Experiment
from ..config.search_schema import Objective, SearchMethod
from .costs import step_us
from .front_export import PointFile, write_point
from .rounding_result import rounding_record
from .roundings import calibrated_layers
from .sensitivity import Change, Sensitivities
from .sentence import in_words
from .subject import Subject, figures
from .target import Divergence
from .verify import Front, Point, Preset, dominated

_COLUMNS = (
    "name",
    "decode_tokens_per_s_per_user",
    "ttft_ms",
    "bytes_per_chip",
    "kl_divergence",
    "kl_low",
    "kl_high",
    "top1",
    "pcc",
    "searched_kl",
    "estimated_kl",
    "dominated",
    "tuning",
    "tttv1_json",
    "tt_xla_json",
    "calibrated_on",
    "weights_command",
    "sentence",
)


def sensitivity_rows(subject: Subject, measured: Sensitivities) -> dict[str, Any]:
    """What was measured of single changes, and on what."""
    settings, base = subject.settings, measured.base
    rows = [_row(subject, measured, change) for change in sorted(measured.changes(), key=_in_order)]
    return {
        "basis": f"emulated ({settings.numerics} numerics) against float32 reference; {subject.source.basis}; speed "
        "predicted",
        "text": subject.text,
        "tokens": subject.seen.numel(),
        "window": settings.window,
        "space": {site: [option.text for option in options] for site, options in subject.space.options.items()},
        "rounding": None if subject.calibrated is None else rounding_record(subject, measured),
        "base": _divergence(base) | figures(subject.base),
        "method": str(measured.method),
        "estimates": _estimates(subject, measured),
        "sensitivities": rows,
        "sensitivity_cost": {
            "measured_now": measured.new,
            "seconds_each": measured.seconds / measured.new if measured.new else None,
            "layers_each": measured.layers / measured.new if measured.new else None,
            "layers_of_a_whole_run": subject.space.num_layers,
        },
        "not_measured": _left_out(measured),
    }


def search_section(
    folder: Path,
    front: Front,
    points: Sequence[Point],
    presets: Sequence[Preset],
    chosen: Point | None,
    left_out: int,
) -> dict[str, Any]:
    """The front, verified, with its files written under `folder`."""
    subject = front.subject
    objective = subject.settings.objective

    def time(experiment: Experiment) -> float:
        return step_us(experiment, objective)

    compared = [
        {
            "name": preset.name,
            **figures(preset.experiment),
            **_measured(preset),
            "dominated": dominated(preset, points, time),
        }
        for preset in presets
    ]
    reference = next((row for row in compared if row["name"] == "precision=performance"), compared[0])
    rows = []
    for number, point in enumerate(points):
        name = f"point_{number:02d}"
        row = {"name": name, "steps": point.steps, **figures(point.experiment), **_measured(point)}
        row |= {
            "calibrated_on": _calibrated_on(subject, point),
            "estimated_kl": point.estimated_kl,
            "dominated": dominated(point, points, time),
            "options": _options(point),
            "sentence": _sentence(front, point, row, reference, objective),
        }
        skip = None if subject.calibrated is None else subject.calibrated.text.skip
        row |= write_point(folder, PointFile(name, row["sentence"], skip), point.experiment, point.assignment)
        rows.append(row)
    whole = front.seen.seconds
    found = {
        "whole_run_seconds": sum(whole) / len(whole) if whole else None,
        "objective": str(objective),
        "verified_on": f"{subject.unseen.numel()} other tokens of {subject.text}, {subject.settings.verify_numerics} "
        "numerics",
        "points": rows,
        "points_not_verified_in_time": left_out,
        "presets": compared,
        "chosen": None if chosen is None else rows[list(points).index(chosen)]["name"],
        "beats_performance": _verdict(rows, reference),
    }
    write_atomically(folder / "search.csv", csv_text((*rows, *compared), _COLUMNS))
    return found


def _row(subject: Subject, measured: Sensitivities, change: Change) -> dict[str, Any]:
    (place, option), base = change, measured.base
    run = measured.found.get(change)
    return {
        "layer": place.layer if place.layer >= 0 else None,
        "site": place.site,
        "option": option.text,
        "rounding": str(option.rounding),
        "method": str(SearchMethod.gradient if run is None else SearchMethod.measured),
        "kl_change": measured.kl_change(change),
        "kl_estimated": measured.scaled(change),
        "top1_change": None if run is None else run.top1 - base.top1,
        "pcc_change": None if run is None else run.pcc - base.pcc,
        "saves_us": subject.costs.saves[change],
    }


def _calibrated_on(subject: Subject, point: Point) -> str | None:
    """What the weights of a point were calibrated on; None where they are the model's own."""
    if subject.calibrated is None or not calibrated_layers(point.assignment):
        return None
    text = subject.calibrated.text.tokens
    return f"{text.count} tokens of {text.name}"


def _estimates(subject: Subject, measured: Sensitivities) -> dict[str, Any] | None:
    """How estimates by gradients were made, and how those that were also measured compare; None without any."""
    if measured.method is not SearchMethod.gradient:
        return None
    settings = subject.settings
    return {
        "samples": settings.gradient_samples,
        "seconds": measured.estimate_seconds,
        "scale": measured.scale,
        "checks": [
            {
                "change": f"{place} {option}",
                "estimated": measured.estimated[place, option],
                "measured": divergence.kl - measured.base.kl,
            }
            for (place, option), divergence in measured.found.items()
        ],
    }


def _in_order(change: Change) -> tuple[str, int, str]:
    place, option = change
    return place.site, place.layer, option.text


def _left_out(measured: Sensitivities) -> dict[str, list[str]]:
    """Site and option -> layers that were not measured in time."""
    found: dict[str, list[int]] = {}
    for place, option in measured.left_out:
        found.setdefault(f"{place.site} {option}", []).append(max(place.layer, 0))
    return {what: [write_select(layers)] for what, layers in found.items()}


def _divergence(found: Divergence) -> dict[str, float]:
    return dataclasses.asdict(found)


def _measured(found: Point | Preset) -> dict[str, Any]:
    verified, searched = found.verified, found.searched
    return {
        "kl_divergence": verified.kl,
        "kl_low": verified.kl_low,
        "kl_high": verified.kl_high,
        "top1": verified.top1,
        "pcc": verified.pcc,
        "searched_kl": searched.kl,
        "searched_top1": searched.top1,
    }


def _options(point: Point) -> dict[str, dict[str, str]]:
    """Site -> option -> layers."""
    found: dict[str, dict[str, list[int]]] = {}
    for place, option in sorted(point.assignment.items()):
        found.setdefault(place.site, {}).setdefault(option.text, []).append(place.layer)
    return {
        site: {text: "all" if layers == [-1] else write_select(layers) for text, layers in options.items()}
        for site, options in found.items()
    }


def _sentence(front: Front, point: Point, row: dict[str, Any], reference: dict[str, Any], objective: Objective) -> str:
    base = figures(front.subject.base)
    if objective is Objective.decode:
        key, unit, sign = "decode_tokens_per_s_per_user", "tokens/s/user", 1
    else:
        key, unit, sign = "ttft_ms", "ms to the first token", -1
    gain = 100 * (row[key] / base[key] - 1)
    against = 100 * sign * (row[key] / reference[key] - 1)
    words = in_words(front.subject.space, point.assignment)
    return (
        f"{words}: {row[key]:.2f} {unit} predicted ({gain:+.1f} % over the most accurate options, {against:+.1f} % "
        f"against {reference['name']}) at KL {point.verified.kl:.4f}, top-1 {point.verified.top1:.1%}"
    )


def _verdict(rows: Sequence[dict[str, Any]], reference: dict[str, Any]) -> dict[str, Any]:
    """Whether a verified point is better than the preset in both KL and predicted speed; the closest one if none is."""
    speed, kl = reference["decode_tokens_per_s_per_user"], reference["kl_divergence"]
    better = [row for row in rows if row["decode_tokens_per_s_per_user"] > speed and row["kl_divergence"] < kl]
    best = min(better, key=lambda row: row["kl_divergence"], default=None)
    if best is not None:
        return {
            "preset": reference["name"],
            "point": best["name"],
            "speed_percent": 100 * (best["decode_tokens_per_s_per_user"] / speed - 1),
            "kl_ratio": best["kl_divergence"] / kl,
        }
    faster = [row for row in rows if row["decode_tokens_per_s_per_user"] > speed]
    closest = min(faster, key=lambda row: row["kl_divergence"], default=None)
    why = (
        f"no verified point is faster than {reference['name']} ({speed:.2f} tokens/s/user)"
        if closest is None
        else f"the most accurate verified point that is faster, {closest['name']}, has KL "
        f"{closest['kl_divergence']:.4f} compared with {kl:.4f}"
    )
    return {"preset": reference["name"], "point": None, "why": why}
