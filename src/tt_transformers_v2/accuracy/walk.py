# SPDX-License-Identifier: Apache-2.0
"""Accuracy by teacher forcing: a candidate backend and the reference walk through the model together, layer by layer.

Only one layer's weights are in memory at a time, so a model of any size can be walked; with synthetic weights the walk
stops when its time is up, and what is reported is the correlation (PCC) of each module's output.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..hardware.op_table import LM_HEAD
from ..models.decoder import (
    LayerWeights,
    Ops,
    Tap,
    attention_half,
    decoder_layer,
    each_layer,
    final_hidden,
    logits_of,
    mlp_half,
)
from ..models.decoding import PhasedOps, Segment, phased_layer, segments
from ..models.kv_cache import KVCache
from ..models.rope import RotaryTables, rope_tables, table_rows
from ..models.weights import WeightSource, embedding_rows
from .agreement import Agreement, pcc
from .evaluation_text import EvaluationTokens
from .state_reuse import References

Progress = Callable[[str, int, int], None]

# A layer smaller than this (float32) is read once for both backends, a larger one twice to halve the peak memory.
KEEP_LAYER_BYTES = 256 << 20
# Logits of this many elements are compared at a time.
LOGITS_AT_A_TIME = 16 << 20
MODULES = ("attention", "mlp", "layer")


@dataclass(frozen=True)
class Phases:
    """How the candidate computes a window: the first `prefill_tokens` (None: all) as a prompt, in chunks of `chunk`
    (None: one), the others decoded from the KV cache."""

    prefill_tokens: int | None = None
    chunk: int | None = None

    def of(self, length: int) -> list[Segment]:
        """The segments of a window of `length` tokens, what is decoded in one. Raises ConfigError for sizes below 1."""
        prompt = length if self.prefill_tokens is None else min(self.prefill_tokens, length)
        chunk = self.chunk if self.chunk is not None and self.chunk < prompt else None
        return segments(length, prefill=prompt, chunk=chunk, block=length)


WHOLE = Phases()


@dataclass
class Walk:
    """What a walk through the model found: `modules` has one row per layer run; `agreement` None without an LM head.

    With several texts, `by_text` has the agreement on each.
    """

    layers_run: int
    modules: list[dict[str, float]] = field(default_factory=list)
    agreement: Agreement | None = None
    by_text: dict[str, Agreement] = field(default_factory=dict)

    def agreement_on(self, tokens: EvaluationTokens, place: int) -> Agreement:
        """Where to add what is found in the window at `place`; `pool` when all are."""
        if tokens.texts:
            return self.by_text.setdefault(tokens.texts[place], Agreement())
        if self.agreement is None:
            self.agreement = Agreement()
        return self.agreement

    def pool(self) -> None:
        """Fills in the agreement on all texts together."""
        if self.by_text:
            self.agreement = Agreement()
            for own in self.by_text.values():
                self.agreement.absorb(own)


@dataclass
class _Stream:
    """The hidden states of one batch of equally long windows, in both backends; `places` says which windows."""

    tokens: Tensor
    places: list[int]
    parts: list[Segment]
    tables: RotaryTables
    reference: Tensor
    candidate: Tensor


def measure(
    source: WeightSource,
    tokens: EvaluationTokens,
    candidate: PhasedOps,
    reference: Ops,
    *,
    max_seconds: float,
    progress: Progress,
    phases: Phases = WHOLE,
    isolated: bool = False,
    references: References | None = None,
    own: WeightSource | None = None,
) -> Walk:
    """Walks `tokens` through `source` in both backends; `max_seconds` limits synthetic models only.

    `isolated` also runs each of the candidate's modules on the reference's input. `references` keeps the reference's
    outputs for further walks over the same text. `own` are the candidate's weights where they are not the reference's.
    """
    started = time.monotonic()
    spec = source.spec
    streams = _streams(source, source if own is None else own, tokens, candidate, reference, phases)
    text = _digest(source, streams)
    keep = spec.layer_parameters * 4 <= KEEP_LAYER_BYTES
    walk = Walk(0)
    for weights in each_layer(source, keep=keep):
        progress("layers", weights.layer, spec.num_layers)
        before = time.monotonic()
        theirs = weights if own is None else LayerWeights(own, weights.layer, keep=keep)
        walk.modules.append(_step(streams, weights, theirs, candidate, reference, text, isolated, references))
        walk.layers_run = weights.layer + 1
        now = time.monotonic()
        if source.synthetic and now - started + (now - before) > max_seconds:
            break
    progress("layers", walk.layers_run, spec.num_layers)
    if not source.synthetic:
        _compare_logits(walk, source, source if own is None else own, tokens, streams, candidate, reference, progress)
    return walk


def _streams(
    source: WeightSource,
    own: WeightSource,
    tokens: EvaluationTokens,
    candidate: Ops,
    reference: Ops,
    phases: Phases,
) -> list[_Stream]:
    table, windows = _embedding_rows(source, tokens.windows)
    candidates = table if own is source else _embedding_rows(own, tokens.windows)[0]
    streams = []
    for length in dict.fromkeys(len(window) for window in windows):
        places = [i for i, window in enumerate(windows) if len(window) == length]
        rows = torch.stack([windows[i] for i in places])
        tables = rope_tables(source.spec, torch.arange(length))
        ids = torch.stack([tokens.windows[i] for i in places])
        states = reference.embed(rows, table), candidate.embed(rows, candidates)
        streams.append(_Stream(ids, places, phases.of(length), tables, *states))
    return streams


def _digest(source: WeightSource, streams: list[_Stream]) -> bytes:
    """What the reference's states depend on."""
    digest = hashlib.sha256(f"{source.fingerprint} {source.spec.identity}".encode())
    for stream in streams:
        digest.update(repr(tuple(stream.tokens.shape)).encode() + stream.tokens.numpy().tobytes())
    return digest.digest()


