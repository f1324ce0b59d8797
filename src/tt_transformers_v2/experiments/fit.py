# SPDX-License-Identifier: Apache-2.0
"""Whether a model fits a device's DRAM, which device it would fit, and a prefill chunk where no table gives one."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..hardware.checks import Finding, Severity
from ..hardware.composition import device_types
from ..hardware.device_presets import DevicePresets
from ..hardware.fitting import fit_to_model
from ..hardware.model_overrides import RuleEffect, apply_rules, prefill_chunk
from ..hardware.schema import DeviceConfig, PrecisionMode
from ..models.spec import ModelSpec
from ..perf.memory import GIB, memory_fit, weight_bytes

SMALLEST_CHUNK = 1024
LARGEST_CHUNK = 131072


def dram_findings(
    config: DeviceConfig, spec: ModelSpec, *, mode: PrecisionMode, batch: int, context: int
) -> list[Finding]:
    """An error, with the way out, when weights and KV cache of `batch` users exceed a chip's DRAM."""
    users = math.ceil(batch / max(config.parallelism.data_parallel_size, 1))
    fit = memory_fit(config, spec, batch=users, context=context)
    if fit.fits:
        return []
    over = fit.used - fit.available
    device = smallest_device(spec, mode=mode, batch=batch, context=context)
    if sum(fit.weights.values()) < fit.available and fit.largest_batch:
        fix = f"At most {fit.largest_batch} users per group of {context} tokens fit, or a larger device."
    elif device:
        fix = f"The smallest device it fits on is device={device}."
    else:
        fix = "It fits on no known device: use narrower formats."
    return [
        Finding(
            "dram-overflow",
            Severity.error,
            f"{spec.name} does not fit on {config.device_type}: each chip lacks {over / GIB:.2f} GiB.",
            f"It needs {fit.used / GIB:.2f} of {fit.available / GIB:.2f} GiB "
            f"(weights {sum(fit.weights.values()) / GIB:.2f}, KV cache {fit.kv_cache / GIB:.2f}).",
            fix,
        )
    ]


def smallest_device(spec: ModelSpec, *, mode: PrecisionMode, batch: int, context: int) -> str | None:
    """The option of the device with the least DRAM that holds the model in `mode`, or None."""
    fitting: list[tuple[int, str]] = []
    for kind, name in device_types().items():
        config = apply_rules(DevicePresets.get_config(kind, mode), spec, mode=mode).config
        fit_to_model(config, spec, batch=batch, context=context)
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
    free = int(config.spec.chip.dram_size * 0.95) - sum(weight_bytes(config, spec).values())
    most = max(free // 2 // per_token, 1)
    chunk = min(1 << (most.bit_length() - 1), LARGEST_CHUNK, 1 << (spec.max_context.bit_length() - 1))
    chunk = max(chunk, min(SMALLEST_CHUNK, LARGEST_CHUNK))
    if chunk == config.max_prefill_chunk_size:
        return []
    previous, config.max_prefill_chunk_size = config.max_prefill_chunk_size, chunk
    why = (
        f"no published chunk for this model and device; {per_token / 1024:.0f} KiB of activations per token, "
        f"{max(free, 0) / GIB:.1f} GiB of DRAM left by the weights, half of it used"
    )
    return [RuleEffect("prefill-chunk-computed", path, chunk, previous, why=why)]


def activation_bytes_per_token(config: DeviceConfig, spec: ModelSpec) -> int:
    """Bytes of one token's activations in one layer on one chip: residual, normed input and output whole, QKV,
    attention output, gate, up and their product split over the tensor-parallel chips."""
    split = max(config.parallelism.tensor_parallel_size, 1)
    attention = config.precision.of("attention_activations").bytes_per_element
    mlp = config.precision.of("mlp_activations").bytes_per_element
    qkv = (2 * spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim / split
    return math.ceil((3 * spec.hidden_dim + qkv) * attention + 3 * spec.intermediate_dim / split * mlp)
