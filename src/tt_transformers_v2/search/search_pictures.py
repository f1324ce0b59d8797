# SPDX-License-Identifier: Apache-2.0
"""A search in two pictures, drawn from the `search` section of a result: what each layer bears, and the front."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.drawing import Box, Disc, Drawing, Line, Words, require_matplotlib
from ..common.errors import ConfigError
from ..common.files import write_atomically

HEAT_MAP, FRONT = "sensitivity", "front"
_LEFT, _TOP, _CELL, _ROW = 170.0, 96.0, 24.0, 22.0
_LETTER = 6.6  # the width of most, in labels
_FAINTEST = 0.06  # opacity of the smallest change, which must be told from the page
_FRONT_WIDTH, _FRONT_HEIGHT = 760.0, 520.0
_FRONT_COLORS = ("decode", "prefill", "kv", "collectives")


def write_pictures(folder: Path, section: Mapping[str, Any]) -> list[str]:
    """Writes the pictures of a section into `folder`, as SVG and, where matplotlib is installed, as PNG; their names.

    Raises ConfigError when a file cannot be written.
    """
    drawings = {HEAT_MAP: heat_map(section)}
    if section.get("points"):
        drawings[FRONT] = front(section)
    names = []
    for name, drawing in drawings.items():
        write_atomically(folder / f"{name}.svg", drawing.svg())
        names.append(f"{name}.svg")
        if _can_png():
            write_atomically(folder / f"{name}.png", drawing.png())
            names.append(f"{name}.png")
    return names


def _can_png() -> bool:
    try:
        require_matplotlib()
    except ConfigError:
        return False
    return True


def heat_map(section: Mapping[str, Any]) -> Drawing:
    """KL added by each single change: a column per layer, a row per site and option; the colour is logarithmic."""
    rows: dict[tuple[str, str], dict[int | None, Mapping[str, Any]]] = {}
    for row in section["sensitivities"]:
        rows.setdefault((row["site"], row["option"]), {})[row["layer"]] = row
    layers = sorted({layer for found in rows.values() for layer in found if layer is not None})
    changes = [row["kl_change"] for found in rows.values() for row in found.values() if row["kl_change"] > 0]
    low, high = (min(changes), max(changes)) if changes else (1e-6, 1.0)
    left = max(_LEFT, 16 + _LETTER * max((len(f"{site} {option}") for site, option in rows), default=0))
    width = max(left + _CELL * max(len(layers), 1) + 40, 640.0)
    drawing = Drawing(width, _TOP + _ROW * len(rows) + 96, "KL added by single changes, layer by layer")
    drawing.add(Words(20, 32, "Sensitivity of each layer: KL added by a single change", size=18, bold=True))
    about = f"{section['basis']}; {section['tokens']} tokens"
    for number, line in enumerate(textwrap.wrap(about, int(width / 6.4))[:2]):
        drawing.add(Words(20, 54 + 16 * number, line, "faint", 12))
    for column, shown in enumerate(layers):
        if shown % 5 == 0 or shown == layers[-1]:
            drawing.add(Words(left + _CELL * (column + 0.5), _TOP - 6, str(shown), "faint", 11, "middle"))
    for number, ((site, option), found) in enumerate(sorted(rows.items())):
        y = _TOP + _ROW * number
        drawing.add(Words(left - 8, y + 15, f"{site} {option}", size=12, anchor="end"))
        for column, layer in enumerate(layers if None not in found else [None]):
            if layer in found:
                drawing.add(_cell(found[layer], left + _CELL * column, y, low, high))
    _draw_scale(drawing, low, high, left, _TOP + _ROW * len(rows) + 22)
    return drawing


def _cell(row: Mapping[str, Any], x: float, y: float, low: float, high: float) -> Box:
    place = row["site"] if row["layer"] is None else f"layer {row['layer']} {row['site']}"
    about = f"{place} {row['option']}: KL {row['kl_change']:+.5f}"
    about += ", estimated" if row["top1_change"] is None else f", top-1 {row['top1_change']:+.3f}"
    return Box(x + 1, y + 1, _CELL - 2, _ROW - 2, "decode", _opacity(row["kl_change"], low, high), about)


def _opacity(change: float, low: float, high: float) -> float:
    if change <= low or high <= low:
        return _FAINTEST
    return _FAINTEST + (1 - _FAINTEST) * math.log(change / low) / math.log(high / low)


def _draw_scale(drawing: Drawing, low: float, high: float, left: float, y: float) -> None:
    steps = 20
    for step in range(steps):
        value = low * (high / low) ** (step / (steps - 1)) if high > low else high
        drawing.add(Box(left + 12 * step, y, 12, 12, "decode", _opacity(value, low, high)))
    drawing.add(Words(left, y + 28, f"{low:.1g}", "faint", 11))
    drawing.add(Words(left + 12 * steps, y + 28, f"{high:.2g} nats per position", "faint", 11, "end"))


def front(section: Mapping[str, Any]) -> Drawing:
    """Verified KL against predicted speed, with 95 % intervals; presets beside the front."""
    key, name = _axis(section)
    rows = [*section["points"], *section["presets"]]
    scale = _Scale(rows, key)
    drawing = Drawing(_FRONT_WIDTH, _FRONT_HEIGHT, "Quality against speed: the verified front")
    drawing.add(Words(20, 32, "The verified front", size=18, bold=True))
    drawing.add(Words(20, 54, f"KL on {section['verified_on']}", "faint", 12))
    _draw_axes(drawing, scale, name)
    _draw_line(drawing, scale, section, "decode")
    for row in rows:
        _draw_point(drawing, scale, row, section["chosen"])
    return drawing


def fronts(sections: Mapping[str, Mapping[str, Any]], differing: str) -> Drawing:
    """The verified points of searches that differ in a setting, by what each has there; of the first one the presets.

    The sections have points, and the same objective. `differing` names the setting in words.
    """
    first = next(iter(sections.values()))
    key, name = _axis(first)
    scale = _Scale([row for each in sections.values() for row in each["points"]] + list(first["presets"]), key)
    title = f"Verified fronts by {differing}"
    drawing = Drawing(_FRONT_WIDTH, _FRONT_HEIGHT, title)
    drawing.add(Words(20, 32, title, size=18, bold=True))
    _draw_axes(drawing, scale, name)
    for place, (label, section) in enumerate(sections.items()):
        color = _FRONT_COLORS[place % len(_FRONT_COLORS)]
        about = label  # seconds say nothing of a search that went on from an earlier one
        if section["sensitivity_cost"]["measured_now"]:
            about += f": sensitivities in {section['seconds_to_sensitivities']:.0f} s"
        drawing.add(Disc(26, 52 + 18 * place, 5, color), Words(38, 56 + 18 * place, about, "faint", 12))
        _draw_line(drawing, scale, section, color)
        for row in section["points"]:
            drawing.add(Disc(*scale.of(row), 8 if row["name"] == section["chosen"] else 5, color))
    for row in first["presets"]:
        x, y = scale.of(row)
        drawing.add(Box(x - 5, y - 5, 10, 10, "faint"), Words(x, y + 20, row["name"], "ink", 12, "middle"))
    return drawing


def _axis(section: Mapping[str, Any]) -> tuple[str, str]:
    """The key of a row's speed, and what the axis is called."""
    return ("ttft_ms", "TTFT, ms") if section["objective"] == "ttft" else (_SPEED, "tokens/s/user, predicted")


