# SPDX-License-Identifier: Apache-2.0
"""What a model is, in numbers: pure Python, so that composing and predicting stay fast."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import ConfigError, did_you_mean

ROPE_SCALINGS = ("llama3", "linear", "yarn", "longrope")
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


@dataclass(frozen=True)
class RopeScaling:
    """Rotary frequency scaling as Hugging Face's `rope_scaling` spells it; the unused fields keep their zero.

    `kind` is one of ROPE_SCALINGS.
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

    def __post_init__(self) -> None:
        if self.kind not in ROPE_SCALINGS:
            raise ConfigError(f"no rope scaling named {self.kind!r}.", did_you_mean(self.kind, ROPE_SCALINGS))


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
    """Shape of a dense decoder-only model (Llama, Qwen2/2.5/3, Mistral and Phi-3 families).

    `hidden_dim`, `head_dim`, `intermediate_dim` and `vocab_size` are widths in elements. Raises ConfigError for
    shapes that no decoder can have.
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

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if name == "sliding_window" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"model.{name} must be a whole number of at least 1, not {value!r}.")
        if not self.norm_eps >= 0:
            raise ConfigError(f"model.norm_eps must be at least 0, not {self.norm_eps}.")
        if not 1 < self.rope_theta < math.inf:
            raise ConfigError(f"model.rope_theta must be above 1, not {self.rope_theta}.")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"model.num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})."
            )
        if self.head_dim % 2:
            raise ConfigError(f"model.head_dim must be even for rotary embeddings, not {self.head_dim}.")

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
        """Parameters of one layer: its matrices, norms and biases."""
        matrices = sum(math.prod(shape) for shape in self.matrices().values())
        norms = 2 * self.hidden_dim + (2 * self.head_dim if self.qk_norm else 0)
        bias = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim if self.qkv_bias else 0
        return matrices + norms + bias

    @property
    def num_parameters(self) -> int:
        """Parameters counted from the shapes; a tied embedding counts once."""
        tables = self.vocab_size * self.hidden_dim * (1 if self.tie_embeddings else 2)
        return tables + self.num_layers * self.layer_parameters + self.hidden_dim
