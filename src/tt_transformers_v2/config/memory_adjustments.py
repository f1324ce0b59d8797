# SPDX-License-Identifier: Apache-2.0
"""Whether a model fits a device's DRAM, which device it would fit, and a prefill chunk where no table gives one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from ..common.errors import ConfigError
from ..common.units import GIB, TILE
from ..hardware.enums import DataFormat, PrecisionMode
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..perf.footprint import KV_BLOCK, activation_bytes_per_token, prefill_tokens, weight_bytes
from ..perf.memory import MemoryFit, dram_left, memory_fit
from ..perf.memory_rows import MemoryRow
from .adjustments import fit_to_model
from .checks import check
from .device_presets import build_device_config, composed_preset
from .findings import Finding, Severity, declare, found
from .groups import device_types
from .known_overflows import known_overflow, smaller_cache
from .model_rules import RuleEffect, apply_rules, published_chunk
from .precedence import set_path

declare(
    "dram-overflow",
    Severity.error,
    "weights, KV cache, trace region and prefill exceed a chip's DRAM ([memory](memory.md)); the message says by "
    "how much and where they fit",
)
declare(
    "dram-narrow",
    Severity.warning,
    "less than 5 % of a chip's DRAM is free beside the reserve ([memory](memory.md))",
)
# Share of DRAM: a fit with less than this free beside the reserve is one to be tried first.
NARROW = 0.05
SMALLEST_CHUNK = 2048
LARGEST_CHUNK = 131072
CHUNK = "device.max_prefill_chunk_size"


class Roomier(NamedTuple):
    """A device that holds a model: bytes of DRAM of its chips together, its option, typed values it cannot keep."""

    dram: int
    option: str
    without: tuple[str, ...]


def dram_findings(
    config: DeviceConfig,
    spec: ModelSpec,
    *,
    mode: PrecisionMode,
    batch: int,
    context: int,
    typed: Iterable[str] = (),
    batched: int = 0,
) -> list[Finding]:
    """An error, with the way out, when what `batch` users need exceeds a chip's DRAM (perf.memory says what counts); a
    warning when it fits narrowly.

    `typed` are the dotted paths the user set, which hold on another device too; `batched` as memory_fit has it.
    """
    users = math.ceil(batch / max(config.parallelism.data_parallel_size, 1))
    fit = memory_fit(config, spec, batch=users, context=context, batched=batched)
    known = known_overflow(config, spec, users=users, context=context)
    if fit.fits and known is None:
        return _narrow(config, spec, fit)
    device = smallest_device(config, spec, mode=mode, batch=batch, context=context, typed=typed, batched=batched)
    return [
        found(
            "dram-overflow",
            f"{spec.name} does not fit on {config.device_type}: {_how_short(fit)}.",
            f"It needs {fit.used / GIB:.2f} of {fit.available / GIB:.2f} GiB "
            f"(weights {sum(fit.weights.values()) / GIB:.2f}, KV cache {fit.kv_cache / GIB:.2f}, "
            f"trace region {fit.trace_region / GIB:.2f}; reserve {fit.reserve / GIB:.2f} including prefill "
            f"{fit.activations / GIB:.2f}).{_reported(known)}",
            f"{_what_fits_here(config, spec, fit, known, batched)}{_where_it_fits(device)}",
        )
    ]


def _how_short(fit: MemoryFit) -> str:
    if fit.fits:
        return f"by the map {fit.free / GIB:.2f} GiB of each chip would be free, but a card ran out"
    return f"each chip is {-fit.free / GIB:.2f} GiB short"


def _narrow(config: DeviceConfig, spec: ModelSpec, fit: MemoryFit) -> list[Finding]:
    """A warning where less than NARROW of DRAM is free beside the reserve."""
    if fit.free >= NARROW * fit.dram_size:
        return []
    return [
        found(
            "dram-narrow",
            f"{spec.name} fits narrowly on {config.device_type}: {fit.free / GIB:.2f} GiB of each chip are free, "
            f"{100 * fit.free / fit.dram_size:.1f} %.",
            f"That is beside a reserve of {fit.reserve / GIB:.2f} GiB, fitted to what ran and what ran out on cards.",
            "Try it before you rely on it, or use fewer users, a shorter context or narrower formats.",
        )
    ]


def _reported(known: MemoryRow | None) -> str:
    if known is None:
        return ""
    cache = f"{known.context} tokens" if known.batch == 1 else f"{known.batch} x {known.context} tokens"
    return f" On a card {known.model} ran out of DRAM with {cache} ({known.source})."


def _what_fits_here(
    config: DeviceConfig, spec: ModelSpec, fit: MemoryFit, known: MemoryRow | None, batched: int
) -> str:
    """The smallest concessions that would do, or nothing where the weights leave no room for any."""
    chunk = None if known else _chunk_that_fits(config, spec, fit, batched)
    either = [each for each in (chunk, _cache_that_fits(config, spec, fit, batched)) if each]
    said = f"It fits with {' or '.join(either)}. " if either else ""
    if chunk:
        return said
    users, tokens = fit.largest_batch, fit.largest_context
    if known is not None:
        most = smaller_cache(known)
        users, tokens = min(users, most // fit.context), min(tokens, most // fit.batch // KV_BLOCK * KV_BLOCK)
    if users:
        return f"{said}At most {users} user{'s' * (users > 1)} per group with {fit.context} tokens each fit. "
    return f"{said}At most {tokens} tokens per user fit. " if tokens else said


def _chunk_that_fits(config: DeviceConfig, spec: ModelSpec, fit: MemoryFit, batched: int) -> str | None:
    """What to type for the longest prefill chunk that fits, from SMALLEST_CHUNK up; None where none does."""
    chunk = _power_of_two(prefill_tokens(config, fit.context, batched))
    while chunk >= SMALLEST_CHUNK:
        smaller = dataclasses.replace(config, max_prefill_chunk_size=chunk)
        if memory_fit(smaller, spec, batch=fit.batch, context=fit.context, batched=batched).fits:
            return f"{CHUNK}={chunk}"
        chunk //= 2
    return None


def _cache_that_fits(config: DeviceConfig, spec: ModelSpec, fit: MemoryFit, batched: int) -> str | None:
    """What to type for the widest format of the KV cache, narrower than that asked for, that fits; None where none
    does."""
    asked = config.precision.kv_cache
    for narrower in sorted(DataFormat, key=lambda each: -each.tile_bytes):
        if narrower.tile_bytes < asked.tile_bytes:
            own = dataclasses.replace(config, precision=dataclasses.replace(config.precision, kv_cache=narrower))
            if _has_room(own, spec, users=fit.batch, context=fit.context, batched=batched):
                return f"precision.kv_cache={narrower}"
    return None


def _where_it_fits(device: Roomier | None) -> str:
    if device is None:
        return "It does not fit on any known device: use narrower formats."
    without = f", without {' and '.join(device.without)}" if device.without else ""
    return f"The device with the least DRAM that it fits on is device={device.option}{without}."


def smallest_device(
    asked: DeviceConfig,
    spec: ModelSpec,
    *,
    mode: PrecisionMode,
    batch: int,
    context: int,
    typed: Iterable[str] = (),
    batched: int = 0,
) -> Roomier | None:
    """The device with the least DRAM that holds the model in the formats of `asked` and with what was `typed`, or None.

    It is another one than that of `asked`, which is known not to hold it. A typed split that its chips cannot be shared
    out in is left out.
    """
    paths = set(typed)
    split = tuple(sorted(path for path in paths if path.startswith("parallelism.")))
    candidates: list[tuple[Roomier, DeviceConfig]] = []
    for kind, name in device_types().items():
        if kind == asked.device_type:
            continue
        for without in dict.fromkeys(((), split)):
            with suppress(ConfigError):  # for example where it cannot dispatch as was typed
                config = _as_typed(kind, asked, mode, paths.difference(without))
                dram = config.spec.chip.dram_size * config.spec.chips
                candidates.append((Roomier(dram, name, without), config))
    for device, config in sorted(candidates, key=lambda candidate: candidate[0]):
        kept = paths.difference(device.without)
        with suppress(ConfigError):
            ruled = apply_rules(config, spec, mode=mode, typed=kept).config
            ruled.precision, ruled.layers = asked.precision, asked.layers
            if _holds(ruled, spec, batch=batch, context=context, typed=kept, batched=batched):
                return device
    return None


def _as_typed(kind: str, asked: DeviceConfig, mode: PrecisionMode, typed: set[str]) -> DeviceConfig:
    """The preset of another device with what was typed in `asked`, before the model's rules."""
    composed = composed_preset(kind, mode)
    sections = {"device": asked.spec, "memory": asked.memory, "parallelism": asked.parallelism}
    for path in typed:
        section, _, name = path.partition(".")
        if name and section in sections:
            set_path(composed, path, _value(sections[section], name))
    return build_device_config(composed)