def _draw_line(drawing: Drawing, scale: _Scale, section: Mapping[str, Any], color: str) -> None:
    best = sorted((row for row in section["points"] if not row["dominated"]), key=lambda row: row["kl_divergence"])
    for one, other in itertools.pairwise(best):
        drawing.add(Line(scale.of(one), scale.of(other), color, 1.5))


def _draw_axes(drawing: Drawing, scale: _Scale, name: str) -> None:
    for kl in scale.kl_ticks():
        x, _ = scale.at(kl, scale.speeds[0])
        drawing.add(Line((x, scale.top), (x, scale.bottom), "grid"))
        drawing.add(Words(x, scale.bottom + 18, f"{kl:g}", "faint", 11, "middle"))
    for step in range(5):
        speed = scale.speeds[0] + (scale.speeds[1] - scale.speeds[0]) * step / 4
        _, y = scale.at(scale.kls[0], speed)
        drawing.add(Line((scale.left, y), (scale.right, y), "grid"))
        drawing.add(Words(scale.left - 8, y + 4, f"{speed:.1f}", "faint", 11, "end"))
    drawing.add(
        Words((scale.left + scale.right) / 2, scale.bottom + 38, "KL, nats per position", "faint", 12, "middle")
    )
    drawing.add(Words(26, (scale.top + scale.bottom) / 2, name, "faint", 12, "middle", turn=90))


_SPEED = "decode_tokens_per_s_per_user"


class _Scale:
    """Pixels of KL (logarithmic) and speed."""

    left, right, top, bottom = 90.0, _FRONT_WIDTH - 40, 84.0, _FRONT_HEIGHT - 70

    def __init__(self, rows: Sequence[Mapping[str, Any]], key: str) -> None:
        self.key = key
        kls = [max(row["kl_divergence"], 1e-9) for row in rows]
        speeds = [row[key] for row in rows]
        room = (max(speeds) - min(speeds)) * 0.06 or 1.0
        self.kls = (min(kls) / 1.4, max(kls) * 1.6)
        self.speeds = (min(speeds) - room, max(speeds) + room)

    def at(self, kl: float, speed: float) -> tuple[float, float]:
        right = math.log(max(kl, self.kls[0]) / self.kls[0]) / math.log(self.kls[1] / self.kls[0])
        up = (speed - self.speeds[0]) / (self.speeds[1] - self.speeds[0])
        return self.left + right * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def of(self, row: Mapping[str, Any]) -> tuple[float, float]:
        return self.at(row["kl_divergence"], row[self.key])

    def kl_ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.kls[0])), math.ceil(math.log10(self.kls[1])) + 1)
        return [s * 10.0**n for n in decades for s in (1, 2, 5) if self.kls[0] <= s * 10.0**n <= self.kls[1]]


def _draw_point(drawing: Drawing, scale: _Scale, row: Mapping[str, Any], chosen: str | None) -> None:
    x, y = scale.of(row)
    preset = "steps" not in row
    if row["kl_low"] is not None:
        low, _ = scale.at(row["kl_low"], row[scale.key])
        high, _ = scale.at(row["kl_high"], row[scale.key])
        drawing.add(Line((low, y), (high, y), "prefill" if preset else "decode", 1.0))
    if preset:
        drawing.add(Box(x - 6, y - 6, 12, 12, "prefill"), Words(x, y + 22, row["name"], "ink", 12, "middle"))
        return
    drawing.add(Disc(x, y, 9 if row["name"] == chosen else 6, "decode"))
    drawing.add(
        Words(x - 4, y - 12, row["name"].removeprefix("point_"), "faint", 11, "end", bold=row["name"] == chosen)
    )
