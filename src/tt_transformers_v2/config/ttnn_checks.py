# SPDX-License-Identifier: Apache-2.0
"""What is known to fail with the real ttnn: errors for a run on a card, findings wherever nothing of it runs there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..common.errors import ConfigError
from ..hardware.enums import DataFormat, Placement
from ..hardware.op_table import DECODE, LM_HEAD, MATRICES, PREFILL, SDPA
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..perf.ops import padded_prompt
from ..planning import plans
from ..planning.attention_chunks import cache_tokens, chunk_refusal
from ..planning.plans import SdpaPlan
from ..planning.refusals import Refusal, beyond_ttnn, readers_of, two_readers, uneven_heads
from ..planning.split import Split, lm_head_parts
from ..planning.typed_programs import typed_fields
from .adjustments import L1_CACHE_UNREAD
from .experiment_schema import BackendName, ExperimentConfig, RuntimeConfig, Task
from .findings import Finding, Severity, TtnnUse, declare, for_use, found
from .planned import lm_head_columns

if TYPE_CHECKING:
    from .resolve import Experiment

ALWAYS = (TtnnUse.run, TtnnUse.preflight)

declare(
    "kv-cache-in-l1",
    Severity.warning,
    "a KV cache typed to L1, which decode attention does not read (presets go to DRAM with a note)",
    stops=[TtnnUse.run],  # the preflight has ttnn say so, and tries the way out
)
declare("uneven-heads", Severity.warning, "a head_dim that is not whole tiles of 32", stops=ALWAYS)
declare(
    "beyond-ttnn",
    Severity.hint,
    "soft caps of attention (Gemma 2), which ttnn's attention does not take",
    stops=ALWAYS,
)
declare(
    "dram-readers",
    Severity.warning,
    "several readers per DRAM bank where ttnn fails: on Wormhole, and where they cannot share a bank's tiles evenly",
    stops=ALWAYS,
)
declare(
    "attention-chunk",
    Severity.warning,
    "a typed k_chunk_size of decode attention that reads wrong positions (docs/preflight.md)",
    stops=ALWAYS,
)
declare("embedding-format", Severity.warning, "an embedding in BFP4, which ttnn cannot look up", stops=ALWAYS)
declare("embedding-unpacked", Severity.hint, "an embedding in BFP8, which ttnn unpacks whole at every look-up")


def use_of(config: ExperimentConfig) -> TtnnUse | None:
    """What an experiment uses the real ttnn for, None where it does not."""
    if config.task is Task.preflight:
        return TtnnUse.preflight
    return TtnnUse.run if config.backend.name is BackendName.ttnn else None


def ttnn_findings(
    hardware: DeviceConfig, spec: ModelSpec, runtime: RuntimeConfig, *, context: int, use: TtnnUse | None
) -> list[Finding]:
    """What stands in the way of running `spec` on `hardware` with `context` cached tokens, errors where `use` stops."""
    known = [
        *_cache_place(hardware),
        *(_of("beyond-ttnn", beyond_ttnn(spec)) if use is not None else ()),
        *_of("uneven-heads", uneven_heads(spec.head_dim)),
        *_of("dram-readers", _readers(hardware, spec, runtime)),
        *_of("attention-chunk", _chunk(hardware, spec, runtime, context)),
        *_embedding(hardware, spec),
    ]
    return [for_use(finding, use) for finding in known]


def _of(id: str, refusal: Refusal | None) -> Iterator[Finding]:
    if refusal is not None:
        yield found(id, *refusal)


def _cache_place(hardware: DeviceConfig) -> Iterator[Finding]:
    if hardware.memory.kv_cache_placement is Placement.L1:
        yield found(
            "kv-cache-in-l1",
            "memory.kv_cache_placement=L1 cannot run on a card.",
            f"{L1_CACHE_UNREAD}.",
            "Set memory.kv_cache_placement=DRAM.",
        )


def _readers(hardware: DeviceConfig, spec: ModelSpec, runtime: RuntimeConfig) -> Refusal | None:
    """The first op group whose readers fail speaks for those that have the same setting."""
    asked_for = [runtime.dram_readers_per_bank, *(own.get("readers_per_bank") for own in runtime.programs.values())]
    if max(readers or 1 for readers in asked_for) == 1:
        return None
    by_setting: dict[tuple[int, str], dict[str, tuple[int, int]]] = {}
    for name, shape in _matrices(hardware, spec).items():
        op = MATRICES.get(name.split()[0])
        if op is None:
            continue  # experts are interleaved
        asked = readers_of(runtime.programs, op.op_group, runtime.dram_readers_per_bank or 1)
        by_setting.setdefault(asked, {})[name] = shape
    refused = (two_readers(hardware, parts, *asked) for asked, parts in by_setting.items())
    return next((refusal for refusal in refused if refusal is not None), None)


def _matrices(hardware: DeviceConfig, spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """A chip's part of every matrix as matmuls take it, the LM head in parts; nothing for a split that is refused."""
    try:
        own = dict(Split.over(hardware).matrices(spec))
    except ConfigError:
        return {}
    inputs, outputs = own.pop(LM_HEAD.matrix)
    widths = lm_head_parts(outputs, lm_head_columns(hardware, spec))
    return own | {f"{LM_HEAD.matrix} part {i}": (inputs, width) for i, width in enumerate(widths, start=1)}


