# SPDX-License-Identifier: Apache-2.0
"""How much trace region a model was seen to need on a device: servers and demos that ended for want of it.

ttnn says how much it wanted when a trace does not fit: "Creating trace buffers of size …". Serving needs more than a
demo, because vLLM's plugin traces prompts of several lengths too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.csv_rows import count, read_rows, text
from .conf_folders import conf_dirs, remembered
from .measured_points import measurements_file
from .model_shapes import LayerShape, described_spec

FILE = "trace_demands.csv"
COLUMNS = ("model", "device", "bytes", "allocated", "date", "source")


@dataclass(frozen=True)
class TraceDemand:
    """`bytes` of traces per chip that did not fit in the `allocated` ones."""

    model: str
    device: str
    bytes: int
    allocated: int
    date: str
    source: str


def trace_demand(model: object, device_type: str) -> TraceDemand | None:
    """The largest known demand of models of this shape on a device; None where none is known.

    A trace holds the commands of every op of every layer, so its size goes with the shape of the layers and their
    number, not with the name.
    """
    demands = _demands(device_type, conf_dirs())
    shape = LayerShape.of(model) if demands else None
    return demands.get(shape) if shape else None


@remembered
def _demands(device_type: str, roots: tuple[Path, ...]) -> dict[LayerShape, TraceDemand]:
    found: dict[LayerShape, TraceDemand] = {}
    for demand in _rows(roots):
        spec = described_spec(demand.model) if demand.device == device_type else None
        shape = None if spec is None else LayerShape.of(spec)
        if shape is not None:
            found[shape] = max(found.get(shape, demand), demand, key=lambda each: each.bytes)
    return found


@remembered
def _rows(roots: tuple[Path, ...]) -> tuple[TraceDemand, ...]:
    return tuple(read_rows(measurements_file(FILE), COLUMNS, _demand))


def _demand(row: Mapping[str, str], line: int) -> TraceDemand:
    found = TraceDemand(
        text(row, "model"),
        text(row, "device"),
        count(row, "bytes"),
        count(row, "allocated", least=0),
        text(row, "date"),
        text(row, "source"),
    )
    if found.bytes <= found.allocated:
        raise ValueError(f"{found.bytes} bytes fit in the {found.allocated} allocated.")
    return found
