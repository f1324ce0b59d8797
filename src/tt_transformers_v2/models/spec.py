# SPDX-License-Identifier: Apache-2.0
"""What a model is, in numbers: pure Python, so that composing and predicting stay fast."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.errors import ConfigError
from .differing import Differing
from .layer_spec import AttentionSpec, LayerSpec, MlpSpec
from .rotary_spec import RopeScaling, Rotary

__all__ = ["OF_LAYERS", "ModelSpec", "RopeScaling", "layer_matrices"]


_COUNTS = (
    "vocab_size",
    "hidden_dim",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "intermediate_dim",
    "max_context",
    "sliding_window",
)


def layer_matrices(hidden: int, q: int, kv: int, intermediate: int) -> dict[str, tuple[int, int]]:
    """A layer's weight matrices by name, in the order a layer uses them: (in features, out features).

    The arguments are widths in elements: of the hidden state, of all query heads, of all key heads, of the MLP.
    """
    return {
        "wqkv": (hidden, q + 2 * kv),
        "wo": (q, hidden),
        "w1": (hidden, intermediate),
        "w3": (hidden, intermediate),
        "w2": (intermediate, hidden),
    }


@dataclass(frozen=True)
class ModelSpec:
    """Shape of a decoder-only model.

    `hidden_dim`, `head_dim`, `intermediate_dim` and `vocab_size` are widths in elements. `layer` says what a layer
    computes. Where all are alike and of the Llama kind (Llama, Qwen2/2.5/3, Mistral, Phi-3), the plain fields say it
    and `kinds` is empty; otherwise `of_layers` makes the model: `kinds` are its different layers, `pattern` says which
    of them each layer is, and a plain field that cannot say what every layer has is a `Differing`, which refuses use.
    `logit_cap`: logits become cap * tanh(logit / cap) (Gemma 2), None for none. Raises ConfigError for shapes that no
    decoder can have.
    """

    vocab_size: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_dim: int
    tie_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    max_context: int = 131072
    sliding_window: int | None = None
    _metadata: dict[str, Any] = field(default_factory=dict, compare=False)
    kinds: tuple[LayerSpec, ...] = field(default=(), repr=False)
    pattern: tuple[int, ...] = field(default=(), repr=False)
    logit_cap: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kinds or self.pattern:
            self._check_layers()
        for name in _COUNTS:
            value = getattr(self, name)
            if (name == "sliding_window" and value is None) or isinstance(value, Differing):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"model.{name} must be a whole number of at least 1, not {value!r}.")
        if not self.norm_eps >= 0:
            raise ConfigError(f"model.norm_eps must be at least 0, not {self.norm_eps}.")
        if not isinstance(self.rope_theta, Differing) and not 1 < self.rope_theta < math.inf:
            raise ConfigError(f"model.rope_theta must be above 1, not {self.rope_theta}.")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"model.num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})."
            )
        if self.head_dim % 2:
            raise ConfigError(f"model.head_dim must be even for rotary embeddings, not {self.head_dim}.")
        if self.logit_cap is not None and not 0 < self.logit_cap < math.inf:
            raise ConfigError(f"model.logit_cap must be above 0, not {self.logit_cap}.")

    def _check_layers(self) -> None:
        if len(self.pattern) != self.num_layers or set(self.pattern) != set(range(len(self.kinds))):
            raise ConfigError(
                f"model.pattern must name one of {len(self.kinds)} kinds for each of {self.num_layers} layers, "
                "and every kind."
            )
        for rotary in self.rotaries:
            if rotary.rotated is not None and rotary.rotated > self.head_dim:
                raise ConfigError(f"{rotary.rotated} dimensions of a head of {self.head_dim} cannot be rotated.")
        for name, value in _plain_fields(self.kinds).items():
            if getattr(self, name) != value:
                raise ConfigError(
                    f"model.{name} of a model with kinds of layers follows from them: {value!r}.", "Use of_layers."
                )

    @classmethod
    def uniform(
        cls,
        vocab_size: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        intermediate_dim: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        name: str = "",
        family: str = "",
        **more: Any,
    ) -> ModelSpec:
        """A model whose layers all have one shape.

        `num_kv_heads` defaults to `num_heads` (multi-head attention) and `head_dim` to hidden_dim / num_heads;
        `name` and `family` are what model rules look at. `more` takes any other field of ModelSpec.
        """
        if head_dim is None:
            if hidden_dim % num_heads:
                raise ConfigError(
                    f"hidden_dim {hidden_dim} is not a multiple of num_heads {num_heads}.", "Set head_dim."
                )
            head_dim = hidden_dim // num_heads
        return cls(
            vocab_size=vocab_size,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=num_heads if num_kv_heads is None else num_kv_heads,
            head_dim=head_dim,
            intermediate_dim=intermediate_dim,
            _metadata={"name": name, "family": family},
            **more,
        )

    @classmethod
    def of_layers(cls, layers: Iterable[LayerSpec], *, name: str = "", family: str = "", **more: Any) -> ModelSpec:
        """A model of these layers, one after the other.

        `more` has the fields of ModelSpec that layers do not say: vocab_size, hidden_dim, num_heads, num_kv_heads,
        head_dim and those with defaults. Layers that `uniform` can say as well give the same model as that.
        """
        each = tuple(layers)
        kinds = tuple(dict.fromkeys(each))
        plain = _plain_fields(kinds)
        more |= {"num_layers": len(each), "_metadata": {"name": name, "family": family}}
        if len(kinds) == 1 and not any(isinstance(value, Differing) for value in plain.values()):
            spec = cls(**plain, **more)
            if spec.layer(0) == kinds[0]:
                return spec
        numbers = {kind: number for number, kind in enumerate(kinds)}
        return cls(**plain, **more, kinds=kinds, pattern=tuple(numbers[layer] for layer in each))

    def layer(self, number: int) -> LayerSpec:
        """What layer `number` computes."""
        return self.kinds[self.pattern[number]] if self.kinds else self._only_kind

    @functools.cached_property
    def _only_kind(self) -> LayerSpec:
        attention = AttentionSpec(
            window=self.sliding_window,
            rotary=Rotary(self.rope_theta, self.rope_scaling),
            qk_norm="head" if self.qk_norm else "",
            qkv_bias=self.qkv_bias,
        )
        return LayerSpec(attention, MlpSpec(self.intermediate_dim))

    @functools.cached_property
    def layer_counts(self) -> dict[LayerSpec, int]:
        """The different kinds of layers in the order of their first ones, and how many layers are of each."""
        if not self.kinds:
            return {self._only_kind: self.num_layers}
        return {kind: self.pattern.count(number) for number, kind in enumerate(self.kinds)}

    @functools.cached_property
    def has_experts(self) -> bool:
        """Whether some layer has experts."""
        return any(kind.experts is not None for kind in self.kinds)

    @functools.cached_property
    def rotaries(self) -> tuple[Rotary, ...]:
        """The different rotary tables of the layers."""
        kinds = self.kinds or (self._only_kind,)
        return tuple(dict.fromkeys(kind.attention.rotary for kind in kinds if kind.attention.rotary is not None))

    @property
    def identity(self) -> str:
        """All that what the model computes depends on besides its weights, as text: equal for equal models."""
        return f"{replace(self, _metadata={})!r} {self.kinds!r} {self.pattern!r} {self.logit_cap!r}"

    @property
    def name(self) -> str:
        """The name that model rules look at; "unnamed" where there is none."""
        return str(self._metadata.get("name", "")) or "unnamed"

    @property
    def family(self) -> str:
        """The family that model rules look at; "" where there is none."""
        return str(self._metadata.get("family", ""))

    def matrices(self) -> dict[str, tuple[int, int]]:
        """One layer's weight matrices by name, in the order a layer uses them: (in features, out features)."""
        q, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return layer_matrices(self.hidden_dim, q, kv, self.intermediate_dim)

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: its matrices, norms and biases; of the largest where layers differ."""
        return max(self._parameters(kind) for kind in self.layer_counts)

    @functools.cached_property
    def num_parameters(self) -> int:
        """Parameters counted from the shapes, all experts'; a tied embedding counts once."""
        layers = sum(count * self._parameters(kind) for kind, count in self.layer_counts.items())
        return self._table_parameters + layers + self.hidden_dim

    @functools.cached_property
    def active_parameters(self) -> int:
        """As num_parameters, but of the experts only those that one token uses."""
        layers = sum(count * self._parameters(kind, active=True) for kind, count in self.layer_counts.items())
        return self._table_parameters + layers + self.hidden_dim

    @property
    def _table_parameters(self) -> int:
        return self.vocab_size * self.hidden_dim * (1 if self.tie_embeddings else 2)

    def _parameters(self, kind: LayerSpec, *, active: bool = False) -> int:
        return kind.parameters(self.hidden_dim, self.num_heads, self.num_kv_heads, self.head_dim, active=active)


