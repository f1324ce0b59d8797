# SPDX-License-Identifier: Apache-2.0
"""Measured times of single ops, as profiler reports give them, read from a CSV file and checked.

`shapes` is what a person writes: `32x4096x6144` for a matmul, `32u 32q8kv d128 pos 1024` for decode attention,
`S8192 at 8192 32q8kv d128` for a chunk of a prompt. op_shapes.py reads it.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.csv_rows import read_rows
from ..common.csv_rows import text as filled
from ..common.errors import ConfigError
from ..hardware.enums import DataFormat, MathFidelity
from ..hardware.op_table import DECODE, PHASES, PREFILL
from . import op_shapes as kinds
from .op_shapes import OpShape, op_kind, op_shape

REQUIRED = ("op", "shapes", "in_dtypes", "fidelity", "cores", "device", "kernel_us", "source")
OPTIONAL = ("date", "notes", "phase", "model", "batch_or_rows", "n", "flag")

_DTYPES = (*DataFormat.__members__, "FP32", "INT32", "UINT32", "UINT16")
_FULL_GRID = "full grid"
_SIZED = (kinds.MATMUL, kinds.ATTENTION, kinds.NORM, *kinds.COLLECTIVES)
_LARGEST = 2**24  # of one side of a tensor: 60 times the largest vocabulary, 16 times the longest context


@dataclass(frozen=True)
class OpRow:
    """One measured op: the median of `count` executions.

    op: its name in the profile. kind: what it is (op_shapes.KINDS), "" where predictions have no such op. shape: what
    `shapes` says. activations, weights: formats of its operands (`weights` is the cache's where it reads one), None
    where not given. cores: that it ran on, 0 where not given. device: as written; us: device kernel microseconds.
    flag: why a row is not to be compared, "" where nothing is known against it.
    """

    op: str
    kind: str
    phase: str
    shapes: str
    shape: OpShape
    activations: DataFormat | None
    weights: DataFormat | None
    fidelity: MathFidelity | None
    cores: int
    device: str
    us: float
    count: int
    model: str
    source: str
    flag: str
    line: int

    def __str__(self) -> str:
        return f"{self.op} {self.shapes} on {self.device}".replace("  ", " ")


def read_op_rows(path: str | Path) -> list[OpRow]:
    """The rows of a CSV file with the columns REQUIRED (OPTIONAL may be left out).

    Raises ConfigError naming the file and what is wrong: missing or unknown columns, then every bad row at once.
    """
    found = read_rows(Path(path), REQUIRED, _row, OPTIONAL)
    if not found:
        raise ConfigError(f"{path} has no rows.")
    return found


@functools.cache
def packaged_op_rows(path: Path) -> tuple[OpRow, ...]:
    """As `read_op_rows`, read once."""
    return tuple(read_op_rows(path))


def _row(text: Mapping[str, str], line: int) -> OpRow:
    for name in ("op", "device", "source"):
        filled(text, name)
    phase = text["phase"].split("/")[0] or _phase(text)
    _check_phase(phase)
    kind = op_kind(text["op"], phase)
    _check_shape(kind, text["shapes"])
    activations, weights = _formats(text["in_dtypes"])
    return OpRow(
        op=text["op"],
        kind=kind,
        phase=phase,
        shapes=text["shapes"],
        shape=op_shape(kind, text["shapes"], text["device"]),
        activations=activations,
        weights=weights,
        fidelity=_fidelity(text["fidelity"]),
        cores=_cores(text["cores"]),
        device=text["device"],
        us=_microseconds(text["kernel_us"]),
        count=_count(text["n"]),
        model=text["model"],
        source=text["source"],
        flag=text["flag"],
        line=line,
    )


def _check_shape(kind: str, text: str) -> None:
    """ValueError for the shape of an op of that kind that has no sizes, and for a size that no tensor has."""
    if kind in _SIZED and text and not re.search(r"\d|\bshort\b", text):
        raise ValueError(f"shapes must have the sizes of this {kind}, such as 32x4096x6144, or be empty, not {text!r}.")
    if too_large := [size for size in re.findall(r"\d+", text) if int(size) > _LARGEST]:
        raise ValueError(f"shapes has a size of {too_large[0]}: no tensor here has one above {_LARGEST}.")


def _phase(text: Mapping[str, str]) -> str:
    """The phase of a row without one: prefill where its op or its notes say so."""
    said = f"{text['op']} {text['notes']} {text['source']}".casefold()
    return PREFILL if PREFILL in said else DECODE


def _formats(text: str) -> tuple[DataFormat | None, DataFormat | None]:
    """Formats of both operands of `BF16xBFP4`; of the one operand of `BF16`, `BF16>BFP8` and `BFP8 cache`."""
    named = re.findall(r"[A-Z][A-Z0-9]*", text)
    unknown = [name for name in named if name not in _DTYPES]
    if text and (unknown or not named):
        raise ValueError(f"in_dtypes must name {', '.join(_DTYPES)} or be empty, not {text!r}.")
    first, _, second = text.partition("x")
    return _format(first), _format(second or first)


def _format(text: str) -> DataFormat | None:
    name = text.split(">")[0].split("+")[0].split()[0] if text.strip() else ""
    return DataFormat[name] if name in DataFormat.__members__ else None


def _fidelity(text: str) -> MathFidelity | None:
    if not text:
        return None
    if text.split()[0] not in MathFidelity.__members__:
        raise ValueError(f"fidelity must be one of {', '.join(MathFidelity.__members__)} or empty, not {text!r}.")
    return MathFidelity[text.split()[0]]


def _cores(text: str) -> int:
    """Cores as a number or as columns x rows; 0 where they are not given, or as `full grid`."""
    if text in ("", _FULL_GRID):
        return 0
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise ValueError(f"cores must be a number such as 64, 8x8, {_FULL_GRID!r} or empty, not {text!r}.")
    return math.prod(int(side) for side in sides)


def _microseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < math.inf:
        raise ValueError(f"kernel_us must be a number of microseconds above 0, not {text!r}.")
    return value


def _count(text: str) -> int:
    if text and (not text.isdecimal() or int(text) < 1):
        raise ValueError(f"n must be a whole number of at least 1 or empty, not {text!r}.")
    return int(text or 1)


def _check_phase(phase: str) -> None:
    """ValueError for a phase that there is not."""
    if phase not in PHASES:
        raise ValueError(f"phase must be one of {', '.join(PHASES)}, not {phase!r}.")
