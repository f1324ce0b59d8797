# SPDX-License-Identifier: Apache-2.0
"""Accuracy by teacher forcing: a candidate backend and the reference walk through the model together, layer by layer.

Only one layer's weights are in memory at a time, so a model of any size can be walked; with synthetic weights the walk
stops when its time is up, and what is reported is the correlation (PCC) of each module's output.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..models.decoder import LayerWeights, Ops, Tap, decoder_layer, final_hidden
from ..models.rope import rope_tables
from ..models.weights import WeightSource
from .agreement import Agreement, pcc
from .text import EvaluationTokens

Progress = Callable[[str, int, int], None]

# A layer smaller than this (float32) is read once for both backends, a larger one twice to halve the peak memory.
KEEP_LAYER_BYTES = 256 << 20
# Logits of this many elements are compared at a time.
LOGITS_AT_A_TIME = 16 << 20
MODULES = ("attention", "mlp", "layer")
FIGURES = tuple(Agreement(positions=1).metrics())
AGREEMENT_FIGURES = ("top1", "top5", "kl_divergence", "pcc")


@dataclass
class Walk:
    """What a walk through the model found: `modules` has one row per layer run; `agreement` None without an LM head."""

    layers_run: int
    modules: list[dict[str, float]] = field(default_factory=list)
    agreement: Agreement | None = None


@dataclass
class _Stream:
    """The hidden states of one batch of equally long windows, in both backends."""

    tokens: Tensor
    cos: Tensor
    sin: Tensor
    reference: Tensor
    candidate: Tensor


def measure(
    source: WeightSource,
    tokens: EvaluationTokens,
    candidate: Ops,
    reference: Ops,
    *,
    max_seconds: float,
    progress: Progress,
) -> Walk:
    """Walks `tokens` through `source` in both backends; `max_seconds` limits synthetic models only."""
    started = time.monotonic()
    spec = source.spec
    streams = _streams(source, tokens, candidate, reference)
    keep = spec.layer_parameters * 4 <= KEEP_LAYER_BYTES
    walk = Walk(0)
    for layer in range(spec.num_layers):
        progress("layers", layer, spec.num_layers)
        before = time.monotonic()
        weights = LayerWeights(source, layer, keep=keep)
        walk.modules.append(_step(streams, weights, candidate, reference))
        walk.layers_run = layer + 1
        now = time.monotonic()
        if source.synthetic and now - started + (now - before) > max_seconds:
            break
    progress("layers", walk.layers_run, spec.num_layers)
    if not source.synthetic:
        walk.agreement = _compare_logits(source, streams, candidate, reference, progress)
    return walk


def metrics(walk: Walk, source: WeightSource, tokens: EvaluationTokens, candidate: str) -> dict[str, Any]:
    """The `accuracy` section of a result, apart from the numerics used; figures that cannot be had are None.

    `candidate` names what was compared with the reference.
    """
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    if walk.agreement is not None:
        measured = walk.agreement.metrics()
        figures |= {name: measured[name] for name in FIGURES if tokens.meaningful or name in AGREEMENT_FIGURES}
    else:
        figures["pcc"] = walk.modules[-1]["layer"]
    layers = f"{walk.layers_run} of {source.spec.num_layers} layers"
    scope = "" if walk.agreement is not None else f"; {layers}, PCC of module outputs only"
    return {
        "basis": f"{candidate} against float32 reference; {source.basis}{scope}",
        "weights": "synthetic" if source.synthetic else "real",
        "text": tokens.name,
        "tokens": tokens.count,
        "layers_run": walk.layers_run,
        **{name: _finite(value) for name, value in figures.items()},
        "modules": [
            {"layer": i} | {name: _finite(row[name]) for name in MODULES} for i, row in enumerate(walk.modules)
        ],
    }


def _streams(source: WeightSource, tokens: EvaluationTokens, candidate: Ops, reference: Ops) -> list[_Stream]:
    table, windows = _embedding_rows(source, tokens.windows)
    streams = []
    for length in dict.fromkeys(len(window) for window in windows):
        places = [i for i, window in enumerate(windows) if len(window) == length]
        rows = torch.stack([windows[i] for i in places])
        cos, sin = rope_tables(source.spec, torch.arange(length))
        ids = torch.stack([tokens.windows[i] for i in places])
        streams.append(_Stream(ids, cos, sin, reference.embed(rows, table), candidate.embed(rows, table)))
    return streams


def _embedding_rows(source: WeightSource, windows: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The rows of the embedding that the windows use, and the windows as indices into them.

    Synthetic rows are drawn without making the whole table, which is 4 GB for a 70B model.
    """
    used, inverse = torch.unique(torch.cat(windows), return_inverse=True)
    if source.synthetic:
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(len(used), source.spec.hidden_dim, generator=generator) * 0.02
    else:
        table = source.tensor("embedding")[used]
    return table, list(inverse.split([len(window) for window in windows]))


def _step(streams: list[_Stream], weights: LayerWeights, candidate: Ops, reference: Ops) -> dict[str, float]:
    """Takes every stream through one layer; the PCC of each module's output, all streams together."""
    outputs: dict[str, dict[str, list[Tensor]]] = {}
    for ops in dict.fromkeys((reference, candidate)):
        taps: dict[str, list[Tensor]] = {name: [] for name in MODULES}
        for stream in streams:
            x = stream.reference if ops is reference else stream.candidate
            own = ops.at_layer(weights.layer)
            y = decoder_layer(own, weights.source.spec, weights, x, stream.cos, stream.sin, _tap_into(taps))
            if ops is reference:
                stream.reference = y
            if ops is candidate:
                stream.candidate = y
        outputs[ops.name] = taps
    pairs = {name: (outputs[candidate.name][name], outputs[reference.name][name]) for name in MODULES}
    return {name: pcc(_flat(ours), _flat(theirs)) for name, (ours, theirs) in pairs.items()}


def _tap_into(taps: dict[str, list[Tensor]]) -> Tap:
    return lambda name, value: taps[name].append(value)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _compare_logits(
    source: WeightSource, streams: list[_Stream], candidate: Ops, reference: Ops, progress: Progress
) -> Agreement:
    spec = source.spec
    head = source.tensor("lm_head")
    theirs = reference.matrix(head, "lm_head", "lm_head")
    ours = candidate.matrix(head, "lm_head", "lm_head")
    agreement = Agreement()
    at_once = max(1, LOGITS_AT_A_TIME // spec.vocab_size)
    total = sum(stream.tokens.numel() for stream in streams)
    for stream in streams:
        hidden_theirs = final_hidden(reference, spec, source, stream.reference).flatten(0, 1)
        hidden_ours = final_hidden(candidate, spec, source, stream.candidate).flatten(0, 1)
        targets = torch.full_like(stream.tokens, -1)
        targets[:, :-1] = stream.tokens[:, 1:]
        for start in range(0, len(hidden_ours), at_once):
            piece = slice(start, start + at_once)
            expected = reference.linear(hidden_theirs[piece], theirs, None, "lm_head")
            found = expected if candidate is reference else candidate.linear(hidden_ours[piece], ours, None, "lm_head")
            agreement.add(found, expected, targets.flatten()[piece])
            progress("logits", agreement.positions, total)
    return agreement


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
