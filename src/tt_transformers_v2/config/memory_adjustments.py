# SPDX-License-Identifier: Apache-2.0
"""Whether a model fits a device's DRAM, which device it would fit, and a prefill chunk where no table gives one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from ..common.units import GIB
from ..hardware.enums import PrecisionMode
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..perf.footprint import activation_bytes_per_token, prefill_tokens, weight_bytes
from ..perf.memory import MemoryFit, dram_left, memory_fit
from .adjustments import fit_to_model
from .device_presets import DevicePresets
from .findings import Finding, Severity, declare, found
from .groups import device_types
from .model_rules import RuleEffect, apply_rules, prefill_chunk

declare(
    "dram-overflow",
    Severity.error,
    "weights, KV cache, trace region and prefill exceed a chip's DRAM ([memory](memory.md)); the message says by "
    "how much and where they fit",
)
SMALLEST_CHUNK = 1024
LARGEST_CHUNK = 131072


def dram_findings(
    config: DeviceConfig, spec: ModelSpec, *, mode: PrecisionMode, batch: int, context: int
) -> list[Finding]:
    """An error, with the way out, when what `batch` users need exceeds a chip's DRAM (perf.memory says what counts)."""
    users = math.ceil(batch / max(config.parallelism.data_parallel_size, 1))
    fit = memory_fit(config, spec, batch=users, context=context)
    if fit.fits:
        return []
    device = smallest_device(config, spec, mode=mode, batch=batch, context=context)
    return [
        found(
            "dram-overflow",
            f"{spec.name} does not fit on {config.device_type}: each chip is {-fit.free / GIB:.2f} GiB short.",
            f"It needs {fit.used / GIB:.2f} of {fit.available / GIB:.2f} GiB "
            f"(weights {sum(fit.weights.values()) / GIB:.2f}, KV cache {fit.kv_cache / GIB:.2f}, "
            f"trace region {fit.trace_region / GIB:.2f}; reserve {fit.reserve / GIB:.2f} including prefill "
            f"{fit.activations / GIB:.2f}).",
            f"{_what_fits_here(config, spec, fit)}{_where_it_fits(device)}",
        )
    ]


def _what_fits_here(config: DeviceConfig, spec: ModelSpec, fit: MemoryFit) -> str:
    """The smallest concession that would do, or nothing where the weights leave no room for any."""
    chunk = _power_of_two(prefill_tokens(config, fit.context))
    while chunk >= SMALLEST_CHUNK:
        smaller = dataclasses.replace(config, max_prefill_chunk_size=chunk)
        if memory_fit(smaller, spec, batch=fit.batch, context=fit.context).fits:
            return f"It fits with device.max_prefill_chunk_size={chunk}. "
        chunk //= 2
    if fit.largest_batch:
        return f"At most {fit.largest_batch} users per group with {fit.context} tokens each fit. "
    if fit.largest_context:
        return f"At most {fit.largest_context} tokens per user fit. "
    return ""


def _where_it_fits(device: str | None) -> str:
    if device is None:
        return "It does not fit on any known device: use narrower formats."
    return f"The smallest device it fits on is device={device}."


def smallest_device(
    asked: DeviceConfig, spec: ModelSpec, *, mode: PrecisionMode, batch: int, context: int
) -> str | None:
    """The option of the device with the least DRAM that holds the model in the formats of `asked`, or None.

    It is another one than that of `asked`, which is known not to hold it.
    """
    fitting: list[tuple[int, str]] = []
    for kind, name in device_types().items():
        if kind == asked.device_type:
            continue
        config = apply_rules(DevicePresets.get_config(kind, mode), spec, mode=mode).config
        config.precision, config.layers = asked.precision, asked.layers
        fit_to_model(config, spec, batch=batch, context=context)
        computed_chunk(config, spec, ())
        users = math.ceil(batch / config.parallelism.data_parallel_size)
        if memory_fit(config, spec, batch=users, context=context).fits:
            fitting.append((config.spec.chip.dram_size * config.spec.chips, name))
    return min(fitting)[1] if fitting else None


def computed_chunk(config: DeviceConfig, spec: ModelSpec, typed: Iterable[str]) -> list[RuleEffect]:
    """Sets a prefill chunk where the published table is silent, and says how it was found.

    TTTv1 falls to 4096 tokens there without a word. Here: the largest power of two whose activations take at most half
    of the DRAM that weights leave free, from 1024 to 131072 tokens and within the model's context.
    """
    path = "device.max_prefill_chunk_size"
    if path in set(typed) or prefill_chunk(spec.name, config.device_type.value) is not None:
        return []
    per_token = activation_bytes_per_token(config, spec)
    free = dram_left(config, sum(weight_bytes(config, spec).values()))
    most = max(free // 2 // per_token, 1)
    chunk = min(_power_of_two(most), LARGEST_CHUNK, _power_of_two(spec.max_context))
    chunk = max(chunk, min(SMALLEST_CHUNK, LARGEST_CHUNK))
    if chunk == config.max_prefill_chunk_size:
        return []
    previous, config.max_prefill_chunk_size = config.max_prefill_chunk_size, chunk
    why = (
        f"no published chunk for this model and device; activations take {per_token / 1024:.0f} KiB per token and may "
        f"fill half of the {max(free, 0) / GIB:.1f} GiB of DRAM that the weights leave free"
    )
    return [RuleEffect("prefill-chunk-computed", path, chunk, previous, why=why)]


def _power_of_two(most: int) -> int:
    """The largest power of two up to `most`, which is at least 1."""
    return 1 << (most.bit_length() - 1)
