# SPDX-License-Identifier: Apache-2.0
"""The picture of a prediction: every op under the roofs of its chip, and where the time goes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.drawing import Box, Disc, Drawing, Line, Words, require_matplotlib
from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..hardware.enums import MathFidelity
from ..hardware.op_table import DECODE, PREFILL
from ..hardware.schema import DeviceConfig
from ..perf.timing import KINDS
from .prediction_rows import OpRow, op_rows
from .questions import Answer

WIDTH = 1000.0
LEFT, RIGHT, TOP = 84.0, 600.0, 128.0  # of the roofline
PANEL_HEIGHT = 380.0
LABEL_ROOM = 130.0  # beyond the last point and the last ridge, for the names of the roofs
LEAST_SHARE = 0.01  # of a phase's time; ops below it get no marker
KEY_LEFT, KEY_STEP = 640.0, 36.0
RADIUS = 10.0
KIND_NAMES = {
    "weights": "weights",
    "kv": "attention, KV cache",
    "collectives": "collectives",
    "overhead": "overhead",
    "flops": "math",
}


def check_plot_file(path: Path) -> None:
    """Raises ConfigError for a file name that is neither .svg nor .png, and for .png without matplotlib."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise ConfigError(f"--plot writes .svg or .png, not {path.name!r}.", f"Use --plot {path.stem or 'plot'}.svg.")
    if path.suffix.lower() == ".png":
        require_matplotlib()


def write_plot(answer: Answer, path: Path) -> None:
    """Writes the picture in one step. Raises ConfigError as `check_plot_file` does, and where `path` cannot be
    written."""
    check_plot_file(path)
    picture = draw(answer)
    content = picture.svg() if path.suffix.lower() == ".svg" else picture.png()
    write_atomically(path, content, hint="Choose another file for --plot.")


def draw(answer: Answer) -> Drawing:
    """The picture. Raises ConfigError where the prediction is of class unsupported."""
    points = [*_points(answer, DECODE), *_points(answer, PREFILL)]
    bottom = max(TOP + PANEL_HEIGHT, TOP + KEY_STEP * (len(points) + 1))
    experiment = answer.experiment
    title = f"{experiment.spec.name} on {experiment.hardware.device_type}, predicted"
    drawing = Drawing(WIDTH, bottom + 264, title)
    drawing.add(Words(28, 38, title, size=20, bold=True))
    for line, text in enumerate(_subtitles(answer)):
        drawing.add(Words(28, 60 + 19 * line, text, "faint"))
    scale = _Scale.around(points, experiment.hardware, bottom)
    _draw_roofline(drawing, scale, experiment.hardware, points)
    _draw_key(drawing, points, _without_place(answer))
    _draw_shares(drawing, answer, bottom + 92)
    return drawing


def _subtitles(answer: Answer) -> tuple[str, str]:
    prediction, experiment = answer.prediction, answer.experiment
    users, parallel = experiment.config.workload.batch, experiment.hardware.parallelism
    return (
        f"precision {experiment.config.mode}, TP {parallel.tensor_parallel_size} x DP {parallel.data_parallel_size}, "
        f"{users} user{'s' * (users > 1)}, prompt {prediction.prompt_length}, context {prediction.context} tokens",
        f"decode {answer.tokens_per_s_per_user:.1f} tokens/s/user ({prediction.decode}), "
        f"TTFT {answer.ttft_ms:.0f} ms ({prediction.prefill}); nothing was run",
    )


@dataclass(frozen=True)
class _Point:
    """Ops of one phase that lie on one spot: FLOP per DRAM byte, and TFLOP/s."""

    phase: str
    rows: tuple[OpRow, ...]
    intensity: float
    tflops: float

    @property
    def names(self) -> str:
        return ", ".join(dict.fromkeys(row.op.name for row in self.rows))

    @property
    def about(self) -> str:
        """Format, fidelity, bounds and share of the phase's time."""
        first, bounds = self.rows[0], dict.fromkeys(row.time.bound for row in self.rows)
        share = sum(row.share for row in self.rows)
        kind = f"{first.data} {first.op.fidelity}"
        return f"{kind}; {self.tflops:.3g} TFLOP/s; {', '.join(bounds)}; {share:.0%} of {self.phase}"


def _points(answer: Answer, phase: str) -> list[_Point]:
    """The ops that have a place, alike ones within a marker's width of each other as one, longest first."""
    groups: list[list[OpRow]] = []
    for row in op_rows(answer.prediction, phase):
        if not _has_place(row):
            continue
        near = next((group for group in groups if _near(group[0], row)), None)
        if near is None:
            groups.append([row])
        else:
            near.append(row)
    groups.sort(key=lambda group: -sum(row.share for row in group))
    return [_Point(phase, tuple(group), *_coordinates(max(group, key=lambda row: row.share))) for group in groups]


