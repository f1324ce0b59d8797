# SPDX-License-Identifier: Apache-2.0
"""Reports of models that ran out of DRAM on cards, beside a configuration that is as large."""

from __future__ import annotations

import copy
import math
from pathlib import Path

from ..common.errors import ConfigError
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..perf.footprint import kv_block_bytes, weight_bytes
from ..perf.memory import DYNAMIC_TRACES
from ..perf.memory_rows import MemoryRow, read_memory_rows
from .conf_folders import conf_dirs, remembered
from .device_presets import build_device_config, composed_preset, precision_mode
from .measured_points import measurements_file
from .model_rules import apply_rules
from .model_shapes import LayerShape, described_spec

FILE = "memory.csv"
# Share of a reported cache by which a smaller one is still taken to be as large.
ALIKE = 0.05
# Share of reported weights by which fewer are still taken to be as many.
WEIGHTS_ALIKE = 0.01


def memory_rows() -> tuple[MemoryRow, ...]:
    """Every row of conf/measurements/memory.csv. Raises ConfigError with file and line for what is wrong in it."""
    return _rows(conf_dirs())


@remembered
def _rows(roots: tuple[Path, ...]) -> tuple[MemoryRow, ...]:
    return tuple(read_memory_rows(measurements_file(FILE)))


def known_overflow(config: DeviceConfig, spec: ModelSpec, *, users: int, context: int) -> MemoryRow | None:
    """The smallest cache that was reported to be too much for a model of this shape on such a chip, split alike, where
    `users` of a group with `context` tokens each need as much, to within ALIKE; None where there is none.

    Weights, cache and trace region must take as many bytes as those of the report. A shorter prefill chunk than the
    report's is taken to help only where another report says that the same ran with one; a report that does not state
    its chunk counts for every chunk.
    """
    rows = [row for row in memory_rows() if not row.flag and _split_alike(row, config)]
    if not any(not row.ran and users * context > smaller_cache(row) for row in rows):
        return None  # as nearly always, and before any file of a model is read
    shape = LayerShape.of(spec)
    alike = [row for row in rows if _same_shape(row, shape) and _same_chip(row, config)]
    own = sum(weight_bytes(config, spec).values()), kv_block_bytes(config, spec)
    found = []
    for row in alike:
        needed = None if row.ran or users * context <= smaller_cache(row) else _needed(row, config)
        if needed is None or (config.trace_region_size or DYNAMIC_TRACES) < (row.trace_region or 0):
            continue
        as_much = own[0] >= needed[0] * (1 - WEIGHTS_ALIKE) and own[1] >= needed[1]
        longer = (row.chunk or 0) > config.max_prefill_chunk_size
        if as_much and not (longer and any(_ran_with_shorter(other, row, needed, config) for other in alike)):
            found.append(row)
    return min(found, key=lambda row: row.batch * row.context, default=None)


def _split_alike(row: MemoryRow, config: DeviceConfig) -> bool:
    return row.tensor_parallel == config.parallelism.tensor_parallel_size


def _same_chip(row: MemoryRow, config: DeviceConfig) -> bool:
    theirs = _preset(row.device, row.mode, conf_dirs())
    if theirs is None:
        return False
    chip, other = config.spec.chip, theirs.spec.chip
    return (chip.arch, chip.dram_size) == (other.arch, other.dram_size)


def _same_shape(row: MemoryRow, shape: LayerShape | None) -> bool:
    theirs = described_spec(row.model)
    return theirs is not None and shape is not None and LayerShape.of(theirs) == shape


def _needed(row: MemoryRow, config: DeviceConfig) -> tuple[int, int] | None:
    """Bytes of weights, and of a page of cache, of a reported configuration, split as `config`; None where unknown."""
    preset, described = _preset(row.device, row.mode, conf_dirs()), described_spec(row.model)
    if preset is None or described is None:
        return None
    theirs = apply_rules(copy.deepcopy(preset), described, mode=precision_mode(row.mode)).config
    theirs.parallelism = config.parallelism
    return sum(weight_bytes(theirs, described).values()), kv_block_bytes(theirs, described)


def _ran_with_shorter(other: MemoryRow, row: MemoryRow, needed: tuple[int, int], config: DeviceConfig) -> bool:
    """Whether as much as ran out in `row`, which needed so many bytes, ran with a shorter chunk in `other`."""
    if not other.ran or not other.chunk or other.chunk >= (row.chunk or 0):
        return False
    theirs = _needed(other, config)
    as_large = other.batch * other.context >= row.batch * row.context
    return theirs is not None and as_large and theirs[0] >= needed[0] * (1 - WEIGHTS_ALIKE) and theirs[1] >= needed[1]


@remembered
def _preset(device: str, mode: str, roots: tuple[Path, ...]) -> DeviceConfig | None:
    """The preset that a report ran; None for one with formats of its own."""
    try:
        return build_device_config(composed_preset(device, mode))
    except ConfigError:
        return None


def smaller_cache(row: MemoryRow) -> int:
    """Tokens of all users of a group together in the largest cache that is taken to be smaller than a reported one."""
    return math.ceil(row.batch * row.context * (1 - ALIKE)) - 1
