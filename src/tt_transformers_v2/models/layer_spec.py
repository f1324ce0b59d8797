# SPDX-License-Identifier: Apache-2.0
"""What a layer computes, in numbers: its attention, where its norms are, its MLP or its experts.

A family of models recombines these; what a family merely multiplies or permutes is folded into its weights when they
are loaded (models.families).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..common.errors import ConfigError, did_you_mean
from .rotary_spec import Rotary

Shape = tuple[int, ...]
# silu(x) = x sigmoid(x); gelu_tanh is GELU by a hyperbolic tangent, gelu by the error function; relu2 is relu squared.
ACTIVATIONS = ("silu", "gelu_tanh", "gelu", "relu", "relu2")
NORM_PLACES = ("before", "after", "both")
ROUTERS = ("softmax_then_top_k", "top_k_then_softmax")


@dataclass(frozen=True)
class AttentionSpec:
    """Attention of one layer.

    window: tokens of a sliding window, None for full attention. rotary: its rotary table, None for none (NoPE).
    scale: what scores are multiplied by, None for head_dim ** -0.5.
    qk_norm: RMS norm of q and k before they turn: "head" over each head, "all" over all heads at once, "" for none.
    qkv_bias, output_bias: biases of wqkv and wo.
    sinks: a learned score per head that takes part in the softmax and attends to nothing (gpt-oss).
    cap: scores become cap * tanh(score / cap) (Gemma 2), None for none.
    """

    window: int | None = None
    rotary: Rotary | None = field(default_factory=Rotary)
    scale: float | None = None
    qk_norm: Literal["", "head", "all"] = ""
    qkv_bias: bool = False
    output_bias: bool = False
    sinks: bool = False
    cap: float | None = None

    def __post_init__(self) -> None:
        _at_least_one("sliding_window", self.window)
        _positive("the scale of attention", self.scale)
        _positive("the soft cap of attention", self.cap)
        if self.qk_norm not in ("", "head", "all"):
            raise ConfigError(f"qk_norm must be head, all or nothing, not {self.qk_norm!r}.")

    def scale_for(self, head_dim: int) -> float:
        """What scores of heads of `head_dim` elements are multiplied by."""
        return head_dim**-0.5 if self.scale is None else self.scale

    def tensors(self, hidden: int, heads: int, kv_heads: int, head_dim: int) -> dict[str, Shape]:
        """Its tensors by canonical name: matrices (in, out), vectors (n,)."""
        q, kv = heads * head_dim, kv_heads * head_dim
        shapes: dict[str, Shape] = {"wqkv": (hidden, q + 2 * kv)}
        if self.qkv_bias:
            shapes["bqkv"] = (q + 2 * kv,)
        shapes["wo"] = (q, hidden)
        if self.output_bias:
            shapes["bo"] = (hidden,)
        if self.qk_norm:
            whole = self.qk_norm == "all"
            shapes |= {"q_norm": (q if whole else head_dim,), "k_norm": (kv if whole else head_dim,)}
        if self.sinks:
            shapes["sinks"] = (heads,)
        return shapes


@dataclass(frozen=True)
class MlpSpec:
    """An MLP of `width` elements: w2(activation(w1 x) * w3 x), or without w3 where it is not `gated`.

    bias: each of its matrices has one. limit, alpha: gpt-oss's gate, where limit is given: gate = min(w1 x, limit) and
    up = w3 x cut to +- limit, and w2 sees gate * sigmoid(alpha * gate) * (up + 1).
    """

    width: int
    activation: str = "silu"
    gated: bool = True
    bias: bool = False
    limit: float | None = None
    alpha: float = 1.702

    def __post_init__(self) -> None:
        _at_least_one("intermediate_dim", self.width)
        _positive("the limit of a gate", self.limit)
        if self.activation not in ACTIVATIONS:
            hint = did_you_mean(self.activation, ACTIVATIONS)
            raise ConfigError(f"no activation named {self.activation!r}.", hint)
        if self.limit is not None and not (self.gated and self.activation == "silu"):
            raise ConfigError("only a gated MLP with silu has a limit.")

    def tensors(self, hidden: int) -> dict[str, Shape]:
        """Its tensors by canonical name, as AttentionSpec.tensors."""
        inner = ("1", "3") if self.gated else ("1",)
        shapes: dict[str, Shape] = {f"w{n}": (hidden, self.width) for n in inner}
        shapes["w2"] = (self.width, hidden)
        if self.bias:
            shapes |= {f"b{n}": (self.width,) for n in inner} | {"b2": (hidden,)}
        return shapes


@dataclass(frozen=True)
class ExpertsSpec:
    """A layer's experts, all of the shape `mlp`, of which each token uses `top_k`.

    router: "softmax_then_top_k" takes the largest of all experts' shares, and divides them by their sum where they are
        `normalised`; "top_k_then_softmax" (gpt-oss) takes shares of the chosen experts' scores alone.
    router_bias: the router's matrix has one. shared: an MLP that every token uses besides; with `shared_gate` it is
        multiplied by the sigmoid of a product of its own (Qwen2-MoE).
    """

    count: int
    top_k: int
    mlp: MlpSpec
    router: str = "softmax_then_top_k"
    normalised: bool = True
    router_bias: bool = False
    shared: MlpSpec | None = None
    shared_gate: bool = False

    def __post_init__(self) -> None:
        _at_least_one("the number of experts", self.count)
        _at_least_one("the experts per token", self.top_k)
        if self.top_k > self.count:
            raise ConfigError(f"a token cannot use {self.top_k} of {self.count} experts.")
        if self.router not in ROUTERS:
            raise ConfigError(f"no router named {self.router!r}.", did_you_mean(self.router, ROUTERS))
        if self.shared_gate and self.shared is None:
            raise ConfigError("a gate of shared experts needs shared experts.")

    def tensors(self, hidden: int) -> dict[str, Shape]:
        """The tensors besides the experts' own: the router's and the shared expert's."""
        shapes: dict[str, Shape] = {"router": (hidden, self.count)}
        if self.router_bias:
            shapes["router_bias"] = (self.count,)
        if self.shared is not None:
            shapes |= {f"shared.{name}": shape for name, shape in self.shared.tensors(hidden).items()}
        if self.shared_gate:
            shapes["shared.gate"] = (hidden, 1)
        return shapes