def _without_place(answer: Answer) -> list[str]:
    """Names of the ops that have no marker, with the phase where only one of them has none."""
    rows = [(phase, row) for phase in (DECODE, PREFILL) for row in op_rows(answer.prediction, phase)]
    placed = {row.op.name for _, row in rows if _has_place(row)}
    missing = [(phase, row.op.name) for phase, row in rows if not _has_place(row)]
    return list(dict.fromkeys(f"{name} of {phase}" if name in placed else name for phase, name in missing))


def _has_place(row: OpRow) -> bool:
    return row.op.flops > 0 and row.op.bytes > 0 and row.share >= LEAST_SHARE


def _coordinates(row: OpRow) -> tuple[float, float]:
    return row.op.flops / row.op.bytes, row.op.flops / row.time.us / 1e6


def _near(one: OpRow, other: OpRow) -> bool:
    """Whether two ops of one format and fidelity lie within 12 % of each other either way."""
    if (one.data, one.op.fidelity) != (other.data, other.op.fidelity):
        return False
    return all(abs(math.log(a / b)) < 0.12 for a, b in zip(_coordinates(one), _coordinates(other), strict=True))


def _roofs(hw: DeviceConfig, points: Iterable[_Point]) -> dict[MathFidelity, float]:
    """Peak TFLOP/s of one chip at the fidelities in use."""
    chip = hw.spec.chip
    lofi = chip.flop_per_cycle_lofi * hw.spec.cores * chip.clock_mhz / 1e6
    used = {row.op.fidelity for point in points for row in point.rows}
    return {fidelity: lofi / fidelity.phases for fidelity in MathFidelity if fidelity in used}


@dataclass(frozen=True)
class _Scale:
    """Logarithmic axes: what they span, and where that lies on the page."""

    x: tuple[float, float]
    y: tuple[float, float]
    bottom: float

    @classmethod
    def around(cls, points: Sequence[_Point], hw: DeviceConfig, bottom: float) -> _Scale:
        """Axes that show every point and every roof, with room for the names of the roofs."""
        peak = max(_roofs(hw, points).values(), default=1.0)
        xs = [*(point.intensity for point in points), peak * 1e3 / _bandwidth(hw)]
        ys = [*(point.tflops for point in points), peak / 30]
        low = min(xs) / 3
        high = max(xs) * (max(xs) / low) ** (LABEL_ROOM / (RIGHT - LEFT - LABEL_ROOM))
        return cls((low, high), (min(ys) / 3, peak * 2), bottom)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a value pair."""
        right = math.log(x / self.x[0]) / math.log(self.x[1] / self.x[0])
        up = math.log(y / self.y[0]) / math.log(self.y[1] / self.y[0])
        return LEFT + right * (RIGHT - LEFT), self.bottom - up * (self.bottom - TOP)


def _bandwidth(hw: DeviceConfig) -> float:
    """Nominal GB/s of one chip's DRAM."""
    return hw.dram_bandwidth / hw.spec.chips


def _ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with their doubles and fives where those alone would be few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    return [step * 10.0**n for n in decades for step in steps if low <= step * 10.0**n <= high]


def _draw_roofline(drawing: Drawing, scale: _Scale, hw: DeviceConfig, points: Sequence[_Point]) -> None:
    drawing.add(Words(LEFT, TOP - 14, "Roofline of one chip, predicted", size=14, bold=True))
    for x in _ticks(*scale.x):
        across, _ = scale.at(x, scale.y[0])
        drawing.add(Line((across, TOP), (across, scale.bottom), "grid"))
        drawing.add(Words(across, scale.bottom + 18, f"{x:g}", "faint", 12, "middle"))
    for y in _ticks(*scale.y):
        _, down = scale.at(scale.x[0], y)
        drawing.add(Line((LEFT, down), (RIGHT, down), "grid"))
        drawing.add(Words(LEFT - 8, down + 4, f"{y:g}", "faint", 12, "end"))
    middle = (LEFT + RIGHT) / 2
    drawing.add(
        Words(middle, scale.bottom + 40, "FLOP per byte read from DRAM (rows padded to 32)", "faint", 12, "middle")
    )
    drawing.add(Words(LEFT - 48, (TOP + scale.bottom) / 2, "TFLOP/s", "faint", 12, "middle", turn=90))
    _draw_roofs(drawing, scale, hw, points)
    placed: list[tuple[float, float]] = []
    for point in points:
        own = scale.at(point.intensity, point.tflops)
        placed.append(_free_place(own, placed))
        if placed[-1] != own:
            drawing.add(Line(own, placed[-1], point.phase, 1.5), Disc(*own, 3.5, point.phase))
    for number, (point, place) in enumerate(zip(points, placed, strict=True), start=1):
        drawing.add(*_marker(*place, number, point.phase))


