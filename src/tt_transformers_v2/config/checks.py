# SPDX-License-Identifier: Apache-2.0
"""Cross-field findings about a configuration: what is wrong, why, and what to do; docs/findings.md explains each.

Errors stop a run, warnings are printed and stored, hints are stored. Whether weights and KV cache fit DRAM is found by
`config.resolve`, which knows the memory map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ..common.units import TILE
from ..hardware.enums import Arch, DataFormat, MathFidelity, Placement
from ..hardware.op_table import (
    GLOBAL_TENSOR_GROUPS,
    NORM,
    OP_GROUPS,
    READERS,
    WEIGHT_OP_GROUPS,
    finest_op_groups,
)
from ..hardware.schema import ComputeConfig, DeviceConfig
from ..perf.footprint import DecoderShape, kv_cache_bytes
from ..planning.split import head_split
from .findings import Finding, Severity, declare, found
from .groups import device_types
from .layers import write_select
from .model_rules import chunk_unsupported, prefill_chunk
from .trace_demands import trace_demand

T = TypeVar("T")

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
# Beyond this many tokens BFP4 weights were seen to fail though every single layer looked fine.
LONG_CONTEXT = 32768
CHUNK = "device.max_prefill_chunk_size"
# The largest chunk of tt_transformers' tables, in thousands (1024) of tokens: conf/rules/prefill_chunks.yaml.
MOST_THOUSANDS = 128


@dataclass(frozen=True)
class Asked:
    """What is checked: `model` on `config` for `batch` users of `context` tokens, prompts of `prompt_length` tokens;
    `typed` are the dotted paths that the user set."""

    config: DeviceConfig
    model: DecoderShape
    batch: int
    context: int
    prompt_length: int
    typed: Collection[str] = ()


Check = Callable[[Asked], Iterator[Finding]]

# A weight format and an op group whose matmul reads it.
_WEIGHT_OPS = [(tensor, op) for tensor, group in WEIGHT_OP_GROUPS.items() for op in finest_op_groups(group)]
# Tensor groups that every layer reads.
_OF_LAYERS = [tensor for tensor in READERS if tensor not in GLOBAL_TENSOR_GROUPS]
_checks: list[Check] = []


def finds(id: str, severity: Severity, when: str, settings: Iterable[str] = ()) -> Callable[[Check], Check]:
    """Declares what a check finds, and makes it one that `check` asks; a check that finds several has several."""
    declare(id, severity, when, settings=settings)

    def noted(check: Check) -> Check:
        if check not in _checks:
            _checks.append(check)
        return check

    return noted


def check(
    config: DeviceConfig,
    model: DecoderShape,
    *,
    batch: int,
    context: int,
    prompt_length: int = 128,
    typed: Collection[str] = (),
) -> list[Finding]:
    """Every finding about running `model` with `config`, errors first."""
    asked = Asked(config, model, batch, context, prompt_length, typed)
    everything = [finding for find in _checks for finding in find(asked)]
    return sorted(everything, key=lambda finding: list(Severity).index(finding.severity))


@finds("parallelism-mesh", Severity.error, "tensor x pipeline x data parallel is not the number of chips")
def _mesh(asked: Asked) -> Iterator[Finding]:
    p, chips = asked.config.parallelism, asked.config.spec.chips
    if p.chips != chips:
        yield found(
            "parallelism-mesh",
            f"tensor x pipeline x data parallel is {p.tensor_parallel_size} x {p.pipeline_parallel_size} x "
            f"{p.data_parallel_size} = {p.chips}, but {asked.config.device_type} has {chips} chip{'s' * (chips > 1)}.",
            "Every chip belongs to exactly one group.",
            f"Set parallelism.* so that the product is {chips}.",
        )


@finds(
    "tensor-parallel-heads",
    Severity.error,
    "heads or KV heads do not divide over the tensor-parallel chips (typed; presets are narrowed with a note)",
)
def _heads(asked: Asked) -> Iterator[Finding]:
    split, model = head_split(asked.config), asked.model
    if model.num_heads % split or model.num_kv_heads % split:
        stage = max(1, asked.config.spec.chips // asked.config.parallelism.pipeline_parallel_size)
        size = math.gcd(stage, model.num_heads, model.num_kv_heads)
        yield found(
            "tensor-parallel-heads",
            f"{model.num_heads} heads and {model.num_kv_heads} KV heads do not divide over {split} chips.",
            "tt_transformers gives each chip whole heads.",
            f"Set parallelism.tensor_parallel_size={size} and parallelism.data_parallel_size={stage // size}.",
        )


@finds("pipeline-layers", Severity.error, "more pipeline stages than layers")
@finds("sequence-parallel-alone", Severity.warning, "sequence parallelism without tensor parallelism")
def _pipeline(asked: Asked) -> Iterator[Finding]:
    stages, layers = asked.config.parallelism.pipeline_parallel_size, asked.model.num_layers
    if stages > layers:
        rest = max(1, asked.config.spec.chips // asked.config.parallelism.tensor_parallel_size)
        most = max(size for size in range(1, layers + 1) if rest % size == 0)
        yield found(
            "pipeline-layers",
            f"{stages} pipeline stages for {layers} layers.",
            "Every stage needs at least one layer.",
            f"Set parallelism.pipeline_parallel_size={most} and parallelism.data_parallel_size={rest // most}.",
        )
    if asked.config.parallelism.sequence_parallel and asked.config.parallelism.tensor_parallel_size == 1:
        yield found(
            "sequence-parallel-alone",
            "sequence_parallel without tensor parallelism does nothing.",
            "It splits what tensor parallelism leaves replicated.",
            "Set parallelism.sequence_parallel=false.",
        )


@finds("batch-over-maximum", Severity.error, "more users than the device supports")
@finds("batch-size", Severity.warning, "users per data-parallel group not 1, 2, 4, 8, 16 or 32")
def _batch(asked: Asked) -> Iterator[Finding]:
    groups = asked.config.parallelism.data_parallel_size
    limit, users = asked.config.max_batch_size * groups, -(-asked.batch // groups)
    if asked.batch > limit:
        yield found(
            "batch-over-maximum",
            f"workload.batch is {asked.batch}; {asked.config.device_type} takes at most {limit} users here.",
            "Decode holds one user per row of a 32-row tile.",
            f"Set workload.batch to at most {limit}, or use more data-parallel groups.",
        )
    elif users not in BATCH_SIZES:
        below = [size for size in BATCH_SIZES if size < users][-1:]
        above = [size for size in BATCH_SIZES if users < size <= asked.config.max_batch_size][:1]
        yield found(
            "batch-size",
            f"tt_transformers does not run {users} users per data-parallel group.",
            f"Its batch sizes are {', '.join(map(str, BATCH_SIZES))}.",
            f"Set {' or '.join(f'workload.batch={groups * size}' for size in below + above)}.",
        )


@finds("context-over-model", Severity.error, "prompt or context longer than the model was made for")
@finds("prefill-chunk-over-context", Severity.hint, "a prefill chunk longer than the model's context")
def _context(asked: Asked) -> Iterator[Finding]:
    longest = asked.model.max_context
    for name, tokens in (("context", asked.context), ("prompt_length", asked.prompt_length)):
        if tokens > longest:
            yield found(
                "context-over-model",
                f"workload.{name} is {tokens} tokens; the model was made for {longest}.",
                "Rotary positions beyond that are untrained.",
                f"Set workload.{name} to at most {longest}, or raise model.max_context.",
            )
    longest_chunk = math.ceil(longest / TILE) * TILE
    if asked.config.max_prefill_chunk_size > longest_chunk:
        yield found(
            "prefill-chunk-over-context",
            f"max_prefill_chunk_size is {asked.config.max_prefill_chunk_size}; the model's context is {longest}.",
            "A chunk never gets that long.",
            f"Set device.max_prefill_chunk_size={longest_chunk}.",
        )


@finds(
    "unsupported-in-tt-transformers",
    Severity.warning,
    "the published chunk table says the model does not run on the device",
)
def _unsupported(asked: Asked) -> Iterator[Finding]:
    name = getattr(asked.model, "name", "")
    if chunk_unsupported(name, asked.config.device_type.value):
        others = [kind for kind in device_types() if prefill_chunk(name, kind) is not None]
        yield found(
            "unsupported-in-tt-transformers",
            f"tt_transformers does not run {name} on {asked.config.device_type}.",
            "Its prefill chunk table says so.",
            f"Choose a device that the table has a chunk for ({', '.join(others)}), or expect to bring it up yourself.",
        )


@finds(
    "trace-region-below-demand",
    Severity.warning,
    "a trace region, typed or read, smaller than what traces of the model took on the device; 0 lets ttnn allocate "
    "traces as they come",
)
def _trace_region(asked: Asked) -> Iterator[Finding]:
    size, demand = asked.config.trace_region_size, trace_demand(asked.model, asked.config.device_type.value)
    if demand and 0 < size < demand.bytes:
        yield found(
            "trace-region-below-demand",
            f"device.trace_region_size is {size}; traces of {demand.model} on {demand.device} took {demand.bytes}.",
            f"A server ends when its traces do not fit ({demand.source}).",
            f"Set device.trace_region_size={demand.bytes} or more, or 0 to have ttnn allocate it.",
        )


@finds(
    "kv-cache-over-l1",
    Severity.error,
    "a KV cache placed in L1 that cannot fit (typed; presets go to DRAM with a note)",
)
def _kv_cache_placement(asked: Asked) -> Iterator[Finding]:
    if asked.config.memory.kv_cache_placement is not Placement.L1:
        return
    needed = kv_cache_bytes(asked.config, asked.model, asked.batch, asked.context)
    available = asked.config.l1_memory_size * asked.config.spec.cores
    if needed > available:
        yield found(
            "kv-cache-over-l1",
            f"memory.kv_cache_placement=L1 needs {needed / 1e6:.1f} MB per chip; L1 holds {available / 1e6:.1f} MB.",
            f"That is for {asked.batch} users of {asked.context} tokens in {asked.config.precision.kv_cache}.",
            "Set memory.kv_cache_placement=DRAM.",
        )


@finds(
    "wormhole-hifi4-fp32",
    Severity.warning,
    "HiFi4 with `fp32_dest_acc_en` on Wormhole, tt-metal issue 38306; a hint where presets and rules chose both",
    settings=("compute", "layers"),
)
def _wormhole_hifi4(asked: Asked) -> Iterator[Finding]:
    if asked.config.spec.chip.arch is not Arch.wormhole_b0:
        return
    groups = [
        group
        for group in _distinct_groups(asked.config)
        if group != NORM.op_group and _is_hifi4_fp32(asked.config.compute_for(group))
    ]
    if groups:
        yield found(
            "wormhole-hifi4-fp32",
            f"HiFi4 with fp32_dest_acc_en in {', '.join(groups)}.",
            "On Wormhole a hardware bug can make this less accurate than HiFi3 (tt-metal issue 38306).",
            f"Use {', '.join(f'compute.{group}.math_fidelity=HiFi3' for group in groups)}.",
        )


@finds(
    "fidelity-below-format",
    Severity.warning,
    "weights carry bits that the fidelity does not read (BFP8 with LoFi); a hint where presets and rules chose both",
    settings=("compute", "precision", "layers"),
)
@finds("fidelity-above-format", Severity.hint, "a second phase that adds nothing (BFP4 with HiFi2)")
def _fidelity_of_format(asked: Asked) -> Iterator[Finding]:
    """Per weight format: bits it carries that the fidelity drops, and phases that multiply by nothing."""
    for tensor, op in _WEIGHT_OPS:
        for where, (data, fidelity) in _distinct(asked.config, partial(_format_and_fidelity, tensor, op)):
            lowest = data.lowest_fidelity
            if fidelity.phases < lowest.phases:
                yield found(
                    "fidelity-below-format",
                    f"{tensor} weights are {data}, but the {op} matmul runs at {fidelity}{where}.",
                    f"{fidelity} reads 5 of the format's significant bits; the rest costs bandwidth for nothing.",
                    f"{where.advice(op, lowest)}, or use a narrower format.",
                )
            elif data is DataFormat.BFP4 and fidelity is MathFidelity.HiFi2:
                yield found(
                    "fidelity-above-format",
                    f"{tensor} weights are BFP4, and the {op} matmul runs at HiFi2{where}.",
                    "BFP4's three bits fit the first phase: LoFi gives the same result in half the time.",
                    f"{where.advice(op, MathFidelity.LoFi)}.",
                )


@finds("bfp4-long-context", Severity.warning, "BFP4 weights or cache beyond 32768 tokens")
def _bfp4_at_long_context(asked: Asked) -> Iterator[Finding]:
    longest = max(asked.context, asked.prompt_length)
    narrow = [g for g in _OF_LAYERS if asked.config.precision.of(g) == "BFP4"]
    if longest > LONG_CONTEXT and narrow:
        yield found(
            "bfp4-long-context",
            f"BFP4 in {', '.join(narrow)} at {longest} tokens.",
            "At 256k tokens a model's PCC fell to 0.85, although a single layer had 0.9987 (tt-metal PR 53543).",
            "Measure at the length you need, or use BFP8.",
        )


@finds("prefill-chunk-thousands", Severity.warning, "a typed prefill chunk of at most 128 tokens, as if in thousands")
def _chunk_is_tokens(asked: Asked) -> Iterator[Finding]:
    chunk = asked.config.max_prefill_chunk_size
    if CHUNK in asked.typed and TILE <= chunk <= MOST_THOUSANDS and chunk % TILE == 0:
        yield found(
            "prefill-chunk-thousands",
            f"device.max_prefill_chunk_size is {chunk} tokens.",
            "MAX_PREFILL_CHUNK_SIZE and the tables of tt_transformers count thousands.",
            f"Set device.max_prefill_chunk_size={chunk * 1024} if that is meant.",
        )


@finds("prefill-chunk-tiles", Severity.error, "a prefill chunk that is not whole tiles of 32 tokens")
def _chunk_is_tiles(asked: Asked) -> Iterator[Finding]:
    chunk = asked.config.max_prefill_chunk_size
    if chunk < 1 or chunk % TILE:
        yield found(
            "prefill-chunk-tiles",
            f"max_prefill_chunk_size is {chunk}.",
            "A chunk must be whole tiles of 32 tokens.",
            f"Set device.max_prefill_chunk_size={max(TILE, chunk // TILE * TILE)}"
            + (f" or device.max_prefill_chunk_size={chunk * 1024}." if 0 < chunk < TILE else "."),
        )


@finds("throttle-level", Severity.error, "a throttle level outside ttnn's 0 to 5")
def _kernel_fields(asked: Asked) -> Iterator[Finding]:
    for group in OP_GROUPS:
        for where, level in _distinct(asked.config, partial(_throttle_level, group)):
            if level is not None and not 0 <= level <= 5:
                yield found(
                    "throttle-level",
                    f"compute.{group}.throttle_level is {level}{where}.",
                    "ttnn has levels 0 to 5.",
                    "Set it to a level from 0 to 5.",
                )


@dataclass(frozen=True)
class _Where:
    """The whole model, or the layers that `select` names, in words."""

    select: str = ""

    def __str__(self) -> str:
        return f" in layer{'s' * (not self.select.isdigit())} {self.select}" if self.select else ""

    def advice(self, op: str, fidelity: MathFidelity) -> str:
        """What to type for another fidelity of an op group there."""
        if not self.select:
            return f"Use compute.{op}.math_fidelity={fidelity}"
        return f'Add {{select: "{self.select}", compute: {{{op}: {{math_fidelity: {fidelity}}}}}}} to layers'


def _format_and_fidelity(tensor: str, op: str, config: DeviceConfig) -> tuple[DataFormat, MathFidelity]:
    return config.precision.of(tensor), config.compute_for(op).math_fidelity


def _throttle_level(group: str, config: DeviceConfig) -> int | None:
    """None for a finer group that sets nothing: its parent's finding says it all."""
    return config.compute_for(group).throttle_level if group in config.compute else None


def _distinct(config: DeviceConfig, settings: Callable[[DeviceConfig], T]) -> list[tuple[_Where, T]]:
    """The whole model's settings, and the different ones that layers have, each with the layers that have them."""
    base = settings(config)
    own: dict[T, list[int]] = {}
    for layer, changed in config.layers.items():
        own.setdefault(settings(changed), []).append(layer)
    own.pop(base, None)
    return [(_Where(), base), *((_Where(write_select(layers)), value) for value, layers in own.items())]


def _distinct_groups(config: DeviceConfig) -> list[str]:
    return [group for group in OP_GROUPS if group in config.compute]


def _is_hifi4_fp32(settings: ComputeConfig) -> bool:
    return settings.math_fidelity is MathFidelity.HiFi4 and settings.fp32_dest_acc_en
