# SPDX-License-Identifier: Apache-2.0
"""Cross-field findings about a configuration: what is wrong, why, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from .fitting import DecoderShape, head_split, kv_cache_bytes
from .schema import OP_GROUP_PARENTS, ROOT_OP_GROUPS, Arch, DeviceConfig, MathFidelity, Named, Placement


class Severity(Named):
    error = "error"
    warning = "warning"
    hint = "hint"


@dataclass(frozen=True)
class Finding:
    """One thing a reader should know. `id` is stable; errors stop a run."""

    id: str
    severity: Severity
    what: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what} {self.why} {self.fix}"


def check(config: DeviceConfig, model: DecoderShape, *, batch: int, context: int) -> list[Finding]:
    """Every finding about running `model` with `config` for `batch` users of `context` tokens, errors first."""
    found = [
        *_mesh(config),
        *_heads(config, model),
        *_batch(config, batch),
        *_kv_cache_placement(config, model, batch, context),
        *_wormhole_hifi4(config),
    ]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def _mesh(config: DeviceConfig) -> list[Finding]:
    chips, asked = config.spec.chips, config.parallelism.chips
    if asked == chips:
        return []
    p = config.parallelism
    return [
        Finding(
            "parallelism-mesh",
            Severity.error,
            f"tensor x pipeline x data parallel is {p.tensor_parallel_size} x {p.pipeline_parallel_size} x "
            f"{p.data_parallel_size} = {asked}, but {config.device_type} has {chips} chip{'s' * (chips > 1)}.",
            "Every chip belongs to exactly one group.",
            f"Choose parallelism.* whose product is {chips}.",
        )
    ]


def _heads(config: DeviceConfig, model: DecoderShape) -> list[Finding]:
    split = head_split(config)
    if model.num_heads % split == 0 and model.num_kv_heads % split == 0:
        return []
    return [
        Finding(
            "tensor-parallel-heads",
            Severity.error,
            f"{model.num_heads} heads and {model.num_kv_heads} KV heads do not divide over {split} chips.",
            "tt_transformers gives each chip whole heads.",
            "Set parallelism.tensor_parallel_size to a divisor of both, and data_parallel_size to the rest.",
        )
    ]


def _batch(config: DeviceConfig, batch: int) -> list[Finding]:
    limit = config.max_batch_size * config.parallelism.data_parallel_size
    if batch <= limit:
        return []
    return [
        Finding(
            "batch-over-maximum",
            Severity.error,
            f"workload.batch is {batch}; {config.device_type} takes {limit} users here.",
            "Decode holds one user per row of a 32-row tile.",
            f"Set workload.batch to at most {limit}, or use more data-parallel groups.",
        )
    ]


def _kv_cache_placement(config: DeviceConfig, model: DecoderShape, batch: int, context: int) -> list[Finding]:
    if config.memory.kv_cache_placement is not Placement.L1:
        return []
    needed, available = (
        kv_cache_bytes(config, model, batch, context),
        config.l1_memory_size * config.spec.cores,
    )
    if needed <= available:
        return []
    return [
        Finding(
            "kv-cache-over-l1",
            Severity.error,
            f"memory.kv_cache_placement=L1 needs {needed / 1e6:.1f} MB per chip; L1 holds {available / 1e6:.1f} MB.",
            f"That is for {batch} users of {context} tokens in {config.precision.kv_cache}.",
            "Set memory.kv_cache_placement=DRAM.",
        )
    ]


def _wormhole_hifi4(config: DeviceConfig) -> list[Finding]:
    if config.spec.chip.arch is not Arch.wormhole_b0:
        return []
    groups = [
        group
        for group in (*ROOT_OP_GROUPS, *OP_GROUP_PARENTS)
        if group != "norm" and group in config.compute and _is_hifi4_fp32(config, group)
    ]
    if not groups:
        return []
    return [
        Finding(
            "wormhole-hifi4-fp32",
            Severity.warning,
            f"HiFi4 with fp32_dest_acc_en in {', '.join(groups)}.",
            "On Wormhole a hardware bug can make this less accurate than HiFi3 (tt-metal issue 38306).",
            f"Use compute.{groups[0]}.math_fidelity=HiFi3.",
        )
    ]


def _is_hifi4_fp32(config: DeviceConfig, group: str) -> bool:
    settings = config.compute_for(group)
    return settings.math_fidelity is MathFidelity.HiFi4 and settings.fp32_dest_acc_en
