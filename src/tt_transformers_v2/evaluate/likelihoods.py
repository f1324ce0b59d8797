# SPDX-License-Identifier: Apache-2.0
"""How likely a backend finds texts: all of them go through a layer together, so that its weights are read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..accuracy.walk import KEEP_LAYER_BYTES, LOGITS_AT_A_TIME, Phases
from ..common.errors import ConfigError
from ..models.decoder import LayerWeights, each_layer, final_hidden, head_matrix, logits_of
from ..models.decoding import PhasedOps, Segment, phased_layer
from ..models.rope import RotaryTables, rope_tables
from ..models.weights import WeightSource

Progress = Callable[[str, int, int], None]

# Bytes of float32 hidden states that are taken through the model together.
STATES_BYTES = 512 << 20


@dataclass(frozen=True)
class Asked:
    """The continuation of a context, both token ids: how likely is it? Neither is empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def read(self) -> tuple[int, ...]:
        """What the model reads: all but the last token, which nothing is predicted from."""
        return (*self.context, *self.continuation[:-1])

    def within(self, most: int) -> Asked:
        """The same with the last `most` tokens of what is read. Raises ConfigError where the continuation has more."""
        if len(self.continuation) > most:
            raise ConfigError(
                f"a continuation of {len(self.continuation)} tokens is longer than the model's context of {most}."
            )
        over = max(0, len(self.read) - most)
        return Asked(self.context[over:], self.continuation)


@dataclass(frozen=True)
class Likelihood:
    """The sum of the log probabilities (nats) of a continuation's tokens; `greedy`: whether each is the likeliest."""

    log_likelihood: float
    greedy: bool


@dataclass
class _Batch:
    """Equally long texts [sequences, tokens] on their way through the layers."""

    texts: list[tuple[int, ...]]
    parts: list[Segment]
    tables: RotaryTables
    states: Tensor


@dataclass
class Likelihoods:
    """Answers for one model on one backend.

    Texts are prompts, computed in chunks of `chunk` tokens (None: whole), `batch_size` equally long ones together;
    none is padded, and what the model reads of one does not depend on the others. A text that several questions read
    (one context, several answers of a token) is computed once.
    """

    source: WeightSource
    ops: PhasedOps
    chunk: int | None = None
    batch_size: int = 64
    computed: int = field(default=0, init=False)  # tokens, those of repeated texts once

    def of(self, questions: Sequence[Asked], progress: Progress) -> list[Likelihood]:
        """A likelihood for each of `questions`. Raises ConfigError for a token that the model does not have."""
        by_text: dict[tuple[int, ...], list[int]] = {}
        for place, asked in enumerate(questions):
            by_text.setdefault(asked.read, []).append(place)
        found: dict[int, Likelihood] = {}
        passes = list(self._passes(sorted(by_text, key=len, reverse=True)))
        steps, done = len(passes) * (self.source.spec.num_layers + 1), 0
        for texts in passes:
            batches = self._embedded(texts)
            keep = self.source.spec.layer_parameters * 4 <= KEEP_LAYER_BYTES
            for weights in each_layer(self.source, keep=keep):
                progress("likelihoods", done, steps)
                self._through(batches, weights)
                done += 1
            progress("likelihoods", done, steps)
            found |= self._answers(batches, by_text, questions)
            done += 1
        progress("likelihoods", done, steps)
        return [found[place] for place in range(len(questions))]

    def _passes(self, texts: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
        """As many texts at a time as there is room for the states of."""
        most = max(1, STATES_BYTES // (4 * self.source.spec.hidden_dim))
        own: list[tuple[int, ...]] = []
        tokens = 0
        for text in texts:
            if own and tokens + len(text) > most:
                yield own
                own, tokens = [], 0
            own.append(text)
            tokens += len(text)
        if own:
            yield own

    def _embedded(self, texts: Sequence[tuple[int, ...]]) -> list[_Batch]:
        table, batches = self.source.tensor("embedding"), []
        for together in batches_by_length(texts, self.batch_size):
            ids = checked_ids(together, len(table))
            length = ids.shape[1]
            tables = rope_tables(self.source.spec, torch.arange(length))
            states = self.ops.embed(ids, table)
            batches.append(_Batch(together, Phases(None, self.chunk).of(length), tables, states))
            self.computed += ids.numel()
        return batches

    def _through(self, batches: Sequence[_Batch], weights: LayerWeights) -> None:
        own = self.ops.at_layer(weights.layer)
        for batch in batches:
            spec = self.source.spec
            batch.states = phased_layer(own, spec, weights, batch.states, batch.tables, batch.parts)

    def _answers(
        self, batches: Sequence[_Batch], by_text: dict[tuple[int, ...], list[int]], questions: Sequence[Asked]
    ) -> dict[int, Likelihood]:
        head = head_matrix(self.ops, self.source)
        found: dict[int, Likelihood] = {}
        for batch in batches:
            hidden = final_hidden(self.ops, self.source.spec, self.source, batch.states)
            for row, text in enumerate(batch.texts):
                asked = {place: questions[place] for place in by_text[text]}
                found |= self._of_text(head, hidden[row], asked)
        return found

    def _of_text(self, head: object, hidden: Tensor, asked: dict[int, Asked]) -> dict[int, Likelihood]:
        """Likelihoods from the final states [tokens, hidden] of the text that all of `asked` read."""
        start = min(len(own.context) for own in asked.values()) - 1
        at_once = max(1, LOGITS_AT_A_TIME // self.source.spec.vocab_size)
        sums = dict.fromkeys(asked, 0.0)
        greedy = dict.fromkeys(asked, True)
        for first in range(start, len(hidden), at_once):
            logits = logits_of(self.ops, self.source.spec, head, hidden[first : first + at_once]).double()
            chances, likeliest = torch.log_softmax(logits, dim=-1), logits.argmax(dim=-1)
            for place, own in asked.items():
                begin = max(first, len(own.context) - 1)
                end = min(first + at_once, len(hidden))
                if begin >= end:
                    continue
                rows = torch.arange(begin - first, end - first)
                offset = len(own.context) - 1
                targets = torch.tensor(own.continuation[begin - offset : end - offset])
                sums[place] += float(chances[rows, targets].sum())
                greedy[place] = greedy[place] and bool((likeliest[rows] == targets).all())
        return {place: Likelihood(sums[place], greedy[place]) for place in asked}


def batches_by_length(texts: Sequence[tuple[int, ...]], most: int) -> Iterator[list[tuple[int, ...]]]:
    """Texts of equal length together, at most `most`, in the order in which each length first comes."""
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for text in texts:
        by_length.setdefault(len(text), []).append(text)
    for alike in by_length.values():
        yield from (alike[first : first + most] for first in range(0, len(alike), most))


def checked_ids(texts: Sequence[tuple[int, ...]], vocabulary: int) -> Tensor:
    """int64 [texts, tokens]. Raises ConfigError for an id that the embedding has no row for."""
    ids = torch.tensor(texts)
    if not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise ConfigError(f"tokens must be 0 to {vocabulary - 1}, not {int(ids.min())} to {int(ids.max())}.")
    return ids
