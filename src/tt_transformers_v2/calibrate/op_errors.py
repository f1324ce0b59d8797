# SPDX-License-Identifier: Apache-2.0
"""Measured op times against their predictions: which rows can be compared, and by how much each is off."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median

from ..common.errors import ConfigError
from ..config.device_presets import build_device_config, composed_preset
from ..hardware.enums import Arch
from ..hardware.op_table import DECODE, PREFILL
from ..perf import op_shapes as kinds
from ..perf.calibration import Calibration
from ..perf.op_row_times import op_row_us
from ..perf.op_rows import OpRow
from ..perf.timing import ChipFigures

# A time this many times off is not a bad prediction: it is in another unit than microseconds.
UNIT_FACTOR = 300.0
_NO_DEVICE = ("both", "blackhole", "wormhole")  # what is said of an architecture is no measurement of a device

# What is reported together, and the median absolute error in percent that is asked for (None: reported only).
CLASSES: dict[str, tuple[str, tuple[str, ...], float | None]] = {
    "decode matmul": (DECODE, (kinds.MATMUL,), 10.0),
    "decode attention": (DECODE, (kinds.ATTENTION,), 20.0),
    "norm": ("", (kinds.NORM,), 20.0),
    "collective": ("", kinds.COLLECTIVES, 20.0),
    "prefill matmul": (PREFILL, (kinds.MATMUL,), 25.0),
    "prefill attention": (PREFILL, (kinds.ATTENTION,), 25.0),
    "heads, RoPE, cache": (
        DECODE,
        (kinds.CREATE_HEADS, kinds.CONCAT_HEADS, kinds.ROPE, kinds.UPDATE_CACHE),
        None,
    ),
    "product and addition": ("", (kinds.GATED, kinds.ADD), None),
    "move and gap": (DECODE, (kinds.MOVE, kinds.GAP), None),
    "sampling": (DECODE, (kinds.TOPK, kinds.SAMPLER), None),
}


@dataclass(frozen=True)
class OpComparison:
    """A row that can be predicted, its class (CLASSES), architecture and chip, and the predicted microseconds."""

    row: OpRow
    group: str
    chip: ChipFigures
    predicted: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.row.us - 1


@dataclass(frozen=True)
class ClassError:
    """Absolute errors in percent over the rows without a flag of a class on an architecture."""

    group: str
    arch: Arch
    rows: int
    median: float
    mean: float
    worst: float
    target: float | None


def op_class(row: OpRow) -> str:
    """The class that a row is counted in, "" for none."""
    for name, (phase, members, _) in CLASSES.items():
        if row.kind in members and phase in ("", row.phase):
            return name
    return ""


def chip_of(row: OpRow) -> ChipFigures | None:
    """The chip that a row ran on; None where its device is no device. Raises ConfigError for an unknown one."""
    name = row.device.split()[0]
    return None if name.casefold() in _NO_DEVICE else _chip(name)


@functools.cache
def _chip(device: str) -> ChipFigures:
    return ChipFigures.of(build_device_config(composed_preset(device, "performance")))


def compare_ops(rows: Iterable[OpRow], calibration: Calibration, path: str = "") -> list[OpComparison]:
    """Every row that can be predicted. Raises ConfigError, naming file and line, for a row in another unit."""
    found = []
    for row in rows:
        group = op_class(row)
        if not group:
            continue
        try:
            chip = chip_of(row)
        except ConfigError as error:
            raise ConfigError(f"{path}, line {row.line}: {error.message}", error.hint) from None
        if chip is None:
            continue
        predicted = op_row_us(row, chip, calibration.of(chip.arch))
        if predicted is None or predicted <= 0:
            continue
        _check_unit(row, predicted, path)
        found.append(OpComparison(row, group, chip, predicted))
    return found


def _check_unit(row: OpRow, predicted: float, path: str) -> None:
    ratio = predicted / row.us
    if row.flag or 1 / UNIT_FACTOR < ratio < UNIT_FACTOR:
        return
    unit = "milliseconds" if ratio > 1 else "nanoseconds"
    raise ConfigError(
        f"{path}, line {row.line}: kernel_us is {row.us:g} and {predicted:.3g} us are predicted: "
        f"microseconds are expected, this looks like {unit}.",
        "Convert it, or give the row a flag.",
    )


def class_errors(compared: Sequence[OpComparison]) -> list[ClassError]:
    """By class and architecture, over rows without a flag."""
    found = []
    for group, (_, _, target) in CLASSES.items():
        for arch in Arch:
            errors = [
                abs(each.error) * 100
                for each in compared
                if each.group == group and each.chip.arch is arch and not each.row.flag
            ]
            if errors:
                found.append(ClassError(group, arch, len(errors), median(errors), mean(errors), max(errors), target))
    return found


def arch_rows(rows: Iterable[OpRow], arch: Arch) -> list[tuple[OpRow, ChipFigures]]:
    """The rows without a flag of an architecture, each with its chip."""
    placed = [(row, chip_of(row)) for row in rows if not row.flag and op_class(row)]
    return [(row, chip) for row, chip in placed if chip is not None and chip.arch is arch]
