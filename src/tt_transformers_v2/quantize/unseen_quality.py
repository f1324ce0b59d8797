# SPDX-License-Identifier: Apache-2.0
"""What weights are worth on text that they were not calibrated on: the configuration emulated with them, and with the
model's own rounded to nearest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ..accuracy.accuracy_result import metrics
from ..accuracy.evaluation_text import EvaluationTokens
from ..accuracy.numerics_choice import choose_numerics
from ..accuracy.state_reuse import References
from ..accuracy.walk import Phases, measure
from ..backends import open_backend
from ..backends.emulated.emulated_ops import EmulatedOps
from ..config.fitted_plans import recall_fitted
from ..config.planned import op_plans
from ..config.resolve import Experiment
from ..models.weights import WeightSource

_FIGURES = ("kl_divergence", "top1", "pcc", "perplexity", "reference_perplexity", "confidence_interval")


@dataclasses.dataclass(frozen=True)
class Quality:
    """A text's name and tokens, the arithmetic, and figures of agreement with the reference before and after."""

    how: str
    text: str
    tokens: int
    numerics: str
    nearest: dict[str, Any]
    calibrated: dict[str, Any]


def unseen_quality(
    experiment: Experiment,
    source: WeightSource,
    written: WeightSource,
    texts: Mapping[str, EvaluationTokens],
    progress: Callable[[str, int, int | None], None],
) -> list[Quality]:
    """The quality on each text, whose keys say how it is related to the calibration's. Raises ConfigError."""
    found = []
    for how, tokens in texts.items():
        reference, references = open_backend("reference", experiment.hardware), References()
        numerics = _numerics(experiment, tokens)
        figures = []
        for name, own in (("nearest", None), ("calibrated", written)):
            walk = measure(
                source,
                tokens,
                _candidate(experiment, numerics),
                reference,
                max_seconds=experiment.config.workload.max_seconds,
                progress=lambda stage, done, total, name=name, how=how: progress(  # type: ignore[misc]
                    f"{name} on {how}: {stage}", done, total
                ),
                phases=Phases(None, experiment.hardware.max_prefill_chunk_size),
                references=references,
                own=own,
            )
            found_here = metrics(walk, source, tokens, "emulated")
            figures.append({figure: found_here[figure] for figure in _FIGURES})
        found.append(Quality(how, tokens.name, tokens.count, numerics, *figures))
    return found


def _numerics(experiment: Experiment, tokens: EvaluationTokens) -> str:
    backend = experiment.config.backend
    return choose_numerics(
        backend.numerics.value,
        experiment.spec,
        experiment.hardware,
        tokens=tokens.count,
        window=experiment.config.quantize.window,
        synthetic=False,
        max_seconds=backend.exact_max_seconds,
    )


def _candidate(experiment: Experiment, numerics: str) -> EmulatedOps:
    split = experiment.config.backend.tensor_parallel
    plans = op_plans(experiment, recall_fitted(experiment), tensor_parallel=split)
    return EmulatedOps(experiment.hardware, numerics, plans=plans, tensor_parallel=split)