# The plain fields that layers say.
OF_LAYERS = ("intermediate_dim", "qkv_bias", "qk_norm", "rope_theta", "rope_scaling", "sliding_window")


def _plain_fields(kinds: Iterable[LayerSpec]) -> dict[str, Any]:
    """ModelSpec's plain fields for layers of these kinds, Differing where one value does not say what all have."""
    said: dict[str, set[Any]] = {}
    for kind in kinds:
        attention, mlp = kind.attention, kind.mlp
        whole = attention.rotary is not None and attention.rotary.rotated is None and not attention.rotary.query_beta
        own = {
            # Of MLPs without a gate and of experts the width alone would say too little.
            "intermediate_dim": mlp.width if mlp is not None and mlp.gated else _DIFFERS,
            "qkv_bias": attention.qkv_bias,
            "qk_norm": _DIFFERS if attention.qk_norm == "all" else attention.qk_norm == "head",
            "rope_theta": attention.rotary.theta if whole and attention.rotary else _DIFFERS,
            "rope_scaling": attention.rotary.scaling if whole and attention.rotary else _DIFFERS,
            "sliding_window": attention.window,
        }
        for name, value in own.items():
            said.setdefault(name, set()).add(value)
    return {
        name: Differing(name) if len(values) > 1 or _DIFFERS in values else next(iter(values))
        for name, values in said.items()
    }


_DIFFERS = object()
