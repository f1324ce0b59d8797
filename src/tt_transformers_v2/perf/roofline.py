# SPDX-License-Identifier: Apache-2.0
"""How fast it will be: a roofline over the op inventory plus the overheads that decide small shards.

Decode, per token: every weight matrix takes the longer of its bytes over the achieved DRAM bandwidth and its
tiles over the cores that read them (c0 + math cycles each); then KV bytes, attention compute, collectives, a
fixed cost per layer and one per token. Prefill: every matmul takes the longer of flops over the achieved peak
of its cores and bytes over the interleaved DRAM bandwidth; then attention (matrix flops plus exponentials) and
collectives; where prefill is not traced, the host dispatches beside the device and the slower of the two counts.
Layers that differ are walked a kind at a time; of experts those count that the tokens are expected to touch
(perf.expert_ops).

The bound of the whole is the one whose ops take the largest share of the time.
"""

from __future__ import annotations

from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from .calibration import ArchCalibration, Calibration
from .op_walk import OpWalk
from .ops import (
    require_positive,
)
from .speed import Performance
from .token_costs import sampling_notes


def predict_performance(
    hw: DeviceConfig,
    spec: ModelSpec,
    calibration: Calibration,
    *,
    prompt_length: int,
    batch: int = 1,
    context: int | None = None,
    prefill_users: int | None = None,
) -> Performance:
    """Decode speed, time to first token and what bounds them, predicted without hardware.

    Args:
        prompt_length: tokens of a prompt. batch: users per data-parallel group.
        context: tokens in every user's cache while decoding; None means prompt_length.
        prefill_users: users whose prompts are one pass where prefill is batched; None means batch.
    """
    context = prompt_length if context is None else context
    together = batch if prefill_users is None else prefill_users
    require_positive(prompt_length=prompt_length, batch=batch, context=context, prefill_users=together)
    walk = OpWalk(hw, spec, calibration.of(hw.spec.chip.arch))
    decode, decode_us = walk.decode(batch, context)
    prefill, prefill_us = walk.prefill(prompt_length, batch, together)
    return Performance(
        decode_us=decode_us,
        ttft_ms=prefill_us / walk.prompts_at_once(together) / 1e3,
        users=batch * hw.parallelism.data_parallel_size,
        basis=f"predicted (roofline + overheads, calibration {calibration.name})",
        decode_times=decode,
        prefill_times=prefill,
        notes=(
            *_notes(hw, spec),
            *sampling_notes(walk.timer.constants, walk.tp, spec.vocab_size, decode[-1][0].us / decode_us),
        ),
    )


def decode_us(hw: DeviceConfig, spec: ModelSpec, constants: ArchCalibration, *, batch: int, context: int) -> float:
    """Microseconds of a decode step alone, as predict_performance has it: a fit asks many times."""
    return OpWalk(hw, spec, constants).decode(batch, context)[1]


def ttft_ms(
    hw: DeviceConfig, spec: ModelSpec, constants: ArchCalibration, *, prompt_length: int, batch: int, users: int
) -> float:
    """Milliseconds to the first token alone, as predict_performance has it; `users`: its prefill_users."""
    walk = OpWalk(hw, spec, constants)
    return walk.prefill(prompt_length, batch, users)[1] / walk.prompts_at_once(users) / 1e3


def _notes(hw: DeviceConfig, spec: ModelSpec) -> tuple[str, ...]:
    tp = hw.parallelism.tensor_parallel_size
    if tp <= min(hw.spec.mesh_shape[0], spec.num_kv_heads) and hw.parallelism.pipeline_parallel_size == 1:
        return ()
    notes = []
    if tp > max(hw.spec.mesh_shape):
        notes.append("2-D mesh: collectives are timed as on a line; the second axis adds a single constant.")
    if tp > spec.num_kv_heads:
        notes.append(f"{spec.num_kv_heads} KV heads are replicated over {tp} tensor-parallel chips.")
    if hw.parallelism.pipeline_parallel_size > 1:
        notes.append("pipeline parallelism: stages run one after another; transfers between them are not counted.")
    return tuple(notes)
