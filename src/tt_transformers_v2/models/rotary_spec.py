# SPDX-License-Identifier: Apache-2.0
"""Rotary position embeddings in numbers: what the tables of models.rope are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..common.errors import ConfigError, did_you_mean

ROPE_SCALINGS = ("llama3", "linear", "yarn", "longrope")


@dataclass(frozen=True)
class RopeScaling:
    """Rotary frequency scaling as Hugging Face's `rope_scaling` spells it; the unused fields keep their zero.

    `kind` is one of ROPE_SCALINGS. `truncate`: whether yarn's ramp begins and ends at whole dimensions.
    """

    kind: str
    factor: float = 1.0
    original_max_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    truncate: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ROPE_SCALINGS:
            raise ConfigError(f"no rope scaling named {self.kind!r}.", did_you_mean(self.kind, ROPE_SCALINGS))


@dataclass(frozen=True)
class Rotary:
    """One rotary table.

    theta: the base. scaling: of its frequencies, None for none.
    rotated: dimensions of a head that turn, None for all of them. Of a head of d dimensions, i and i + d/2 turn
        together for i < rotated / 2; weights whose own layout is another are permuted when they are loaded.
    query_beta: Ministral 3's growth of the queries with their position, 1 + beta ln(1 + floor(position / original)),
        0 for none; `original` is the scaling's original context.
    Raises ConfigError for values that no table can be made of.
    """

    theta: float = 10000.0
    scaling: RopeScaling | None = None
    rotated: int | None = None
    query_beta: float = 0.0

    def __post_init__(self) -> None:
        if not 1 < self.theta < math.inf:
            raise ConfigError(f"model.rope_theta must be above 1, not {self.theta}.")
        if self.rotated is not None and (self.rotated < 2 or self.rotated % 2):
            raise ConfigError(f"a head's rotated dimensions must be an even number of at least 2, not {self.rotated}.")
        if self.query_beta and not (self.scaling and self.scaling.original_max_context):
            raise ConfigError("queries that grow with their position need a rope scaling with an original context.")