def _free_place(own: tuple[float, float], placed: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """`own`, or the nearest place beside the markers that lie there already."""
    (x, y), step = own, 2 * RADIUS + 2
    if any(math.dist(own, other) < 2 * RADIUS and other[0] > x for other in placed):
        step = -step
    while any(math.dist((x, y), other) < 2 * RADIUS for other in placed):
        x += step
    return x, y


def _draw_roofs(drawing: Drawing, scale: _Scale, hw: DeviceConfig, points: Sequence[_Point]) -> None:
    gbs, roofs = _bandwidth(hw), _roofs(hw, points)
    top = max(roofs.values(), default=scale.y[1] / 2)
    # The DRAM roof in TFLOP/s is intensity * GB/s / 1000; it starts where it enters the panel.
    start = max(scale.x[0], scale.y[0] * 1e3 / gbs)
    (x1, y1), (x2, y2) = scale.at(start, start * gbs / 1e3), scale.at(top * 1e3 / gbs, top)
    drawing.add(Line((x1, y1), (x2, y2), "ink", 1.8))
    markers = [scale.at(point.intensity, point.tflops) for point in points]
    places = [(x1 + part * (x2 - x1), y1 + part * (y2 - y1)) for part in (0.2, 0.35, 0.5, 0.65, 0.8)]
    x, y = max(places, key=lambda place: min((math.dist(place, marker) for marker in markers), default=0))
    turn = math.degrees(math.atan2(y1 - y2, x2 - x1))
    drawing.add(Words(x - 4, y - 8, f"DRAM {gbs:g} GB/s", "ink", 12, "middle", turn=turn))
    for fidelity, peak in roofs.items():
        corner, end = scale.at(peak * 1e3 / gbs, peak), scale.at(scale.x[1], peak)
        drawing.add(Line(corner, end, "ink", 1.8, 0 if peak == top else 5))
        drawing.add(Words(RIGHT, end[1] - 6, f"{fidelity} {peak:.0f} TFLOP/s", "ink", 12, "end"))


def _marker(x: float, y: float, number: int, phase: str) -> tuple[Box | Disc | Words, ...]:
    """A numbered disc for decode, a numbered square for prefill."""
    shape = Disc(x, y, RADIUS, phase) if phase == DECODE else Box(x - 9, y - 9, 18, 18, phase)
    return shape, Words(x, y + 4, str(number), "paper", 11, "middle", bold=True)


def _draw_key(drawing: Drawing, points: Sequence[_Point], without: Sequence[str]) -> None:
    y = TOP - 14
    drawing.add(*_marker(KEY_LEFT, y - 5, 0, DECODE)[:1], Words(KEY_LEFT + 16, y, "decode", size=14, bold=True))
    drawing.add(
        *_marker(KEY_LEFT + 100, y - 5, 0, PREFILL)[:1], Words(KEY_LEFT + 116, y, "prefill", size=14, bold=True)
    )
    for number, point in enumerate(points, start=1):
        y = TOP + 18 + KEY_STEP * (number - 1)
        drawing.add(*_marker(KEY_LEFT, y, number, point.phase))
        drawing.add(Words(KEY_LEFT + 18, y - 1, point.names, size=13, bold=True))
        drawing.add(Words(KEY_LEFT + 18, y + 14, point.about, "faint", 11))
    if without:
        why = f"no marker (no FLOP, no DRAM bytes, or under {LEAST_SHARE:.0%} of the time): {', '.join(without)}"
        for line, text in enumerate(textwrap.wrap(why, 150)):
            drawing.add(Words(28, drawing.height - 30 + 15 * line, text, "faint", 11))


def _draw_shares(drawing: Drawing, answer: Answer, top: float) -> None:
    speed = answer.prediction.speed
    drawing.add(Words(LEFT, top - 12, "Where the time goes, predicted", size=14, bold=True))
    _draw_bar(drawing, top, f"decode, {speed.decode_ms:.1f} ms per token", speed.shares)
    _draw_bar(drawing, top + 54, f"prefill, TTFT {speed.ttft_ms:.0f} ms", speed.prefill_shares)
    across = LEFT
    for kind in KINDS:
        drawing.add(Box(across, top + 108, 12, 12, kind), Words(across + 18, top + 118, KIND_NAMES[kind], size=12))
        across += 40 + 7 * len(KIND_NAMES[kind])


def _draw_bar(drawing: Drawing, top: float, label: str, shares: dict[str, float]) -> None:
    """A bar of 100 % with the share written in every part that has room for it."""
    width, across = WIDTH - 28 - LEFT, LEFT
    drawing.add(Words(LEFT, top + 12, label, size=12))
    for kind in KINDS:
        part = width * shares[kind]
        drawing.add(Box(across, top + 18, part, 24, kind))
        if part > 34:
            drawing.add(Words(across + part / 2, top + 35, f"{shares[kind]:.0%}", "on_color", 12, "middle", bold=True))
        across += part
