# SPDX-License-Identifier: Apache-2.0
"""Rotary tables of a config.json, from `rope_parameters` or from the older `rope_theta` and `rope_scaling`."""

from __future__ import annotations

import math
from typing import Any

from .config_values import ConfigValues
from .families import FULL, SLIDING, Family
from .rotary_spec import RopeScaling, Rotary
from .weights import naming

_UNDERSTOOD = {
    "rope_theta", "rope_type", "type", "factor", "original_max_position_embeddings", "low_freq_factor",
    "high_freq_factor", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "short_factor",
    "long_factor", "truncate", "partial_rotary_factor", "llama_4_scaling_beta", "max_position_embeddings",
}  # fmt: skip


class Rotaries:
    """The rotary tables of a model: that of layers with full attention, and that of layers with a window."""

    def __init__(self, config: ConfigValues, family: Family, head_dim: int) -> None:
        """Raises ConfigError for what no table can be made of."""
        self.config, self.family, self.head_dim = config, family, head_dim
        key = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
        given = {} if config.get(key) is None else config.get(key)
        if not isinstance(given, dict):
            raise config.fail(f"{key} must be an object.")
        nested = {name: value for name, value in given.items() if isinstance(value, dict)}
        if not nested:
            self.full = self.windowed = self._rotary(key, given)
            if family.own_window_rope:
                theta = config.positive(family.own_window_rope)
                self.windowed = self._rotary(key, {"rope_theta": theta})
            return
        unknown = [str(name)[:40] for name in given if name not in (SLIDING, FULL)]
        if unknown or not family.own_window_rope:
            which = f"{key} has {unknown[0]}" if unknown else f"{key} by kind of layer"
            raise config.fail(f"{which}, which is not supported for this model_type.")
        own = family.own_window_rope
        self.full = self._rotary(f"{key}.{FULL}", nested.get(FULL, {}))
        self.windowed = self._rotary(f"{key}.{SLIDING}", {"rope_theta": config.positive(own)} | nested.get(SLIDING, {}))

    def of(self, *, windowed: bool) -> Rotary:
        """The table of a layer."""
        return self.windowed if windowed else self.full

    def _rotary(self, where: str, given: dict[str, Any]) -> Rotary:
        config = self.config
        rope = ConfigValues(config.path, given, {}, f"{where}.")
        unknown = [key for key in given if key not in _UNDERSTOOD and given[key] is not None]
        if unknown:
            raise rope.fail(f"{str(unknown[0])[:40]} is not supported.")
        if "rope_theta" in given and given["rope_theta"] is None and config.values.get("rope_theta") is None:
            hint = "Write the base that the model was trained with, for example 10000."
            raise rope.fail("rope_theta is null, so that the base is unknown.", hint)
        theta = rope.positive("rope_theta", config.positive("rope_theta"))
        rotated = self._rotated(rope)
        scaling = self._scaling(rope, theta, (rotated or self.head_dim) // 2)
        beta = rope.get("llama_4_scaling_beta") or 0.0
        if beta and not self.family.query_beta:
            raise rope.fail(f"llama_4_scaling_beta = {str(beta)[:40]} is not supported for this model_type.")
        with naming(config.path):
            return Rotary(theta, scaling, rotated, rope.positive("llama_4_scaling_beta") if beta else 0.0)

    def _rotated(self, rope: ConfigValues) -> int | None:
        """Dimensions of a head that rotate, None for all."""
        partial = rope.get("partial_rotary_factor")
        if self.family.partial is None:
            if partial not in (None, 1):
                raise rope.fail(f"partial_rotary_factor = {str(partial)[:40]} is not supported for this model_type.")
            return None
        if partial is None:
            partial = self.config.get("partial_rotary_factor", self.family.partial)
        if isinstance(partial, bool) or not isinstance(partial, (int, float)) or not 0 < partial <= 1:
            raise rope.fail(f"partial_rotary_factor must be above 0 and at most 1, not {str(partial)[:40]}.")
        rotated = int(self.head_dim * partial)
        if rotated < 2 or rotated % 2 or (self.head_dim - rotated) % 2:
            raise rope.fail(f"partial_rotary_factor {partial} rotates {rotated} dimensions, not an even number.")
        return None if rotated == self.head_dim else rotated

    def _scaling(self, rope: ConfigValues, theta: float, pairs: int) -> RopeScaling | None:
        config = self.config
        kind = rope.get("rope_type") or rope.get("type") or "default"
        if isinstance(kind, str):
            kind = self.family.scalings.get(kind, kind)
        if kind == "default":
            return None
        if kind == "linear":
            return RopeScaling("linear", factor=rope.positive("factor"))
        if kind not in ("llama3", "yarn", "longrope"):
            kinds = "Supported: default, linear, llama3, yarn, longrope."
            raise config.fail(f"rope scaling {str(kind)[:40]!r} is not supported.", kinds)
        context = config.whole("max_position_embeddings")
        original = rope.whole("original_max_position_embeddings", context)
        original = config.whole("original_max_position_embeddings", original)
        if kind == "llama3":
            low, high = rope.positive("low_freq_factor"), rope.positive("high_freq_factor")
            if low >= high:
                raise config.fail(f"low_freq_factor {low} must be below high_freq_factor {high}.")
            return RopeScaling(kind, rope.positive("factor"), original, low, high)
        if original < 2 or theta == 1:
            raise config.fail(f"{kind} cannot have an original context of {original} with theta {theta}.")
        factor = rope.positive("factor", context / original)
        attention = None if rope.get("attention_factor") is None else rope.positive("attention_factor")
        if kind == "yarn":
            if attention is None and rope.get("mscale") and rope.get("mscale_all_dim") and factor > 1:
                one, all_dim = (0.1 * rope.positive(key) * math.log(factor) for key in ("mscale", "mscale_all_dim"))
                attention = (one + 1) / (all_dim + 1)
            fast, slow = rope.positive("beta_fast", 32.0), rope.positive("beta_slow", 1.0)
            whole = rope.get("truncate")
            if whole not in (None, True, False):
                raise rope.fail(f"truncate must be true or false, not {str(whole)[:40]}.")
            return RopeScaling(kind, factor, original, 1.0, 4.0, fast, slow, attention, truncate=whole is not False)
        short, long = _factors(rope, "short_factor", pairs), _factors(rope, "long_factor", pairs)
        return RopeScaling(kind, factor, original, 1.0, 4.0, 32.0, 1.0, attention, short, long)


def _factors(rope: ConfigValues, key: str, pairs: int) -> tuple[float, ...]:
    values = rope.get(key)
    if not isinstance(values, list) or len(values) != pairs:
        raise rope.fail(f"{key} must be a list of {pairs} numbers, one per pair of dimensions.")
    return tuple(ConfigValues(rope.path, {key: value}, {}, rope.where).positive(key) for value in values)