def _value(section: Any, name: str) -> Any:
    for part in name.split("."):
        section = section[part] if isinstance(section, Mapping) else getattr(section, part)
    return section


def _holds(config: DeviceConfig, spec: ModelSpec, *, batch: int, context: int, typed: set[str], batched: int) -> bool:
    fit_to_model(config, spec, typed=typed)
    computed_chunk(config, spec, typed)
    shorter_chunk(config, spec, batch=batch, context=context, typed=typed, batched=batched)
    found = check(config, spec, batch=batch, context=context, prompt_length=context)
    if any(finding.severity is Severity.error for finding in found):
        return False
    users = math.ceil(batch / config.parallelism.data_parallel_size)
    return _has_room(config, spec, users=users, context=context, batched=batched)


def _has_room(config: DeviceConfig, spec: ModelSpec, *, users: int, context: int, batched: int) -> bool:
    """Whether DRAM holds `users` of a group by the map, and no report says that it does not."""
    fits = memory_fit(config, spec, batch=users, context=context, batched=batched).fits
    return fits and known_overflow(config, spec, users=users, context=context) is None


def computed_chunk(config: DeviceConfig, spec: ModelSpec, typed: Iterable[str]) -> list[RuleEffect]:
    """Sets a prefill chunk where the published table is silent, and says how it was found.

    TTTv1 falls to 4096 tokens there without a word. Here: the largest power of two whose activations take at most half
    of the DRAM that weights leave free, from 2048 to 131072 tokens, within the model's context and of whole tiles.
    """
    if CHUNK in set(typed) or published_chunk(spec, config.device_type.value) is not None:
        return []
    per_token = activation_bytes_per_token(config, spec)
    free = dram_left(config, sum(weight_bytes(config, spec).values()))
    room = max(free // 2 // per_token, SMALLEST_CHUNK)
    chunk = _power_of_two(min(room, LARGEST_CHUNK, max(spec.max_context, TILE)))
    if chunk == config.max_prefill_chunk_size:
        return []
    previous, config.max_prefill_chunk_size = config.max_prefill_chunk_size, chunk
    why = (
        f"no published chunk for this model and device; activations take {per_token / 1024:.0f} KiB per token and may "
        f"fill half of the {max(free, 0) / GIB:.1f} GiB of DRAM that the weights leave free"
    )
    return [RuleEffect("prefill-chunk-computed", CHUNK, chunk, previous, why=why)]


def shorter_chunk(
    config: DeviceConfig,
    spec: ModelSpec,
    *,
    batch: int,
    context: int,
    typed: Iterable[str],
    batched: int = 0,
) -> list[RuleEffect]:
    """Halves the prefill chunk, typed ones apart, until `batch` users of `context` tokens fit, and says so.

    Down to SMALLEST_CHUNK, where it stays if even that is too long: what is short then is short without prefill. Where
    cards ran out of DRAM with such a chunk, a shorter one is not taken to help: Llama-3.1-8B with 65536 tokens on an
    n150 ran out at prompts of 1024 tokens too (tenstorrent/vllm PR 289).
    """
    previous = config.max_prefill_chunk_size
    if CHUNK in set(typed) or previous <= SMALLEST_CHUNK:
        return []
    users = math.ceil(batch / max(config.parallelism.data_parallel_size, 1))

    def holds(chunk: int) -> bool:
        config.max_prefill_chunk_size = chunk
        return _has_room(config, spec, users=users, context=context, batched=batched)

    if holds(previous):
        return []
    chunk = min(previous, prefill_tokens(config, context, batched))
    config.max_prefill_chunk_size = SMALLEST_CHUNK
    helpless = known_overflow(config, spec, users=users, context=context)
    config.max_prefill_chunk_size = previous
    if helpless:
        return []
    while chunk > SMALLEST_CHUNK:
        chunk = max(_power_of_two(chunk - 1), SMALLEST_CHUNK)
        if holds(chunk):
            break
    if config.max_prefill_chunk_size == previous:
        return []
    why = f"chunks of {previous} tokens leave too little DRAM for {users} x {context} tokens of cache"
    return [RuleEffect("prefill-chunk-fits", CHUNK, config.max_prefill_chunk_size, previous, why=why)]


def _power_of_two(most: int) -> int:
    """The largest power of two up to `most`, which is at least 1."""
    return 1 << (most.bit_length() - 1)
