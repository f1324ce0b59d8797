# SPDX-License-Identifier: Apache-2.0
"""A measured profile, read from the profiler's ops CSV or from the CSV that tt-perf-report makes of it.

Both list one device op a row. tt-perf-report's has no shapes but those of matmuls, which stand in the op code.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..common.errors import ConfigError
from ..common.units import TILE
from ..hardware.op_table import DECODE
from . import op_shapes as kinds
from .op_shapes import op_kind
from .ops_csv import DEVICE_OP, PROFILER_NAMES

_RAW = ("OP CODE", "DEVICE KERNEL DURATION [ns]")
_REPORT = ("OP Code", "Device Time")
_FORMATS = {name: data.value for data, name in PROFILER_NAMES.items()}
_MATMUL_SHAPE = re.compile(r"(\d+) x (\d+) x (\d+)$")
_TENSOR_SIZE = re.compile(r"(\d+)")


@dataclass(frozen=True)
class MeasuredOp:
    """One device op of a profile: its op code and its kind (op_shapes.KINDS, "" where predictions have none).

    shape: of a matmul (rows padded to tiles, inputs, outputs), else (). formats: of the operands, "" where not given.
    us: kernel time; gap_us: since the op before, None where the profile does not say. line: of the file.
    """

    code: str
    kind: str
    shape: tuple[int, ...]
    formats: tuple[str, str]
    fidelity: str
    us: float
    gap_us: float | None
    line: int


@dataclass(frozen=True)
class MeasuredProfile:
    """The ops of one device, in order; `devices` that were profiled and of whose times each op has the mean; their
    architecture as the profiler spells it, "" where it is not said."""

    ops: tuple[MeasuredOp, ...]
    devices: int
    arch: str = ""


def read_profile(path: str | Path) -> MeasuredProfile:
    """The device ops of a profile. Raises ConfigError naming the file, and its line where one is wrong."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            columns = list(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is not a CSV file: {error}.") from None
    read: Callable[[Mapping[str, str], int], tuple[str, MeasuredOp] | None]
    if all(name in columns for name in _RAW):
        read = _raw_op
    elif all(name in columns for name in _REPORT):
        read = _report_op
    else:
        raise ConfigError(
            f"{path} is not a profile: it has neither the columns {', '.join(_RAW)} nor {', '.join(_REPORT)}.",
            "Give the profiler's ops_perf_results CSV, or what tt-perf-report --csv wrote.",
        )
    by_device: dict[str, list[MeasuredOp]] = {}
    for line, row in rows:
        try:
            found = read({name: (value or "").strip() for name, value in row.items() if name is not None}, line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {line}: {error}") from None
        if found is not None:
            by_device.setdefault(found[0], []).append(found[1])
    if not by_device:
        raise ConfigError(f"{path} has no device ops.")
    arch = next((row["DEVICE ARCH"].strip() for _, row in rows if row.get("DEVICE ARCH")), "")
    return MeasuredProfile(tuple(_named_products(_mean(path, list(by_device.values())))), len(by_device), arch)


def _mean(path: str | Path, devices: Sequence[Sequence[MeasuredOp]]) -> list[MeasuredOp]:
    """The mean over devices, which must have executed the same ops."""
    first = devices[0]
    for other in devices[1:]:
        if [op.code for op in other] != [op.code for op in first]:
            raise ConfigError(
                f"{path}: its devices did not execute the same ops.", "Give the profile of one of the devices."
            )
    return [replace(op, us=sum(other[index].us for other in devices) / len(devices)) for index, op in enumerate(first)]


def _raw_op(row: Mapping[str, str], line: int) -> tuple[str, MeasuredOp] | None:
    if row.get("OP TYPE", DEVICE_OP) != DEVICE_OP or not row["DEVICE KERNEL DURATION [ns]"]:
        return None
    code = row["OP CODE"]
    kind = _kind(code, row.get("ATTRIBUTES", ""))
    shape: tuple[int, ...] = ()
    if kind == kinds.MATMUL:
        shape = (_size(row, "INPUT_0", "Y"), _size(row, "INPUT_0", "X"), _size(row, "INPUT_1", "X"))
    gap = row.get("OP TO OP LATENCY [ns]", "")
    return row.get("DEVICE ID", ""), MeasuredOp(
        code=code,
        kind=kind,
        shape=_padded(shape),
        formats=(_format(row.get("INPUT_0_DATATYPE", "")), _format(row.get("INPUT_1_DATATYPE", ""))),
        fidelity=row.get("MATH FIDELITY", "") if kind == kinds.MATMUL else "",
        us=_number(row["DEVICE KERNEL DURATION [ns]"], "DEVICE KERNEL DURATION [ns]") / 1e3,
        gap_us=_number(gap, "OP TO OP LATENCY [ns]") / 1e3 if gap else None,
        line=line,
    )


def _report_op(row: Mapping[str, str], line: int) -> tuple[str, MeasuredOp] | None:
    if not row["Device Time"] or "(signpost)" in row["OP Code"]:
        return None
    code, found = row["OP Code"], _MATMUL_SHAPE.search(row["OP Code"])
    kind = _kind(code, "")
    gap, fidelity = row.get("Op-to-Op Gap", ""), row.get("Math Fidelity", "").split()
    return row.get("Device", ""), MeasuredOp(
        code=code.split()[0],
        kind=kind,
        shape=_padded(tuple(int(side) for side in found.groups())) if found and kind == kinds.MATMUL else (),
        formats=(_format(row.get("Input 0 Datatype", "")), _format(row.get("Input 1 Datatype", ""))),
        fidelity=fidelity[0] if kind == kinds.MATMUL and fidelity else "",
        us=_number(row["Device Time"], "Device Time"),
        gap_us=_number(gap, "Op-to-Op Gap") if gap else None,
        line=line,
    )


def _kind(code: str, attributes: str) -> str:
    """The kind of an op code; of a binary op where its attributes say which it is."""
    if code.casefold().startswith("embedding"):
        return EMBEDDING_KIND
    if code.casefold().startswith("binary"):
        if "MUL" in attributes:
            return kinds.GATED
        return kinds.ADD if "ADD" in attributes else _UNKNOWN_BINARY
    return op_kind(code.split()[0] if code else code, DECODE)


EMBEDDING_KIND = "embedding"
_UNKNOWN_BINARY = "binary"


def _named_products(ops: Sequence[MeasuredOp]) -> list[MeasuredOp]:
    """The ops, binary ones without attributes named: between two matmuls stands the MLP's product, else an addition."""
    found = []
    for index, op in enumerate(ops):
        if op.kind == _UNKNOWN_BINARY:
            before = ops[index - 1].kind if index else ""
            behind = next((other.kind for other in ops[index + 1 :] if other.kind != kinds.MOVE), "")
            between = before == kinds.MATMUL and behind == kinds.MATMUL
            found.append(replace(op, kind=kinds.GATED if between else kinds.ADD))
        else:
            found.append(op)
    return found


def _size(row: Mapping[str, str], tensor: str, axis: str) -> int:
    """A side of a tensor, padded: of `4096[4096]`, or `4096` in CSVs of the profiler before it wrote logical sizes."""
    name = f"{tensor}_{axis}_PAD[LOGICAL]"
    text = row.get(name) or row.get(f"{tensor}_{axis}", "")
    found = _TENSOR_SIZE.match(text)
    if not found:
        raise ValueError(f"{name} must be a size such as 4096[4096], not {text!r}.")
    return int(found.group())


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (math.ceil(shape[0] / TILE) * TILE, *shape[1:]) if shape else ()


def _format(text: str) -> str:
    return _FORMATS.get(text, "" if text == "nan" else text)


def _number(text: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise ValueError(f"{column} must be a number of at least 0, not {text!r}.")
    return value