@dataclass(frozen=True)
class LayerSpec:
    """One kind of layer: attention, then an MLP or experts; exactly one of the two is given.

    norms: where the RMS norms of attention and MLP are: "before" each (its input is normed), "after" it (what it adds
    to the residual stream is normed), or "both".
    """

    attention: AttentionSpec
    mlp: MlpSpec | None = None
    experts: ExpertsSpec | None = None
    norms: Literal["before", "after", "both"] = "before"

    def __post_init__(self) -> None:
        if (self.mlp is None) == (self.experts is None):
            raise ConfigError("a layer has either an MLP or experts.")
        if self.norms not in NORM_PLACES:
            raise ConfigError(f"norms must be one of {', '.join(NORM_PLACES)}, not {self.norms!r}.")

    @property
    def feed_forward(self) -> MlpSpec | ExpertsSpec:
        """Its MLP, or its experts."""
        fed = self.mlp if self.mlp is not None else self.experts
        assert fed is not None  # checked when made
        return fed

    def tensors(self, hidden: int, heads: int, kv_heads: int, head_dim: int) -> dict[str, Shape]:
        """Its tensors by canonical name but those of the experts, in the order a layer uses them."""
        shapes = self.attention.tensors(hidden, heads, kv_heads, head_dim) | self.feed_forward.tensors(hidden)
        if self.norms != "after":
            shapes |= {"attention_norm": (hidden,), "ffn_norm": (hidden,)}
        if self.norms != "before":
            shapes |= {"attention_post_norm": (hidden,), "ffn_post_norm": (hidden,)}
        return shapes

    def parameters(self, hidden: int, heads: int, kv_heads: int, head_dim: int, *, active: bool = False) -> int:
        """Its parameters; `active` counts of the experts only those that one token uses."""
        total = sum(math.prod(shape) for shape in self.tensors(hidden, heads, kv_heads, head_dim).values())
        if self.experts is None:
            return total
        used = self.experts.top_k if active else self.experts.count
        return total + used * sum(math.prod(shape) for shape in self.experts.mlp.tensors(hidden).values())


def _at_least_one(what: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{what} must be a whole number of at least 1, not {value!r}.")


def _positive(what: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(f"{what} must be above 0, not {value}.")
