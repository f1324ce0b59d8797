# SPDX-License-Identifier: Apache-2.0
"""The `accuracy` section of a result: figures with intervals, by position, phase and text, and what is too low."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..common.checked import Checked
from ..config.resolve import Experiment
from ..models.weights import WeightSource
from .agreement import Agreement, Series, confidence_interval
from .evaluation_text import EvaluationTokens
from .walk import MODULES, Walk

FIGURES = tuple(Agreement(positions=1).metrics())
AGREEMENT_FIGURES = ("top1", "top5", "kl_divergence", "pcc")
# Positions of a window are reported in octaves from this one on.
_FIRST_OCTAVE = 32


@dataclass
class Bars(Checked):
    """PCC that is expected of every module's output, every layer's and the logits."""

    module: float
    layer: float
    model: float

    @classmethod
    def of(cls, experiment: Experiment) -> Bars:
        """The bars that the experiment's `accuracy` section sets."""
        asked = experiment.config.accuracy
        return cls(asked.module_bar, asked.layer_bar, asked.model_bar)


def metrics(
    walk: Walk,
    source: WeightSource,
    tokens: EvaluationTokens,
    candidate: str,
    *,
    bars: Bars | None = None,
    prefill_tokens: int | None = None,
) -> dict[str, Any]:
    """The section, apart from the numerics used; figures that cannot be had are None.

    `candidate` names what was compared with the reference; `prefill_tokens` is where decode begins, if it does.
    """
    figures: dict[str, Any] = dict.fromkeys(FIGURES)
    if walk.agreement is not None:
        figures |= _figures(walk.agreement, tokens.meaningful)
    elif walk.modules:
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
        **_details(walk, tokens, prefill_tokens),
        "below_bar": None if bars is None else first_below(walk, figures["pcc"], bars),
        "modules": [
            {"layer": i} | {name: _finite(value) for name, value in row.items()} for i, row in enumerate(walk.modules)
        ],
    }


def first_below(walk: Walk, logits: float | None, bars: Bars) -> dict[str, Any] | None:
    """The first output, in the order of computation, whose PCC is below its bar. PCC here includes the error that
    earlier layers brought, except where the walk measured modules on their own: those are asked first."""
    for layer, row in enumerate(walk.modules):
        for module in MODULES:
            bar = bars.layer if module == "layer" else bars.module
            alone = row.get(f"{module}_isolated")
            found = row[module] if alone is None else alone
            if found is not None and not found >= bar:
                basis = "cumulative" if alone is None else "isolated"
                return {"layer": layer, "module": module, "pcc": _finite(found), "bar": bar, "basis": basis}
    if walk.agreement is not None and logits is not None and not logits >= bars.model:
        return {"layer": None, "module": "logits", "pcc": _finite(logits), "bar": bars.model, "basis": "cumulative"}
    return None


def _figures(agreement: Agreement, meaningful: bool) -> dict[str, float | None]:
    measured = agreement.metrics()
    return {name: measured[name] if meaningful or name in AGREEMENT_FIGURES else None for name in FIGURES}


def _details(walk: Walk, tokens: EvaluationTokens, prefill_tokens: int | None) -> dict[str, Any]:
    """Intervals, octaves of positions, phases and texts."""
    if walk.agreement is None or not walk.agreement.series:
        return {"confidence_interval": None, "by_position": [], "by_phase": None, "by_text": None}
    series = walk.agreement.by_place()
    phases = None
    if prefill_tokens is not None:
        decoded = series.place >= prefill_tokens
        phases = {"prefill": _short(series.at(~decoded)), "decode": _short(series.at(decoded))}
    texts = {
        name: {key: _finite(value) for key, value in _figures(own, tokens.meaningful).items()}
        | {"tokens": own.positions}
        for name, own in walk.by_text.items()
    }
    return {
        "confidence_interval": _intervals(series, tokens.meaningful),
        "by_position": _octaves(series),
        "by_phase": phases,
        "by_text": texts or None,
    }


def _intervals(series: Series, meaningful: bool) -> dict[str, list[float | None]] | None:
    """95 % intervals; of the perplexity, as a multiple of the reference's."""
    found = {"kl_divergence": series.kl, "top1": series.same, "top5": series.among}
    intervals = {name: confidence_interval(values) for name, values in found.items()}
    if meaningful:
        low, high = confidence_interval(series.excess)
        intervals["perplexity_ratio"] = (math.exp(low), math.exp(high))
    known = {name: [_finite(bound) for bound in bounds] for name, bounds in intervals.items()}
    return None if None in known["kl_divergence"] else known


def _octaves(series: Series) -> list[dict[str, Any]]:
    rows, start, last = [], 0, int(series.place.max())
    while start <= last:
        stop = max(2 * start, _FIRST_OCTAVE)
        chosen = (series.place >= start) & (series.place < stop)
        rows.append({"from": start, "to": min(stop, last + 1) - 1} | _short(series.at(chosen)))
        start = stop
    return rows


def _short(series: Series) -> dict[str, Any]:
    return {"positions": len(series.kl), "kl_divergence": _mean(series.kl), "top1": _mean(series.same)}


def _mean(values: Tensor) -> float | None:
    return _finite(float(values.mean())) if len(values) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
