# SPDX-License-Identifier: Apache-2.0
"""A model of an experiment that answers questions in text: the weights, the tokenizer and the backend together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ..backends.emulated.emulated_ops import EmulatedOps
from ..backends.emulated.prepared_weights import PreparedWeights
from ..backends.reference import ReferenceOps
from ..common.errors import ConfigError
from ..config.experiment_schema import BackendName
from ..config.resolve import Experiment
from ..models.kept_weights import KeptWeights
from ..models.open_model import open_weights, why_no_tokenizer
from ..models.weights import WeightSource
from ..run.host_backend import emulated_ops
from .generation import Ended, Generation
from .likelihoods import Asked, Likelihood, Likelihoods, Progress


class EvaluatedModel:
    """The model of `experiment`, its weights read when the first question comes.

    Where the numerics are left open, the first questions decide: exact where all of them are estimated to stay within
    `backend.exact_max_seconds`. Raises ConfigError for models without a tokenizer, and for backend=ttnn.
    """

    def __init__(self, experiment: Experiment, batch_size: int) -> None:
        config = experiment.config
        if config.backend.name is BackendName.ttnn:
            raise ConfigError(
                "lm-evaluation-harness is not run on a card.",
                "Use backend=emulated, which computes what a card would, or task=accuracy on the card.",
            )
        self.experiment, self.batch_size = experiment, batch_size
        self.source, tokenizer = open_weights(
            experiment.spec, path=config.model.files(), package=config.model.package, seed=config.seed
        )
        if tokenizer is None:
            why = why_no_tokenizer(path=config.model.files(), package=config.model.package)
            raise ConfigError(
                f"tasks are texts, and this model has no tokenizer ({why or 'its weights are synthetic'}).",
                "Use model.path=DIR with weights and a tokenizer.json.",
            )
        self.tokenizer = tokenizer
        self.computed = 0  # tokens, those of texts asked about several times once
        self._ops: EmulatedOps | ReferenceOps | None = None
        self._kept: tuple[WeightSource, EmulatedOps | ReferenceOps] | None = None

    @property
    def most_tokens(self) -> int:
        """Tokens that a text may have."""
        return self.source.spec.max_context

    def facts(self) -> dict[str, Any]:
        """What figures rest on, for the `evaluation` section of a result."""
        ops, device = self._ops, self.experiment.hardware.device_type
        emulated = isinstance(ops, EmulatedOps)
        return {
            "basis": f"emulated {device}; {self.source.basis}" if emulated else f"float32; {self.source.basis}",
            "numerics": ops.numerics if isinstance(ops, EmulatedOps) else "float32",
            "tensor_parallel": str(ops.chips) if isinstance(ops, EmulatedOps) else "one chip",
            "tokens": self.computed,
        }

    def likelihoods(self, questions: Sequence[Asked], progress: Progress) -> list[Likelihood]:
        """How likely the model finds each continuation. Of a longer text it reads the end that its context holds."""
        within = [asked.within(self.most_tokens) for asked in questions]
        if not within:
            return []
        lengths = [len(text) for text in {asked.read for asked in within}]
        own = Likelihoods(self.source, self._chosen(sum(lengths), max(lengths)), self._chunk, self.batch_size)
        found = own.of(within, progress)
        self.computed += own.computed
        return found

    def generate(
        self, prompts: Sequence[tuple[int, ...]], most: int, ended: Ended, progress: Progress
    ) -> list[list[int]]:
        """Greedy new tokens of each prompt, `most` at the most; a longer prompt loses its beginning.

        Raises ConfigError where `most` leaves no room for a prompt.
        """
        room = self.most_tokens - most
        if room < 1:
            raise ConfigError(
                f"{most} new tokens leave no room for a prompt in a context of {self.most_tokens}.",
                "Lower the task's max_gen_toks.",
            )
        if not prompts:
            return []
        within = [prompt[-room:] for prompt in prompts]
        longest = max(map(len, within))
        self._chosen(sum(len(prompt) + most for prompt in set(within)), longest)
        own = Generation(*self._with_kept_weights(), self._chunk, self.batch_size)
        found = own.of(within, most, ended, progress)
        self.computed += own.computed
        return found

    @property
    def _chunk(self) -> int:
        return self.experiment.hardware.max_prefill_chunk_size

    def _chosen(self, tokens: int, window: int) -> EmulatedOps | ReferenceOps:
        """The backend; what it computes with is decided at the first questions."""
        if self._ops is None:
            if self.experiment.config.backend.name is BackendName.reference:
                self._ops = ReferenceOps()
            else:
                self._ops = emulated_ops(
                    self.experiment, tokens=tokens, window=window, synthetic=self.source.synthetic, prepared=None
                )
        return self._ops

    def _with_kept_weights(self) -> tuple[WeightSource, EmulatedOps | ReferenceOps]:
        """The weights and the backend for work that needs all of them at every token."""
        if self._kept is None:
            assert self._ops is not None  # `generate` chose
            source, ops = KeptWeights(self.source), copy.copy(self._ops)
            if isinstance(ops, EmulatedOps) and source.kept:
                ops.prepared = PreparedWeights()
            self._kept = source, ops
        return self._kept
