# SPDX-License-Identifier: Apache-2.0
"""Which arithmetic the emulated backend uses when the user leaves it open: exact where the time allows."""

from __future__ import annotations

import math
import os

from ..hardware.op_table import LM_HEAD, PREFILL, SDPA
from ..hardware.schema import DeviceConfig
from ..models.layer_spec import LayerSpec
from ..models.spec import ModelSpec
from ..perf.layer_matmuls import layer_matrices_per_chip
from ..planning.layer_groups import layer_groups

# Multiply-accumulates per second, phase and core that the exact unit does at the least (benchmarks/numerics.py measures
# it: 14 to 20 with AVX-512, 11 to 13 with AVX2). Low on purpose: a promise of time must hold on other processors too.
EXACT_RATE = 4e9


def exact_work(spec: ModelSpec, hardware: DeviceConfig, tokens: int, window: int) -> tuple[float, float]:
    """Multiply-accumulates times fidelity phases of a run over `tokens` tokens: (one layer on average, LM head)."""
    groups = layer_groups(hardware, spec)
    layers = sum(len(alike) * _layer_work(spec, kind, own, tokens, window) for own, kind, alike in groups)
    head = tokens * spec.hidden_dim * spec.vocab_size * hardware.kernel(LM_HEAD, PREFILL).math_fidelity.phases
    return layers / spec.num_layers, head


def _layer_work(spec: ModelSpec, kind: LayerSpec, hardware: DeviceConfig, tokens: int, window: int) -> float:
    """Of a token's experts those that it uses."""
    linears = sum(
        math.prod(matrix.shape)
        * (matrix.experts.top_k if matrix.experts else 1)
        * hardware.kernel(matrix.op, PREFILL).math_fidelity.phases
        for matrix in layer_matrices_per_chip(spec, kind, 1)
    )
    attention = 2 * min(window, tokens) * spec.num_heads * spec.head_dim
    return tokens * (linears + attention * hardware.kernel(SDPA, PREFILL).math_fidelity.phases)


def choose_numerics(
    asked: str,
    spec: ModelSpec,
    hardware: DeviceConfig,
    *,
    tokens: int,
    window: int,
    synthetic: bool,
    max_seconds: float,
) -> str:
    """ "exact" or "fast": what was asked, or for "auto" exact when a run (of a synthetic model: one layer and a third
    of the time) is estimated to stay within `max_seconds`."""
    if asked != "auto":
        return asked
    layer, head = exact_work(spec, hardware, tokens, window)
    rate = EXACT_RATE * max(os.cpu_count() or 1, 1)
    needed = 3 * layer / rate if synthetic else (spec.num_layers * layer + head) / rate
    return "exact" if needed <= max_seconds else "fast"
