# SPDX-License-Identifier: Apache-2.0
"""The figures a report knows: where each stands in result.json, its unit, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..common.units import GIB
from ..run.result_files import look_up


@dataclass(frozen=True)
class Metric:
    """One numeric figure of a result.

    Args:
        name: as in results.csv and on the command line.
        path: where it stands in result.json, parts joined by dots.
        label, unit: for people.
        better: "high", "low", or "" where neither is.
        form: "number", "percent" (a fraction shown as such) or "correlation" (five decimals).
        band: the confidence section with its band in percent, "" where there is none.
        scale: what the stored value is divided by.
    """

    name: str
    path: str
    label: str
    unit: str = ""
    better: str = ""
    form: str = "number"
    band: str = ""
    scale: float = 1.0

    @property
    def group(self) -> str:
        """accuracy, performance, evaluation, preflight or run: which part of the result it belongs to."""
        return self.path.partition(".")[0] if "." in self.path else "run"

    def of(self, result: Mapping[str, Any]) -> float | None:
        """The figure in `result`; None where it is missing, no number or not finite."""
        value = look_up(result, self.path)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return value / self.scale if self.scale != 1 else value


_DECODE, _PREFILL = "decode_confidence", "prefill_confidence"
METRICS = (
    Metric(
        "decode_tokens_per_s_per_user",
        "performance.decode_tokens_per_s_per_user",
        "decode speed",
        "tokens/s/user",
        "high",
        band=_DECODE,
    ),
    Metric("tokens_per_s", "performance.tokens_per_s", "throughput", "tokens/s", "high", band=_DECODE),
    Metric("ttft_ms", "performance.ttft_ms", "time to first token", "ms", "low", band=_PREFILL),
    Metric(
        "measured_decode_tokens_per_s_per_user",
        "performance.measured.decode_tokens_per_s_per_user",
        "decode speed, measured",
        "tokens/s/user",
        "high",
    ),
    Metric("measured_ttft_ms", "performance.measured.ttft_ms", "time to first token, measured", "ms", "low"),
    Metric("memory_gib", "performance.memory.used", "DRAM per chip", "GiB", "low", scale=GIB),
    Metric("kl_divergence", "accuracy.kl_divergence", "KL divergence", "nats", "low"),
    Metric("top1", "accuracy.top1", "top-1 agreement", "", "high", "percent"),
    Metric("top5", "accuracy.top5", "top-5 agreement", "", "high", "percent"),
    Metric("pcc", "accuracy.pcc", "PCC", "", "high", "correlation"),
    Metric("perplexity", "accuracy.perplexity", "perplexity", "", "low"),
    Metric("reference_perplexity", "accuracy.reference_perplexity", "reference perplexity"),
    Metric("next_token_top1", "accuracy.next_token_top1", "next token top-1", "", "high", "percent"),
    Metric("next_token_top5", "accuracy.next_token_top5", "next token top-5", "", "high", "percent"),
    Metric("evaluation_score", "evaluation.score", "score of lm-eval's tasks", "", "high"),
    Metric("preflight_worst_l1", "preflight.worst_l1", "peak L1 of an op", "KiB", "low", scale=1024.0),
    Metric("preflight_failed_ops", "preflight.failed_ops", "ops rejected", "", "low"),
    Metric("seconds", "seconds", "run time", "s", "low"),
)
BY_NAME = {metric.name: metric for metric in METRICS}

# Words of a result that make columns: name -> path.
TEXTS = {
    "bound": "performance.bound",
    "trust": "performance.decode_confidence.class",
    "fits": "performance.memory.fits",
    "evaluation": "evaluation.summary",
    "numerics": "accuracy.numerics",
    "weights": "accuracy.weights",
}

# What a basis may say about its figures, the strongest caveat first.
_BADGES = ("synthetic weights", "simulator", "nothing was run", "predicted", "emulated", "measured")

# Parts of a result that state what their figures rest on.
BASED = ("accuracy", "performance", "performance.measured", "evaluation", "preflight")


def badges(basis: str) -> list[str]:
    """The words of `basis` that say how far a figure is from a measurement of the real model on a card."""
    return [badge for badge in _BADGES if badge in basis]


def shown(metric: Metric, value: float | None) -> str:
    """`value` for people, without its unit."""
    if value is None:
        return "–"
    if metric.form == "percent":
        return f"{value:.1%}"
    return f"{value:.5f}" if metric.form == "correlation" else f"{value:.4g}"
