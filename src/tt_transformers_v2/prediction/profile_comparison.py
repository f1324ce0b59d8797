# SPDX-License-Identifier: Apache-2.0
"""A measured profile beside the predicted decode step: which ops are the same, how far off each is, what is left over.

Ops are the same where kind, and of matmuls shape, formats and fidelity agree. A profile of a few layers is compared
with as many of the predicted ones: a layer has one attention.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from ..common.errors import ConfigError
from ..hardware.op_table import DECODE, EMBEDDING, LM_HEAD
from ..perf import op_shapes as kinds
from ..perf.decode_profile import decode_profile
from ..perf.measured_profile import EMBEDDING_KIND, MeasuredOp, read_profile
from ..perf.op_shapes import op_kind
from ..perf.ops_csv import ProfiledOp
from ..perf.prediction import Prediction

# Predicted ops whose op code alone does not say their kind.
_BY_NAME = {"add": kinds.ADD, "silu_mul": kinds.GATED, EMBEDDING.name: EMBEDDING_KIND}
# One execution for the whole step, however many layers were profiled.
_ONCE = (EMBEDDING.name, LM_HEAD.name)

UNIT_FACTOR = 100.0  # a profile this many times off is in another unit

Key = tuple[str, tuple[int, ...], tuple[str, str], str]


@dataclass(frozen=True)
class OpPair:
    """One kind of op, measured and predicted: executions in the profile and in as many predicted layers, mean
    microseconds of one. None where the other side has no such op."""

    name: str
    shape: tuple[int, ...]
    formats: str
    measured_count: int
    predicted_count: int
    measured_us: float | None
    predicted_us: float | None
    note: str = ""

    @property
    def measured_total(self) -> float:
        """Microseconds of all measured executions."""
        return (self.measured_us or 0.0) * self.measured_count

    @property
    def predicted_total(self) -> float:
        """Microseconds of all predicted executions."""
        return (self.predicted_us or 0.0) * self.predicted_count


@dataclass(frozen=True)
class ProfileComparison:
    """Pairs in order of measured time; layers that the profile has; gaps in microseconds; devices profiled."""

    path: str
    layers: int
    devices: int
    pairs: tuple[OpPair, ...]
    measured_gaps: float | None
    predicted_gaps: float

    @property
    def matched(self) -> tuple[OpPair, ...]:
        """Ops that both sides have."""
        return tuple(pair for pair in self.pairs if pair.measured_us is not None and pair.predicted_us is not None)

    @property
    def unexplained(self) -> tuple[OpPair, ...]:
        """Measured ops that the prediction does not have."""
        return tuple(pair for pair in self.pairs if pair.predicted_us is None)

    @property
    def missing(self) -> tuple[OpPair, ...]:
        """Predicted ops that the profile does not have."""
        return tuple(pair for pair in self.pairs if pair.measured_us is None)

    @property
    def measured_total(self) -> float:
        """Microseconds of every measured op, without gaps."""
        return sum(pair.measured_total for pair in self.pairs)

    @property
    def predicted_total(self) -> float:
        """Microseconds of the predicted ops, without gaps."""
        return sum(pair.predicted_total for pair in self.pairs)


def compare_profile(prediction: Prediction, path: str) -> ProfileComparison:
    """Reads the profile at `path` and holds it against the predicted decode step.

    Raises ConfigError for a file that is no profile, and for one without any decode attention or matmul of this model.
    """
    profile, (predicted, _) = read_profile(path), decode_profile(prediction)
    layers = sum(op.kind == kinds.ATTENTION for op in profile.ops)
    if not layers:
        raise ConfigError(f"{path} has no attention, so that it is not known how many layers it has.")
    chip = prediction.hardware.spec.chip.arch
    if profile.arch and profile.arch.casefold() != chip.value:
        raise ConfigError(
            f"{path} was measured on {profile.arch}, and {prediction.hardware.device_type} is {chip.value}.",
            "Give the device that was profiled.",
        )
    step = prediction.spec.num_layers
    measured_by, predicted_by = _grouped_measured(profile.ops), _grouped_predicted(predicted)
    if not any(key in predicted_by for key in measured_by if key[0] == kinds.MATMUL):
        raise ConfigError(
            f"{path} has no matmul of this configuration: {_shapes(measured_by)} measured, "
            f"{_shapes(predicted_by)} predicted.",
            "Give the model, device and precision that were profiled.",
        )
    pairs, rates = [], _rates(predicted, step)
    for key in [*measured_by, *(key for key in predicted_by if key not in measured_by)]:
        ours, theirs = predicted_by.get(key, []), measured_by.get(key, [])
        once = bool(ours) and ours[0].name in _ONCE
        count = _expected(len(ours), len(theirs), layers, step, None if once else sum(rates[n] for n in _names(ours)))
        if not theirs and (once or not count):
            continue  # a profile of layers has no embedding and no LM head
        pairs.append(
            OpPair(
                name=_name(key, ours),
                shape=key[1],
                formats=" ".join(part for part in ("x".join(filter(None, key[2])), key[3]) if part),
                measured_count=len(theirs),
                predicted_count=count if ours else 0,
                measured_us=mean(op.us for op in theirs) if theirs else None,
                predicted_us=mean(op.us for op in ours) if ours else None,
                note="" if ours else _near(key, predicted_by),
            )
        )
    gaps = [op.gap_us for op in profile.ops if op.gap_us is not None]
    _check_unit(path, [pair for pair in pairs if pair.measured_us is not None and pair.predicted_us is not None])
    return ProfileComparison(
        path=path,
        layers=layers,
        devices=profile.devices,
        pairs=tuple(sorted(pairs, key=lambda pair: -max(pair.measured_total, pair.predicted_total))),
        measured_gaps=sum(gaps) if gaps else None,
        predicted_gaps=sum(op.gap_us for op in predicted) * layers / step,
    )


def _check_unit(path: str, matched: Sequence[OpPair]) -> None:
    """Raises ConfigError where the ops that both sides have are too far apart to be in the same unit."""
    ratios = [pair.measured_us / pair.predicted_us for pair in matched if pair.measured_us and pair.predicted_us]
    ratio = median(ratios) if ratios else 1.0
    if not 1 / UNIT_FACTOR < ratio < UNIT_FACTOR:
        raise ConfigError(
            f"{path}: its ops take {ratio:.3g} times as long as predicted, which is no measurement of this model.",
            "Kernel durations are nanoseconds in the profiler's CSV and microseconds in tt-perf-report's.",
        )


def _names(ops: Iterable[ProfiledOp]) -> set[str]:
    return {op.name for op in ops}


def _rates(predicted: Sequence[ProfiledOp], step: int) -> dict[str, int]:
    """Executions of each predicted op in one of `step` layers, whatever the formats of a layer."""
    return {name: math.ceil(count / step) for name, count in Counter(op.name for op in predicted).items()}


def _expected(ours: int, theirs: int, layers: int, step: int, rate: int | None) -> int:
    """How many of the executions `ours` of a step of `step` layers belong to a profile of `layers` that has `theirs`.

    `rate`: executions in a layer that has such ops, None for ops of the whole step. Layers may differ in formats, and
    which of them were profiled is not known: as many as were measured, where there are layers for so many.
    """
    steps, rest = divmod(layers, step)
    if rate is None:
        least, most = 0, ours if rest else 0
    else:
        least, most = max(0, ours - rate * (step - rest)) if rest else 0, min(ours, rate * rest)
    return ours * steps + min(max(theirs - ours * steps, least), most)


def _grouped_measured(ops: Iterable[MeasuredOp]) -> dict[Key, list[MeasuredOp]]:
    found: dict[Key, list[MeasuredOp]] = {}
    for op in ops:
        matmul = op.kind == kinds.MATMUL
        key = (op.kind or op.code, op.shape, op.formats if matmul else ("", ""), op.fidelity)
        found.setdefault(key, []).append(op)
    return found


def _grouped_predicted(ops: Iterable[ProfiledOp]) -> dict[Key, list[ProfiledOp]]:
    found: dict[Key, list[ProfiledOp]] = {}
    for op in ops:
        kind = _BY_NAME.get(op.name) or op_kind(op.code, DECODE)
        key: Key = (kind, (), ("", ""), "")
        if kind == kinds.MATMUL:
            into, weight = op.inputs
            shape = (into.shape[2], into.shape[3], weight.shape[3])
            key = (kind, shape, (into.data.value, weight.data.value), op.fidelity)
        found.setdefault(key, []).append(op)
    return found


def _name(key: Key, predicted: Sequence[ProfiledOp]) -> str:
    return ", ".join(dict.fromkeys(op.name for op in predicted)) if predicted else key[0]


def _near(key: Key, predicted: dict[Key, list[ProfiledOp]]) -> str:
    """For a measured matmul: in which formats the same shape is predicted."""
    others = [other for other in predicted if key[1] and other[:2] == key[:2]]
    said = (f"{'x'.join(other[2])} {other[3]}" for other in others)
    return f"predicted in {' and '.join(said)}" if others else ""


def _shapes(groups: Iterable[Key]) -> str:
    shapes = dict.fromkeys("x".join(map(str, key[1])) for key in groups if key[0] == kinds.MATMUL)
    return ", ".join(list(shapes)[:4]) or "none"


def comparison_json(found: ProfileComparison) -> dict[str, Any]:
    """As JSON types: microseconds throughout."""
    return {
        "profile": found.path,
        "layers": found.layers,
        "devices": found.devices,
        "ops": [
            {
                "op": pair.name,
                "shape": list(pair.shape),
                "formats": pair.formats,
                "measured_count": pair.measured_count,
                "predicted_count": pair.predicted_count,
                "measured_us": pair.measured_us,
                "predicted_us": pair.predicted_us,
                "note": pair.note,
            }
            for pair in found.pairs
        ],
        "measured_us": found.measured_total,
        "predicted_us": found.predicted_total,
        "measured_gaps_us": found.measured_gaps,
        "predicted_gaps_us": found.predicted_gaps,
        "unexplained_us": sum(pair.measured_total for pair in found.unexplained),
    }


def comparison_lines(found: ProfileComparison) -> list[str]:
    """As text: pairs, what is left over on either side, totals."""
    layers = f"{found.layers} layer{'s' * (found.layers > 1)}"
    devices = f", mean of {found.devices} devices" if found.devices > 1 else ""
    lines = [
        f"[bold]measured ops beside predicted ones[/], {layers}{devices}",
        f"{'op':22}{'shape':20}{'formats':20}{'count':>8}{'measured us':>13}{'predicted':>11}{'ratio':>7}",
    ]
    for pair in found.matched:
        ratio = (pair.predicted_us or 0.0) / pair.measured_us if pair.measured_us else 0.0
        lines.append(_pair_line(pair, f"{pair.predicted_us:>11.1f}{ratio:>7.2f}"))
    if found.unexplained:
        lines.append("measured and not predicted (unexplained)")
        lines += [_pair_line(pair, f"  {pair.note}".rstrip()) for pair in found.unexplained]
    if found.missing:
        lines.append("predicted and not measured")
        lines += [_pair_line(pair, f"{pair.predicted_us:>11.1f}") for pair in found.missing]
    left = sum(pair.measured_total for pair in found.unexplained)
    share = left / found.measured_total if found.measured_total else 0.0
    lines.append(
        f"total ops: measured {found.measured_total:.1f} us, predicted {found.predicted_total:.1f} us "
        f"({_ratio(found.predicted_total, found.measured_total)}); unexplained {left:.1f} us ({share:.1%})"
    )
    if found.measured_gaps is not None:
        lines.append(f"gaps: measured {found.measured_gaps:.1f} us, predicted {found.predicted_gaps:.1f} us")
    return lines


def _pair_line(pair: OpPair, tail: str) -> str:
    counts = f"{pair.measured_count}"
    if pair.predicted_us is not None and pair.predicted_count != pair.measured_count:
        counts = f"{pair.measured_count} / {pair.predicted_count}"
    measured = f"{pair.measured_us:>13.1f}" if pair.measured_us is not None else f"{'-':>13}"
    shape = "x".join(map(str, pair.shape))
    return f"{pair.name:22}{shape:20}{pair.formats:20}{counts:>8}{measured}{tail}"


def _ratio(predicted: float, measured: float) -> str:
    return f"{predicted / measured:.2f}" if measured else "-"
