# SPDX-License-Identifier: Apache-2.0
"""The `search` section of the configuration: what task=search and task=sensitivity look for, where and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..common.checked import Checked
from ..common.errors import ConfigError
from ..hardware.enums import Named


class Objective(Named):
    """What is to be fast: a decode step, or the time to the first token."""

    decode = "decode"
    ttft = "ttft"


class SearchNumerics(Named):
    """How the emulated matrix unit computes (backend.numerics says more)."""

    exact = "exact"
    fast = "fast"


class SearchMethod(Named):
    """Where sensitivities come from: every change run again, or estimated from gradients with a few of them run again;
    auto takes what computes less."""

    auto = "auto"
    gradient = "gradient"
    measured = "measured"


class Rounding(Named):
    """How weights in a block format are rounded: each value to the nearest, as packing does, or with regard to what the
    layer sees of a text (docs/quantize.md)."""

    nearest = "nearest"
    calibrated = "calibrated"


@dataclass
class SearchConfig(Checked):
    """conf/search.

    `space` maps a site to the options it may take in each layer, the most accurate first: FORMAT, FORMAT/KERNEL or
    /KERNEL, where KERNEL is one of TTTv1's settings (LOFI, HIFI2 …) or a math fidelity (HiFi2), which leaves the other
    kernel settings as they are. Layers' weights in a block format are rounded in one of the ways of `rounding`, each
    layer and site in its own; calibrated ones on the text of the `quantize` section. `max_kl` is in nats per position,
    `min_top1` a share, both of the verified text.
    """

    AT_LEAST = {  # noqa: RUF012
        "max_kl": 0,
        "min_top1": 0,
        "min_tokens_per_s_per_user": 0,
        "max_ttft_ms": 0,
        "points": 2,
        "gradient_samples": 1,
        "gradient_checks": 1,
        "max_minutes": 0.1,
        "tokens": 32,
        "verify_tokens": 32,
        "window": 16,
    }

    space: dict[str, list[str]] = field(default_factory=dict)
    rounding: list[Rounding] = field(default_factory=lambda: [Rounding.nearest])
    method: SearchMethod = SearchMethod.auto
    gradient_samples: int = 4
    gradient_checks: int = 6
    objective: Objective = Objective.decode
    max_kl: float | None = None
    min_top1: float | None = None
    min_tokens_per_s_per_user: float | None = None
    max_ttft_ms: float | None = None
    points: int = 12
    max_minutes: float = 20.0
    tokens: int = 512
    verify_tokens: int = 512
    window: int = 256
    numerics: SearchNumerics = SearchNumerics.fast
    verify_numerics: SearchNumerics = SearchNumerics.exact

    def __post_init__(self) -> None:
        if not self.rounding or len(set(self.rounding)) < len(self.rounding):
            said = "is empty" if not self.rounding else "lists one twice"
            raise ConfigError(f"search.rounding {said}.", "Write [nearest], [calibrated] or [nearest,calibrated].")
        if self.min_top1 is not None and self.min_top1 > 1:
            raise ConfigError(
                f"search.min_top1 must be between 0 and 1, not {self.min_top1:g}.", "Write 0.95 for 95 %."
            )
        if self.objective is Objective.decode and self.max_ttft_ms is not None:
            raise ConfigError("search.max_ttft_ms requires search.objective=ttft.")
        if self.objective is Objective.ttft and self.min_tokens_per_s_per_user is not None:
            raise ConfigError("search.min_tokens_per_s_per_user requires search.objective=decode.")
        if self.window > min(self.tokens, self.verify_tokens):
            raise ConfigError(
                f"search.window={self.window} is longer than search.tokens={self.tokens} or "
                f"search.verify_tokens={self.verify_tokens}.",
                "Choose a shorter window or more tokens.",
            )