def _embedding_rows(source: WeightSource, windows: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The rows of the embedding that the windows use, and the windows as indices into them.

    Synthetic rows are drawn without making the whole table, which is 4 GB for a 70B model.
    """
    used, inverse = torch.unique(torch.cat(windows), return_inverse=True)
    if source.synthetic:
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(len(used), source.spec.hidden_dim, generator=generator) * 0.02
    else:
        table = embedding_rows(source, used)
    return table, list(inverse.split([len(window) for window in windows]))


def _step(
    streams: list[_Stream],
    weights: LayerWeights,
    candidate_weights: LayerWeights,
    candidate: PhasedOps,
    reference: Ops,
    text: bytes,
    isolated: bool,
    references: References | None,
) -> dict[str, float]:
    """Takes every stream through one layer; the PCC of each module's output, all streams together."""
    theirs = references.get(text, weights.layer) if references is not None else None
    if theirs is None:
        theirs = _reference_outputs(streams, weights, reference)
        if references is not None:
            references.add(text, weights.layer, theirs)
    row: dict[str, float] = {}
    if isolated:
        alone = _isolated_outputs(streams, candidate_weights, candidate, theirs)
        row = {f"{name}_isolated": _correlation(alone[name], theirs[name]) for name in alone}
    ours = theirs if candidate is reference else _candidate_outputs(streams, candidate_weights, candidate)
    for stream, y in zip(streams, theirs["layer"], strict=True):
        stream.reference = y
        if candidate is reference:
            stream.candidate = y
    return {name: _correlation(ours[name], theirs[name]) for name in MODULES} | row


def _reference_outputs(streams: list[_Stream], weights: LayerWeights, reference: Ops) -> dict[str, list[Tensor]]:
    spec, taps = weights.source.spec, _taps()
    for stream in streams:
        decoder_layer(reference, spec, weights, stream.reference, stream.tables, _tap_into(taps))
    return taps


def _candidate_outputs(streams: list[_Stream], weights: LayerWeights, candidate: PhasedOps) -> dict[str, list[Tensor]]:
    spec, taps, own = weights.source.spec, _taps(), candidate.at_layer(weights.layer)
    for stream in streams:
        stream.candidate = phased_layer(
            own, spec, weights, stream.candidate, stream.tables, stream.parts, _tap_into(taps)
        )
    return taps


def _isolated_outputs(
    streams: list[_Stream], weights: LayerWeights, candidate: PhasedOps, theirs: dict[str, list[Tensor]]
) -> dict[str, list[Tensor]]:
    """The candidate's modules, each on what the reference gave its own."""
    spec, layer = weights.source.spec, candidate.at_layer(weights.layer)
    outputs: dict[str, list[Tensor]] = {"attention": [], "mlp": []}
    for stream, attended in zip(streams, theirs["attention"], strict=True):
        cache, taps = KVCache(), {name: list[Tensor]() for name in outputs}
        for part in stream.parts:
            own, rows = layer.in_phase(part.phase).continuing(cache), slice(part.start, part.stop)
            x = stream.reference[:, rows]
            attention_half(own, spec, weights, x, table_rows(stream.tables, rows), _tap_into(taps))
            mlp_half(own, spec, weights, x + attended[:, rows], _tap_into(taps))
        for name, pieces in taps.items():
            outputs[name].append(torch.cat(pieces, dim=1))
    return outputs


def _taps() -> dict[str, list[Tensor]]:
    return {name: [] for name in MODULES}


def _tap_into(taps: dict[str, list[Tensor]]) -> Tap:
    return lambda name, value: taps[name].append(value)


def _correlation(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return pcc(*(torch.cat([tensor.reshape(-1) for tensor in tensors]) for tensors in (ours, theirs)))


def _compare_logits(
    walk: Walk,
    source: WeightSource,
    weights: WeightSource,
    tokens: EvaluationTokens,
    streams: list[_Stream],
    candidate: Ops,
    reference: Ops,
    progress: Progress,
) -> None:
    """Fills in the walk's agreement: the whole text's, and each text's where there are several."""
    spec = source.spec
    head = source.tensor(LM_HEAD.matrix)
    theirs = reference.matrix(head, LM_HEAD)
    ours = candidate.matrix(head if weights is source else weights.tensor(LM_HEAD.matrix), LM_HEAD)
    at_once, done = max(1, LOGITS_AT_A_TIME // spec.vocab_size), 0
    for stream in streams:
        hidden_theirs = final_hidden(reference, spec, source, stream.reference)
        hidden_ours = final_hidden(candidate, spec, weights, stream.candidate)
        for row, place in enumerate(stream.places):
            own = walk.agreement_on(tokens, place)
            targets = torch.cat([stream.tokens[row, 1:], torch.tensor([-1])])
            for start in range(0, len(targets), at_once):
                piece = slice(start, start + at_once)
                expected = logits_of(reference, spec, theirs, hidden_theirs[row, piece])
                found = expected
                if candidate is not reference:
                    found = logits_of(candidate, spec, ours, hidden_ours[row, piece])
                own.add(found, expected, targets[piece], start)
                done += len(found)
                progress("logits", done, tokens.count)
    walk.pool()
