# SPDX-License-Identifier: Apache-2.0
"""Reports of models that ran out of DRAM on cards, beside a configuration that is as large."""

from __future__ import annotations

import math
from pathlib import Path

from ..hardware.enums import PrecisionMode
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..perf.memory_rows import MemoryRow, read_memory_rows
from .conf_folders import conf_dirs, remembered
from .measured_points import measurements_file
from .model_shapes import LayerShape, described_spec

FILE = "memory.csv"
# Share of a reported cache by which a smaller one is still taken to be as large.
ALIKE = 0.05


def memory_rows() -> tuple[MemoryRow, ...]:
    """Every row of conf/measurements/memory.csv. Raises ConfigError with file and line for what is wrong in it."""
    return _rows(conf_dirs())


@remembered
def _rows(roots: tuple[Path, ...]) -> tuple[MemoryRow, ...]:
    return tuple(read_memory_rows(measurements_file(FILE)))


def known_overflow(
    config: DeviceConfig, spec: ModelSpec, *, mode: PrecisionMode, users: int, context: int
) -> MemoryRow | None:
    """The smallest cache that was reported to be too much for a model of this shape on this device, split and mode,
    where `users` of a group with `context` tokens each need as much, to within ALIKE, and the prefill chunk is as
    long; None where there is none. A report that does not state its chunk counts for every chunk."""
    shape, parallel = LayerShape.of(spec), config.parallelism
    found = []
    for row in memory_rows():
        same_place = (row.device, row.tensor_parallel) == (config.device_type.value, parallel.tensor_parallel_size)
        as_large = users * context > smaller_cache(row)
        as_large &= (row.chunk or 0) <= config.max_prefill_chunk_size
        if row.ran or row.flag or row.mode != mode.value or not (same_place and as_large):
            continue
        theirs = described_spec(row.model)
        if theirs is not None and LayerShape.of(theirs) == shape:
            found.append(row)
    return min(found, key=lambda row: row.batch * row.context, default=None)


def smaller_cache(row: MemoryRow) -> int:
    """Tokens of all users of a group together in the largest cache that is taken to be smaller than a reported one."""
    return math.ceil(row.batch * row.context * (1 - ALIKE)) - 1