def attention_plans(experiment: Experiment) -> dict[str, SdpaPlan]:
    """Attention's program by phase, typed fields included: of the first chunk of a prompt, and of a decode step; of
    layers with a sliding window where some have one."""
    hardware, runtime = experiment.hardware, experiment.config.runtime
    grid = (hardware.spec.grid[0], hardware.spec.grid[1])
    tokens = min(padded_prompt(experiment.config.workload.prompt_length), hardware.max_prefill_chunk_size)
    planned = {
        PREFILL: plans.prefill_attention(tokens, grid),
        DECODE: plans.decode_attention(grid, _windows(experiment.spec)[0]),
    }
    return {
        phase: dataclasses.replace(plan, **typed_fields(runtime.programs, SDPA.op_group, phase, plan))
        for phase, plan in planned.items()
    }


def _windows(spec: ModelSpec) -> list[int | None]:
    """The different windows of the layers, the narrowest first, none last."""
    found = {kind.attention.window for kind in spec.layer_counts}
    return sorted(found, key=lambda window: window or math.inf)


def _chunk(hardware: DeviceConfig, spec: ModelSpec, runtime: RuntimeConfig, context: int) -> Refusal | None:
    planned = plans.decode_attention((hardware.spec.grid[0], hardware.spec.grid[1]), _windows(spec)[0])
    fields = typed_fields(runtime.programs, SDPA.op_group, DECODE, planned)
    if "k_chunk_size" not in fields:
        return None
    chunk, tokens = fields["k_chunk_size"], cache_tokens(context, runtime.kv_page_size)
    variants = [hardware, *(own for own, _ in hardware.own_layers())]
    modes = dict.fromkeys(own.kernel(SDPA, DECODE).fp32_dest_acc_en for own in variants)
    windows = _windows(spec)
    refused = (chunk_refusal(chunk, tokens, window, fp32_dest_acc_en=mode) for window in windows for mode in modes)
    return next((refusal for refusal in refused if refusal is not None), None)


def _embedding(hardware: DeviceConfig, spec: ModelSpec) -> Iterator[Finding]:
    stored = hardware.precision.embedding
    if stored is DataFormat.BFP4:
        yield found(
            "embedding-format",
            "precision.embedding=BFP4 cannot run on a card.",
            "ttnn looks rows up in BF16 tables, and in BFP8 ones that it unpacks first.",
            "Use precision.embedding=BF16 or precision.embedding=BFP8.",
        )
    elif stored is DataFormat.BFP8:
        columns = -(-spec.hidden_dim // hardware.parallelism.tensor_parallel_size)
        megabytes = 2 * spec.vocab_size * columns / 1e6
        yield found(
            "embedding-unpacked",
            "precision.embedding=BFP8.",
            f"ttnn unpacks the whole table ({megabytes:.0f} MB of BF16 per chip) at every look-up, in every step.",
            "Use precision.embedding=BF16.",
        )
