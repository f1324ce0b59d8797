# SPDX-License-Identifier: Apache-2.0
"""Greedy generation as a card does it: a prompt in chunks, then a token at a time from the KV cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..accuracy.walk import Phases
from ..hardware.op_table import DECODE, LM_HEAD
from ..models.decoder import LayerWeights, decoder_layer, final_hidden, logits_of
from ..models.decoding import PhasedOps, Segment
from ..models.kv_cache import KVCache
from ..models.rope import RotaryTables, rope_tables, table_rows
from ..models.weights import WeightSource
from .likelihoods import Progress, batches_by_length, checked_ids

# Whether a sequence with these new token ids is at its end.
Ended = Callable[[list[int]], bool]


@dataclass
class Generation:
    """Greedy continuations of prompts on one backend; `batch_size` equally long prompts are decoded together.

    A sequence that ends leaves its batch. `source` should keep its weights (models.kept_weights), which every token
    needs.
    """

    source: WeightSource
    ops: PhasedOps
    chunk: int | None = None
    batch_size: int = 64
    computed: int = field(default=0, init=False)  # tokens of prompts, those of equal ones once, and new tokens

    def of(self, prompts: Sequence[tuple[int, ...]], most: int, ended: Ended, progress: Progress) -> list[list[int]]:
        """The new tokens of each prompt: `most` at the most, fewer where `ended` says so (of all so far).

        Equal prompts are computed once. Raises ConfigError for a token that the model does not have.
        """
        unique = sorted(dict.fromkeys(prompts), key=len, reverse=True)
        found: dict[tuple[int, ...], list[int]] = {}
        for together in batches_by_length(unique, self.batch_size):
            progress("generated", len(found), len(unique))
            found |= dict(zip(together, self._batch(together, most, ended), strict=True))
        progress("generated", len(found), len(unique))
        return [list(found[prompt]) for prompt in prompts]

    def _batch(self, prompts: Sequence[tuple[int, ...]], most: int, ended: Ended) -> list[list[int]]:
        spec, length = self.source.spec, len(prompts[0])
        table = self.source.tensor("embedding")
        ids = checked_ids(prompts, len(table))
        tables = rope_tables(spec, torch.arange(length + most))
        caches = [KVCache() for _ in range(spec.num_layers)]
        made: list[list[int]] = [[] for _ in prompts]
        going = list(range(len(prompts)))
        for part in Phases(None, self.chunk).of(length):
            logits = self._logits(ids[:, part.start : part.stop], table, part, tables, caches)
        for position in range(length, length + most):
            for row, token in zip(going, logits.argmax(dim=-1).tolist(), strict=True):
                made[row].append(token)
            kept = [at for at, row in enumerate(going) if not ended(made[row])]
            if not kept or position == length + most - 1:
                break
            if len(kept) < len(going):
                for cache in caches:
                    cache.keep(torch.tensor(kept))
                going = [going[at] for at in kept]
            last = torch.tensor([[made[row][-1]] for row in going])
            logits = self._logits(last, table, Segment(position, position + 1, DECODE), tables, caches)
        return made

    def _logits(
        self, ids: Tensor, table: Tensor, part: Segment, tables: RotaryTables, caches: Sequence[KVCache]
    ) -> Tensor:
        """Logits [sequences, vocab] after the last of `ids` [sequences, tokens], which are at the positions of `part`;
        the caches go on by them."""
        ops, spec = self.ops.in_phase(part.phase), self.source.spec
        rows = table_rows(tables, slice(part.start, part.stop))
        x = ops.embed(ids, table)
        for layer, cache in enumerate(caches):
            own = self.ops.at_layer(layer).in_phase(part.phase).continuing(cache)
            x = decoder_layer(own, spec, LayerWeights(self.source, layer), x, rows)
        self.computed += ids.numel()
        hidden = final_hidden(ops, spec, self.source, x)[:, -1]
        return logits_of(ops, spec, ops.matrix(self.source.tensor(LM_HEAD.matrix), LM_HEAD), hidden)
