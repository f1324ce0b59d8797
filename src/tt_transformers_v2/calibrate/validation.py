# SPDX-License-Identifier: Apache-2.0
"""Predictions against measured rows: the error of each, and what they come to by class, split and workload."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median

from ..config.conf_folders import read_yaml
from ..hardware.enums import Arch, Stack
from ..hardware.op_table import DECODE, PHASES, PREFILL
from ..perf.calibration import Calibration
from ..perf.confidence import CALIBRATED, EXTRAPOLATED, UNSUPPORTED, Confidence
from ..perf.measurements import MeasuredRow
from ..perf.prediction import confidence_rules
from .measured_rows import PredictedRow, predict_rows

LONG_CONTEXT = 65536  # tokens
SPEED_UP_GROUPS = ("all", "calibrated", "Wormhole Llama")


@dataclass(frozen=True)
class Figure:
    """One measured quantity against its prediction, tokens/s/user or TTFT in ms; None where there is none.

    `covered`: whether the row is of the releases that the calibration describes for this quantity.
    """

    measured: float | None
    predicted: float | None
    confidence: Confidence
    covered: bool

    @property
    def error(self) -> float | None:
        """predicted / measured - 1, in percent."""
        if self.measured is None or self.predicted is None:
            return None
        error = (self.predicted / self.measured - 1) * 100
        return error if math.isfinite(error) else None

    @property
    def inside(self) -> bool | None:
        """Whether the measurement lies within predicted * (1 ± band / 100)."""
        if self.error is None or self.measured is None or self.predicted is None:
            return None
        return abs(self.measured - self.predicted) <= self.confidence.band / 100 * self.predicted


@dataclass(frozen=True)
class ValidatedRow:
    """A row with both of its figures. `fitted`: its model's rows gave the constants; None where there is no saying,
    because the row is flagged, of another release or has no prediction."""

    row: MeasuredRow
    decode: Figure
    ttft: Figure
    fitted: bool | None
    wormhole_llama: bool
    arch: str = ""
    family: str = ""

    @property
    def kind(self) -> str:
        """The class of the decode prediction."""
        return self.decode.confidence.kind


@dataclass(frozen=True)
class Errors:
    """Absolute errors of `count` figures in percent, and how many measurements lie inside their band."""

    name: str
    count: int
    mean: float
    median: float
    inside: int


@dataclass(frozen=True)
class SpeedUp:
    """Decode speed of performance mode over accuracy mode, measured and predicted, of one model, device and split.

    `groups`: the lines of SPEED_UP_GROUPS that it counts for.
    """

    name: str
    measured: float
    predicted: float
    groups: tuple[str, ...]

    @property
    def deviation(self) -> float:
        """By how much the predicted ratio is above the measured one; negative where it is below."""
        return self.predicted - self.measured


@dataclass(frozen=True)
class Validation:
    """Every row, and the summary over those whose flag lets them count."""

    calibration: Calibration
    rows: list[ValidatedRow]
    decode: list[Errors]
    ttft: list[Errors]
    speed_ups: list[SpeedUp]

    @property
    def flagged(self) -> int:
        """Rows that the summary leaves out for what their flag says."""
        return sum(not _counts(line.row) for line in self.rows)

    @property
    def unsupported(self) -> int:
        """Rows that would count and have no prediction."""
        return sum(_counts(line.row) and line.kind == UNSUPPORTED for line in self.rows)

    def speed_up_deviation(self, group: str) -> tuple[float, int] | None:
        """Mean absolute deviation of the predicted speed-ups of one of SPEED_UP_GROUPS, and the number of pairs."""
        pairs = [abs(pair.deviation) for pair in self.speed_ups if group in pair.groups]
        return (mean(pairs), len(pairs)) if pairs else None

    def errors(self, phase: str, name: str) -> Errors | None:
        """The line of the summary with this name; `phase` is decode or ttft. None where no row counts for it."""
        lines = self.decode if phase == "decode" else self.ttft
        return next((errors for errors in lines if errors.name == name), None)


def fitted_models(points: str) -> tuple[str, ...] | None:
    """The models whose rows in the file `points` gave the packaged constants; None where all did, or none is known."""
    models = read_yaml("measurements/split.yaml")["fit"].get(points)
    return None if models is None else tuple(map(str, models))


def validate(
    rows: Iterable[MeasuredRow], calibration: Calibration, fit_models: Sequence[str] | None = None
) -> Validation:
    """Predicts every row and sums the errors up.

    `fit_models`: models whose rows gave the constants, by default those of conf/measurements/split.yaml. Raises
    ConfigError naming the rows whose mode cannot be read.
    """
    rows = list(rows)
    if fit_models is None:
        fit_models = fitted_models(confidence_rules(calibration).points)
    models = {name.casefold() for name in (fit_models or {row.model for row in rows})}
    found = [_validated(predicted, models) for predicted in predict_rows(rows, calibration)]
    decode = [line for line in found if line.row.counts(DECODE)]
    ttft = [line for line in found if line.row.counts(PREFILL)]
    return Validation(
        calibration=calibration,
        rows=found,
        decode=_summary(_DECODE | _kinds(decode), decode, lambda line: line.decode),
        ttft=_summary(_TTFT | _kinds(ttft), ttft, lambda line: line.ttft),
        speed_ups=_speed_ups(decode),
    )


def _counts(row: MeasuredRow) -> bool:
    return any(row.counts(phase) for phase in PHASES)


def _validated(predicted: PredictedRow, fit_models: set[str]) -> ValidatedRow:
    row, experiment = predicted.row, predicted.experiment
    speed = predicted.prediction.speed if predicted.prediction else None
    tokens = speed.decode_tokens_per_s_per_user if speed else None
    known = speed is not None and predicted.decode_covered and row.counts(DECODE)
    return ValidatedRow(
        row=row,
        decode=Figure(row.tokens_per_s_per_user, tokens, predicted.decode, predicted.decode_covered),
        ttft=Figure(row.ttft_ms, speed.ttft_ms if speed else None, predicted.prefill, predicted.prefill_covered),
        fitted=row.model.casefold() in fit_models if known else None,
        wormhole_llama=experiment is not None
        and experiment.hardware.spec.chip.arch is Arch.wormhole_b0
        and experiment.spec.family.startswith("llama"),
        arch=str(experiment.hardware.spec.chip.arch) if experiment else "",
        family=experiment.spec.family if experiment else "",
    )


_Choice = Callable[[ValidatedRow, Figure], bool]


def _llama(batch: int | None = None, long: bool | None = None) -> _Choice:
    """Wormhole Llama rows of a batch, at long context or not; None is any."""

    def chosen(line: ValidatedRow, figure: Figure) -> bool:
        is_long = line.row.seq >= LONG_CONTEXT
        return line.wormhole_llama and batch in (None, line.row.batch) and long in (None, is_long)

    return chosen


def _kinds(lines: Iterable[ValidatedRow]) -> dict[str, _Choice]:
    """Lines of the summary by architecture, stack, sampling, prefill, device, family and users, of those there are."""
    found: dict[str, _Choice] = {}

    def add(name: str, choose: Callable[[ValidatedRow], bool]) -> None:
        found.setdefault(name, lambda line, figure: figure.covered and choose(line))

    lines = [line for line in lines if line.family]
    by: list[tuple[str, Callable[[ValidatedRow], object]]] = [
        ("", lambda line: "server" if line.row.stack is Stack.vllm else ""),
        ("", lambda line: f"{line.arch}, {'server' if line.row.stack is Stack.vllm else 'demo'}"),
        ("sampling ", lambda line: line.row.sampling),
        ("prefill ", lambda line: line.row.prefill),
        ("device ", lambda line: line.row.device),
        ("family ", lambda line: line.family),
        ("users ", lambda line: line.row.batch),
    ]
    for title, key in by:
        for value in dict.fromkeys(key(line) for line in lines):
            if value is not None:
                add(f"{title}{value}", lambda line, key=key, value=value: key(line) == value)  # type: ignore[misc]
    return found


_CLASSES: dict[str, _Choice] = {
    "calibrated": lambda line, figure: figure.confidence.kind == CALIBRATED,
    "calibrated, fitted": lambda line, figure: figure.confidence.kind == CALIBRATED and line.fitted is True,
    "calibrated, check": lambda line, figure: figure.confidence.kind == CALIBRATED and line.fitted is False,
    "extrapolated": lambda line, figure: figure.confidence.kind == EXTRAPOLATED,
}
_LLAMAS: dict[str, _Choice] = {
    "Wormhole Llama, batch 1": _llama(1, False),
    "Wormhole Llama, batch 32": _llama(32, False),
    "Wormhole Llama, 64k context": _llama(None, True),
    "Wormhole Llama, batch 1, any context": _llama(1),
}
_DECODE: dict[str, _Choice] = {"all": lambda line, figure: True, **_CLASSES, **_LLAMAS}


def _covered(choose: _Choice) -> _Choice:
    return lambda line, figure: figure.covered and choose(line, figure)


_TTFT: dict[str, _Choice] = {name: _covered(choose) for name, choose in _DECODE.items()} | {
    "other releases (not counted above)": lambda line, figure: not figure.covered
}


def _summary(
    choices: dict[str, _Choice], lines: list[ValidatedRow], figure_of: Callable[[ValidatedRow], Figure]
) -> list[Errors]:
    found = []
    for name, choose in choices.items():
        figures = [figure_of(line) for line in lines if choose(line, figure_of(line))]
        errors = [abs(figure.error) for figure in figures if figure.error is not None]
        if errors:
            inside = sum(figure.inside is True for figure in figures)
            found.append(Errors(name, len(errors), mean(errors), median(errors), inside))
    return found


def _speed_ups(lines: list[ValidatedRow]) -> list[SpeedUp]:
    """Batch-1 rows that differ in the mode alone; rows given more than once are averaged."""
    by_mode: dict[tuple[object, ...], dict[str, list[ValidatedRow]]] = {}
    for line in lines:
        row = line.row
        if row.batch == 1 and row.mode in ("accuracy", "performance") and line.decode.error is not None:
            how = (row.sampling, row.prefill, row.stack, row.context)
            key = (row.model, row.device, row.tensor_parallel, row.data_parallel, row.seq, how)
            by_mode.setdefault(key, {}).setdefault(row.mode, []).append(line)
    pairs = [(modes["performance"], modes["accuracy"]) for modes in by_mode.values() if len(modes) == 2]
    return [_speed_up(fast, slow) for fast, slow in pairs]


def _speed_up(fast: list[ValidatedRow], slow: list[ValidatedRow]) -> SpeedUp:
    row, both = fast[0].row, [*fast, *slow]
    split = f"TP{row.tensor_parallel}" + (f" DP{row.data_parallel}" if row.data_parallel > 1 else "")
    counts = {
        "all": True,
        "calibrated": all(line.kind == CALIBRATED for line in both),
        "Wormhole Llama": all(line.wormhole_llama for line in both),
    }
    return SpeedUp(
        name=f"{row.model} on {row.device} {split}"
        + (f", {row.seq} tokens" if row.seq != 128 else "")
        + (f", sampling {row.sampling}" if row.sampling else ""),
        measured=_mean_of(fast, "measured") / _mean_of(slow, "measured"),
        predicted=_mean_of(fast, "predicted") / _mean_of(slow, "predicted"),
        groups=tuple(group for group in SPEED_UP_GROUPS if counts[group]),
    )


def _mean_of(lines: list[ValidatedRow], what: str) -> float:
    return mean(getattr(line.decode, what) for line in lines)
