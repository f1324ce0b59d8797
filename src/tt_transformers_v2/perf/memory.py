# SPDX-License-Identifier: Apache-2.0
"""Does it fit: DRAM of one chip for weights, KV cache and trace region, against what the chip offers less a reserve.

The trace region is beside the reserve: the configuration fixes it, and ttnn takes it out of DRAM before anything is
placed. hw.trace_region_size is its size over all banks, as since tt-metal PR 47122 (June 2026). Older releases took as
much from every bank, on Wormhole twelve times that. With zero, ttnn allocates traces like tensors as they are captured:
DYNAMIC_TRACES stands for them.

Inside the reserve are the rotary tables, as long as the context, prefill activations with what the allocator loses
between them, and what is small or unknown: page tables, biases, program binaries, buffers of collectives and of
sampling, decode activations placed in DRAM, what ttnn keeps of each bank. Activations come and go, but they can outgrow
any reserve, with 5.6 GiB of an n150's 12 for Llama-3.2-1B at its published chunk of 131072 tokens. A prompt as long as
the context is assumed, computed chunk by chunk, one user at a time.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..common.units import GIB, TILE
from ..hardware.enums import Placement
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from .footprint import (
    KV_BLOCK,
    activation_bytes_per_token,
    kv_block_bytes,
    kv_cache_bytes,
    prefill_tokens,
    rotary_bytes_per_position,
    weight_bytes,
)
from .l1 import L1Map, MemoryLine, l1_map
from .ops import require_positive

# Share of DRAM kept back at least. The auto_shard model (tt-metal PR 50597) counts 95 % usable.
RESERVE = 0.05
# Share of DRAM kept back for what is not named, and the part of prefill activations that the allocator loses besides:
# buffers must be contiguous on every bank. Fitted together, November 2026, to the 17 rows that count in
# conf/measurements/memory.csv, all Wormhole: none that ran out fits, all that ran do. The nearest on either side, on an
# n150, are Llama-3.1-8B with 65536 tokens (ran out; 0.24 % of DRAM short) and Llama-3.2-3B with 133120
# (ran; 0.21 % free).
UNNAMED = 0.045
FRAGMENTED = 0.1
# Bytes: what tt_transformers reserves where its table has no entry, and vLLM's plugin where it is told nothing.
DYNAMIC_TRACES = 50_000_000
KIB = 1 << 10


@dataclass(frozen=True)
class MemoryFit:
    """Memory of one chip, in bytes.

    weights: in DRAM by tensor group (wqkv, wo, ff1_ff3, ff2, lm_head, embedding, norm), with what pads them to the
        banks. kv_cache: in DRAM. trace_region: beside both, DYNAMIC_TRACES where it is allocated as traces come.
        activations: of prefill, and rotary: tables of cosines and sines, parts of the reserve (see the module).
        available: DRAM less the reserve. l1: what lies in a core's L1.
    largest_batch: users per data-parallel group that fit at the asked context; most_users: how many the device takes.
    largest_context: tokens per user that fit at the asked batch (a multiple of the cache's page, capped at the model's
        max_context). Both are 0 where nothing fits, and count L1 where the KV cache is placed there.
    """

    weights: dict[str, int]
    kv_cache: int
    trace_region: int
    activations: int
    rotary: int
    available: int
    dram_size: int
    batch: int
    context: int
    largest_batch: int
    most_users: int
    largest_context: int
    l1: L1Map
    summary: str

    @property
    def used(self) -> int:
        """Bytes of DRAM for weights, KV cache and trace region together."""
        return sum(self.weights.values()) + self.kv_cache + self.trace_region

    @property
    def fits(self) -> bool:
        """Whether DRAM holds it; `l1.over` answers for L1."""
        return self.used <= self.available

    @property
    def reserve(self) -> int:
        """Bytes of DRAM that are kept back, prefill's activations among them."""
        return self.dram_size - self.available

    @property
    def free(self) -> int:
        """Beside the reserve; negative where it does not fit."""
        return self.available - self.used

    def lines(self) -> list[MemoryLine]:
        """The map of DRAM in order, empty rows left out; the bytes add up to the chip's DRAM."""
        rows = {f"weights {group}": size for group, size in self.weights.items()}
        rows |= {"KV cache": self.kv_cache, "trace region": self.trace_region}
        rows |= {"prefill activations": self.activations, "rotary tables": self.rotary}
        rows |= {"rest of the reserve": self.reserve - self.activations - self.rotary}
        shown = [(name, size) for name, size in rows.items() if size]
        return [MemoryLine(name, size, size / self.dram_size) for name, size in [*shown, ("free", self.free)]]


