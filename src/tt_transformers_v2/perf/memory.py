# SPDX-License-Identifier: Apache-2.0
"""Does it fit: DRAM bytes of one chip for weights and KV cache, against what the chip offers.

A chip holds its tensor-parallel share of a pipeline stage's layers, its share of the embedding (split by
width) and of the LM head (split by vocabulary), the norms in BF16, whole, and the KV cache of its
data-parallel group's users. Tied embeddings are stored twice: the device keeps the embedding row-major for
look-up and the LM head transposed in tiles, in its own format, as tt_transformers does. KV heads are split
over the tensor-parallel chips, and replicated where there are fewer heads than chips. Weights not placed in
DRAM are not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..hardware.schema import DeviceConfig, Placement
from ..models.spec import ModelSpec
from .ops import TILE, heads_per_chip, layer_kinds, matrices_per_chip, padded, require_positive

# Share of DRAM kept for activations, rotary tables, trace buffers and the allocator (the auto_shard model
# counts 95 % usable, tt-metal PR #50597).
RESERVE = 0.05
KV_BLOCK = 32  # tokens per page of the paged KV cache (tt_transformers' short-context default)
GIB = 1 << 30


@dataclass(frozen=True)
class MemoryFit:
    """DRAM of one chip, in bytes.

    weights: by tensor group (wqkv, wo, ff1_ff3, ff2, lm_head, embedding, norm). available: DRAM less the
        reserve.
    largest_batch: users per data-parallel group that fit at the asked context, largest_context: tokens per
        user that fit at the asked batch (a multiple of the cache's page, capped at the model's max_context);
        0 where nothing fits.
    """

    weights: dict[str, int]
    kv_cache: int
    available: int
    dram_size: int
    batch: int
    context: int
    largest_batch: int
    largest_context: int
    summary: str

    @property
    def used(self) -> int:
        return sum(self.weights.values()) + self.kv_cache

    @property
    def fits(self) -> bool:
        return self.used <= self.available


def memory_fit(hw: DeviceConfig, spec: ModelSpec, *, batch: int = 1, context: int | None = None) -> MemoryFit:
    """Memory per chip: `batch` users per data-parallel group of `context` tokens (default max_context)."""
    context = spec.max_context if context is None else context
    require_positive(batch=batch, context=context)
    weights = weight_bytes(hw, spec)
    dram = hw.spec.chip.dram_size
    available = int(dram * (1 - RESERVE))
    block = kv_block_bytes(hw, spec)
    blocks = math.ceil(context / KV_BLOCK)
    free = available - sum(weights.values())
    if block:
        largest_batch = max(0, free // (block * blocks))
        largest_context = min(max(0, free // (block * batch)) * KV_BLOCK, spec.max_context)
    else:
        largest_batch, largest_context = hw.max_batch_size, spec.max_context
    kv_cache = batch * blocks * block
    return MemoryFit(
        weights=weights,
        kv_cache=kv_cache,
        available=available,
        dram_size=dram,
        batch=batch,
        context=context,
        largest_batch=largest_batch if free > 0 else 0,
        largest_context=largest_context if free > 0 else 0,
        summary=_summary(hw, spec, sum(weights.values()), kv_cache, available, batch, context, largest_context),
    )


def weight_bytes(hw: DeviceConfig, spec: ModelSpec) -> dict[str, int]:
    """DRAM bytes of one chip's weights by tensor group."""
    layers = math.ceil(spec.num_layers / hw.parallelism.pipeline_parallel_size)
    groups = dict.fromkeys(("wqkv", "wo", "ff1_ff3", "ff2", "lm_head", "embedding", "norm"), 0)
    if hw.memory.weights_placement == Placement.DRAM:
        for name, (inputs, outputs) in matrices_per_chip(spec, hw.parallelism.tensor_parallel_size).items():
            group = "ff1_ff3" if name in ("ff1", "ff3") else name
            tiles = inputs * outputs // (TILE * TILE)
            groups[group] += tiles * (
                hw.precision.of(group).tile_bytes if name == "lm_head" else _over_layers(hw, spec, group)
            )
    columns = math.ceil(spec.hidden_dim / hw.parallelism.tensor_parallel_size)
    groups["embedding"] = math.ceil(spec.vocab_size * columns * hw.precision.of("embedding").bytes_per_element)
    per_layer = 2 * spec.hidden_dim + (2 * spec.head_dim if spec.qk_norm else 0)
    groups["norm"] = 2 * (layers * per_layer + spec.hidden_dim)
    return groups


def kv_block_bytes(hw: DeviceConfig, spec: ModelSpec) -> int:
    """DRAM bytes of one page of one user's cache on one chip: KV_BLOCK keys and values in all its layers."""
    if hw.memory.kv_cache_placement != Placement.DRAM:
        return 0
    _, kv_heads = heads_per_chip(spec, hw.parallelism.tensor_parallel_size)
    tiles = KV_BLOCK // TILE * padded(spec.head_dim) // TILE
    return 2 * kv_heads * tiles * _over_layers(hw, spec, "kv_cache")


def _over_layers(hw: DeviceConfig, spec: ModelSpec, group: str) -> int:
    """Bytes per tile of a tensor group, summed over the layers that one pipeline stage holds (its mean share)."""
    whole = sum(count * own.precision.of(group).tile_bytes for own, count in layer_kinds(hw, spec))
    return math.ceil(whole / hw.parallelism.pipeline_parallel_size)


def _summary(
    hw: DeviceConfig,
    spec: ModelSpec,
    weights: int,
    kv: int,
    available: int,
    batch: int,
    context: int,
    largest: int,
) -> str:
    users = "1 user" if batch == 1 else f"{batch} users"
    need = f"{weights / GIB:.2f} GiB of weights and {kv / GIB:.2f} GiB of KV cache ({users} x {context} tokens)"
    where = f"{spec.name} on {hw.device_type}"
    copies = ""
    if hw.parallelism.tensor_parallel_size > spec.num_kv_heads:
        copies = f" KV heads are replicated ({spec.num_kv_heads} for {hw.parallelism.tensor_parallel_size} chips)."
    over = weights + kv - available
    if over <= 0:
        room = f"{-over / GIB:.2f} of {available / GIB:.2f} GiB stay free"
        return f"{where} fits: each chip needs {need}; {room}.{copies}"
    excess = f"{over / GIB:.2f} GiB more than the {available / GIB:.2f} GiB available"
    if weights >= available:
        advice = "the weights alone are too large: use more chips or smaller formats."
    else:
        advice = f"at most {largest} tokens fit for {users}."
    return f"{where} does not fit: each chip needs {need}, {excess}; {advice}{copies}"
