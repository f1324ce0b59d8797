# SPDX-License-Identifier: Apache-2.0
"""The ops CSV of tt-metal's device profiler: its columns, written from ops, so that tt-perf-report reads it.

The columns are those of the profiler's process_ops_logs that tt-perf-report 1.4.1 asks for (its format v2.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..common.files import csv_text
from ..hardware.enums import DataFormat

MAX_INPUTS = 2
_TENSORS = (*(f"INPUT_{index}" for index in range(MAX_INPUTS)), "OUTPUT_0")
_AXES = ("W", "Z", "Y", "X")
COLUMNS = (
    "OP CODE",
    "OP TYPE",
    "GLOBAL CALL COUNT",
    "DEVICE ID",
    "DEVICE ARCH",
    "ATTRIBUTES",
    "MATH FIDELITY",
    "CORE COUNT",
    "AVAILABLE WORKER CORE COUNT",
    "HOST START TS",
    "OP TO OP LATENCY [ns]",
    "DEVICE FW DURATION [ns]",
    "DEVICE KERNEL DURATION [ns]",
    *(
        name
        for tensor in _TENSORS
        for name in (
            *(f"{tensor}_{axis}_PAD[LOGICAL]" for axis in _AXES),
            f"{tensor}_LAYOUT",
            f"{tensor}_DATATYPE",
            f"{tensor}_MEMORY",
        )
    ),
)
DEVICE_OP = "tt_dnn_device"
_CALLS_APART = 1024  # the profiler counts calls in steps of this


@dataclass(frozen=True)
class Tensor:
    """One operand. shape: W, Z, Y, X as padded to tiles; logical: the same without padding. memory: as the profiler
    writes it, such as L1_WIDTH_SHARDED."""

    shape: tuple[int, int, int, int]
    logical: tuple[int, int, int, int]
    data: DataFormat
    memory: str


@dataclass(frozen=True)
class ProfiledOp:
    """One execution of a device op: its `code` in the profiler's words, times in microseconds.

    name: of the op as predictions print it. gap_us: between the op before and this one. attributes: as the profiler
    prints a program config; fidelity: "" where the op has none.
    """

    name: str
    code: str
    us: float
    gap_us: float
    cores: int
    inputs: tuple[Tensor, ...]
    output: Tensor
    fidelity: str = ""
    attributes: str = ""


def ops_csv(ops: Iterable[ProfiledOp], *, arch: str, cores: int) -> str:
    """The CSV's text for ops of one device that run one after another. `arch`: as ttnn names it; `cores`: of the grid
    that programs may use."""
    rows, clock = [], 0
    for index, op in enumerate(ops):
        gap, duration = round(op.gap_us * 1e3) if index else 0, round(op.us * 1e3)
        clock += gap
        row: dict[str, Any] = {
            "OP CODE": op.code,
            "OP TYPE": DEVICE_OP,
            "GLOBAL CALL COUNT": (index + 1) * _CALLS_APART,
            "DEVICE ID": 0,
            "DEVICE ARCH": arch,
            "ATTRIBUTES": op.attributes,
            "MATH FIDELITY": op.fidelity,
            "CORE COUNT": op.cores,
            "AVAILABLE WORKER CORE COUNT": cores,
            "HOST START TS": clock,
            "OP TO OP LATENCY [ns]": gap,
            "DEVICE FW DURATION [ns]": duration,
            "DEVICE KERNEL DURATION [ns]": duration,
        }
        clock += duration
        for name, tensor in zip(_TENSORS, op.inputs, strict=False):
            row |= _tensor(name, tensor)
        row |= _tensor(_TENSORS[-1], op.output)
        rows.append(row)
    return csv_text(rows, COLUMNS)


def _tensor(name: str, tensor: Tensor) -> dict[str, str]:
    sizes = zip(_AXES, tensor.shape, tensor.logical, strict=True)
    return {
        **{f"{name}_{axis}_PAD[LOGICAL]": f"{padded}[{logical}]" for axis, padded, logical in sizes},
        f"{name}_LAYOUT": "TILE",
        f"{name}_DATATYPE": PROFILER_NAMES[tensor.data],
        f"{name}_MEMORY": f"DEV_0_{tensor.memory}",
    }


# What the profiler calls a format.
PROFILER_NAMES = {DataFormat.BFP4: "BFLOAT4_B", DataFormat.BFP8: "BFLOAT8_B", DataFormat.BF16: "BFLOAT16"}