def memory_fit(
    hw: DeviceConfig, spec: ModelSpec, *, batch: int = 1, context: int | None = None, batched: int = 0
) -> MemoryFit:
    """Memory per chip: `batch` users per data-parallel group of `context` tokens (default max_context).

    `batched`: tokens of the prompts that batched prefill computes in one pass (footprint.batched_tokens); 0 where
    prompts come one by one.

    Raises ConfigError for sizes below one, and for a device that cannot dispatch as asked.
    """
    context = spec.max_context if context is None else context
    require_positive(batch=batch, context=context)
    weights = weight_bytes(hw, spec)
    l1 = l1_map(hw, spec, batch=batch, context=context)
    room = _Room.of(hw, spec, sum(weights.values()), l1, batched)
    fit = MemoryFit(
        weights=weights,
        kv_cache=room.dram_page * batch * _pages(context),
        trace_region=_traces(hw),
        activations=room.prefill(context),
        rotary=room.rotary(context),
        available=hw.spec.chip.dram_size - room.reserve(context),
        dram_size=hw.spec.chip.dram_size,
        batch=batch,
        context=context,
        largest_batch=room.largest_batch(context),
        most_users=hw.max_batch_size,
        largest_context=room.largest_context(batch, spec.max_context),
        l1=l1,
        summary="",
    )
    return dataclasses.replace(fit, summary=_summary(hw, spec, fit))


def dram_left(hw: DeviceConfig, weights: int) -> int:
    """Bytes of one chip's DRAM beside `weights` bytes of weights, the trace region and the smallest reserve."""
    size = hw.spec.chip.dram_size
    return size - math.ceil(size * RESERVE) - _traces(hw) - weights


def _traces(hw: DeviceConfig) -> int:
    return hw.trace_region_size or DYNAMIC_TRACES


class _Room(NamedTuple):
    """What is left for the two things that grow: the KV cache, in DRAM or L1, and the reserve.

    Bytes per chip: dram beside weights and trace region; dram_page, l1_page of one page of one user's cache, where it
        is placed there; least and unnamed of the reserve; per_token of prefill; rotary_row of one position. Bytes per
        core: l1 beside the weights; l1_row of 32 users' activations.
    """

    hw: DeviceConfig
    batched: int
    dram: int
    dram_page: int
    least: int
    unnamed: int
    per_token: int
    rotary_row: int
    l1: int
    l1_page: int
    l1_row: int

    @classmethod
    def of(cls, hw: DeviceConfig, spec: ModelSpec, weights: int, l1: L1Map, batched: int) -> _Room:
        in_dram, size = hw.memory.kv_cache_placement is Placement.DRAM, hw.spec.chip.dram_size
        return cls(
            hw=hw,
            batched=batched,
            dram=size - _traces(hw) - weights,
            dram_page=kv_block_bytes(hw, spec) if in_dram else 0,
            least=math.ceil(size * RESERVE),
            unnamed=math.ceil(size * UNNAMED),
            per_token=activation_bytes_per_token(hw, spec),
            rotary_row=rotary_bytes_per_position(spec),
            l1=l1.usable - l1.weights,
            l1_page=0 if in_dram else kv_cache_bytes(hw, spec, hw.parallelism.data_parallel_size, KV_BLOCK),
            l1_row=l1.activations // l1.tile_rows,
        )

    def prefill(self, context: int) -> int:
        return self.per_token * prefill_tokens(self.hw, context, self.batched)

    def rotary(self, context: int) -> int:
        return self.rotary_row * (context + prefill_tokens(self.hw, context, self.batched))

    def reserve(self, context: int) -> int:
        prefill = self.prefill(context)
        named = prefill + math.ceil(prefill * FRAGMENTED) + self.rotary(context)
        return max(self.least, named + self.unnamed)

    def fits(self, batch: int, context: int) -> bool:
        """MemoryFit.fits, and not L1Map.over where the cache is in L1."""
        pages = batch * _pages(context)
        if self.dram_page * pages + self.reserve(context) > self.dram:
            return False
        if not self.l1_page:
            return True
        return self.l1_page * pages <= (self.l1 - self.l1_row * math.ceil(batch / TILE)) * self.hw.spec.cores

    def largest_batch(self, context: int) -> int:
        pages = _pages(context)
        if not self.l1_page:
            return max(0, self.dram - self.reserve(context)) // (self.dram_page * pages)
        most = self.l1 * self.hw.spec.cores // (self.l1_page * pages)
        return _largest(most, lambda users: self.fits(users, context))

    def largest_context(self, batch: int, longest: int) -> int:
        pages = _largest(_pages(longest), lambda pages: self.fits(batch, pages * KV_BLOCK))
        return min(pages * KV_BLOCK, longest)


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """How many of 1 to `most` fit, the smaller ones being those that do."""
    return bisect.bisect_left(range(1, most + 1), True, key=lambda size: not fits(size))


