# SPDX-License-Identifier: Apache-2.0
"""How long a context and how many users fit in DRAM: scripts/predict.py --max-context."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..config.checks import BATCH_SIZES
from ..config.known_overflows import known_overflow, smaller_cache
from ..config.memory_adjustments import CHUNK, SMALLEST_CHUNK
from ..config.resolve import Experiment
from ..perf.footprint import KV_BLOCK
from ..perf.memory import MemoryFit, memory_fit
from ..run.performance import predict
from .questions import Answer, Refused, ask_for_figures, changed, resolve_overrides


@dataclass(frozen=True)
class ContextLimit:
    """The longest context (tokens per user) that fits with `batch` users per data-parallel group, `users` in all.

    `answer` is the prediction there, None where nothing fits; `limited_by_model`: DRAM would hold more.
    """

    batch: int
    users: int
    context: int
    limited_by_model: bool
    answer: Answer | None


def context_limits(overrides: Sequence[str]) -> list[ContextLimit]:
    """The longest context that fits, for 1 to 32 users per group, as far as the device takes them.

    Raises ConfigError for wrong overrides, Refused where something other than DRAM stands in the way.
    """
    asked = resolve_overrides(overrides)
    sizes = [size for size in BATCH_SIZES if size <= asked.hardware.max_batch_size]
    groups = asked.hardware.parallelism.data_parallel_size
    return [_context_limit(overrides, size, size * groups, asked.spec.max_context) for size in sizes]


def _context_limit(overrides: Sequence[str], batch: int, users: int, longest: int) -> ContextLimit:
    experiment = _at(overrides, users, longest)
    fits = not experiment.errors
    context = longest
    if not fits:
        tokens = _largest(experiment, batch, longest, lambda fit: fit.largest_context * batch)
        context = tokens // batch // KV_BLOCK * KV_BLOCK
    answer = ask_for_figures(_workload(overrides, users, context)) if context else None
    return ContextLimit(batch, users, context, fits, answer)


@dataclass(frozen=True)
class BatchLimit:
    """The most users (in all groups) at `context` tokens each: what DRAM holds and what the device takes."""

    context: int
    in_dram: int
    of_device: int

    @property
    def users(self) -> int:
        """What both allow, in all groups together."""
        return min(self.in_dram, self.of_device)


def batch_limit(overrides: Sequence[str]) -> BatchLimit:
    """The most users at the asked context. Raises ConfigError, Refused as `context_limits` does."""
    asked = resolve_overrides(overrides)
    groups = asked.hardware.parallelism.data_parallel_size
    most = asked.hardware.max_batch_size * groups
    experiment = _at(overrides, most, asked.context)
    size = asked.context
    users = _largest(experiment, most // groups, size, lambda fit: fit.largest_batch * size) // size
    return BatchLimit(size, users * groups, most)


def _largest(experiment: Experiment, users: int, context: int, cache: Callable[[MemoryFit], int]) -> int:
    """The most tokens of cache, of all users of a group together, that fit with the chunk that an experiment of `users`
    with `context` tokens each has, or with the shortest one where none was typed, and that no report says ran out.

    `cache` says how many tokens a fit allows.
    """
    prediction, hardware, spec = predict(experiment), experiment.hardware, experiment.spec
    chunks = [hardware.max_prefill_chunk_size]
    if CHUNK not in experiment.typed and chunks[0] > SMALLEST_CHUNK:
        chunks.append(SMALLEST_CHUNK)
    found = []
    for chunk in chunks:
        own = dataclasses.replace(hardware, max_prefill_chunk_size=chunk)
        tokens = cache(memory_fit(own, spec, batch=users, context=context, batched=prediction.batched))
        known = known_overflow(own, spec, users=1, context=tokens)
        found.append(min(tokens, smaller_cache(known)) if known else tokens)
    return max(found)


def _at(overrides: Sequence[str], users: int, context: int) -> Experiment:
    """The experiment with another workload, which may overflow DRAM but have no other error."""
    experiment = resolve_overrides(_workload(overrides, users, context))
    others = [finding for finding in experiment.errors if finding.id != "dram-overflow"]
    if others:
        raise Refused.by(others)
    return experiment


def _workload(overrides: Sequence[str], users: int, context: int) -> tuple[str, ...]:
    return changed(overrides, (f"workload.batch={users}", f"workload.context={context}"))