def _pages(context: int) -> int:
    return math.ceil(context / KV_BLOCK)


def _summary(hw: DeviceConfig, spec: ModelSpec, fit: MemoryFit) -> str:
    """Three lines: DRAM, what else would fit, L1."""
    lines = (_dram_words(hw, spec, fit), _largest_words(hw, fit), _l1_words(fit.l1))
    return "\n".join(lines)


def _dram_words(hw: DeviceConfig, spec: ModelSpec, fit: MemoryFit) -> str:
    parts = {"weights": sum(fit.weights.values()), "KV cache": fit.kv_cache, "trace region": fit.trace_region}
    need = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items() if size)
    where, used = f"{spec.name} on {hw.device_type}", f"{fit.used / GIB:.2f}"
    kept = f"reserve {fit.reserve / GIB:.2f} (prefill {fit.activations / GIB:.2f})"
    copies = ""
    if hw.parallelism.tensor_parallel_size > spec.num_kv_heads:
        copies = f" KV heads are replicated ({spec.num_kv_heads} for {hw.parallelism.tensor_parallel_size} chips)."
    if fit.fits:
        room = f"{kept}, {fit.free / GIB:.2f} free"
        return f"{where} fits in DRAM: {used} of {fit.dram_size / GIB:.2f} GiB per chip ({need}); {room}.{copies}"
    excess = f"{-fit.free / GIB:.2f} GiB more than the {fit.available / GIB:.2f} GiB available"
    return f"{where} does not fit in DRAM: each chip needs {used} GiB ({need}), {excess}; {kept}.{copies}"


def _largest_words(hw: DeviceConfig, fit: MemoryFit) -> str:
    limits = []
    if fit.largest_batch:
        of_device = f" (the device supports {fit.most_users})" if fit.largest_batch > fit.most_users else ""
        limits.append(f"{_count(fit.largest_batch, 'user')} with {_count(fit.context, 'token')}{of_device}")
    if fit.largest_context and (fit.batch, fit.largest_context) != (fit.largest_batch, fit.context):
        limits.append(f"{_count(fit.batch, 'user')} with {_count(fit.largest_context, 'token')}")
    if not limits:
        return _why_nothing_fits(fit)
    most = "Per data-parallel group, at most" if hw.parallelism.data_parallel_size > 1 else "At most"
    return f"{most} {', or '.join(limits)}{' with the KV cache in L1' if fit.l1.kv_cache else ''}."


def _why_nothing_fits(fit: MemoryFit) -> str:
    if sum(fit.weights.values()) + fit.trace_region >= fit.available:
        return "The weights alone are too large: use more chips or smaller formats."
    return "The weights leave no room for a KV cache: use more chips or smaller formats."


def _l1_words(l1: L1Map) -> str:
    parts = {"activations": l1.activations, "KV cache": l1.kv_cache, "weights": l1.weights}
    need = ", ".join(f"{name} {size / KIB:.0f}" for name, size in parts.items() if size) or "nothing placed there"
    if l1.over:
        return f"L1 per core exceeds {l1.usable / KIB:.0f} KiB by {-l1.left / KIB:.0f} KiB ({need}): place less there."
    kept = f"{l1.left / KIB:.0f} left for circular buffers"
    return f"L1 per core {l1.used / KIB:.0f} of {l1.usable / KIB:.0f} KiB ({need}); {kept}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
