# SPDX-License-Identifier: Apache-2.0
"""The decoder, written once: every backend brings its own `Ops`, and the order of operations stays the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ..hardware.op_table import LM_HEAD, MATRICES, ModelOp
from .spec import ModelSpec
from .weights import WeightSource

if TYPE_CHECKING:
    from torch import Tensor

# A prepared weight: whatever a backend's `matrix` returns and its `linear` takes.
Weight = Any
Tap = Callable[[str, "Tensor"], None]


class Ops(Protocol):
    """What a backend computes. Activations are the backend's own: for those on this machine float32
    [batch, tokens, width] holding the values the backend would hold. `op` is the row of hardware.op_table that says
    which settings hold.
    """

    name: str

    def at_layer(self, layer: int) -> Ops:
        """The same backend with the settings of one layer."""
        ...

    def matrix(self, weight: Tensor, op: ModelOp) -> Weight:
        """A matrix [in, out] as the backend stores and multiplies it."""
        ...

    def vector(self, weight: Tensor) -> Tensor:
        """A norm weight, a bias or a rotary table as the backend stores it."""
        ...

    def embed(self, tokens: Tensor, table: Tensor) -> Tensor:
        """Rows of `table` [vocab, hidden] for `tokens` int64 [batch, tokens]."""
        ...

    def linear(self, x: Tensor, weight: Weight, bias: Tensor | None, op: ModelOp) -> Tensor:
        """x [..., in] @ weight [in, out] + bias [out]."""
        ...

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Over the last dimension."""
        ...

    def split_heads(self, qkv: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v [batch, heads, tokens, head_dim] of qkv [batch, tokens, all heads]."""
        ...

    def merge_heads(self, attended: Tensor) -> Tensor:
        """The inverse for one of them: [batch, tokens, heads * head_dim]."""
        ...

    def reduce(self, x: Tensor, op: ModelOp) -> Tensor:
        """The sum over tensor-parallel chips of what the product with wo or w2 gave on each."""
        ...

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotates x [batch, heads, tokens, head_dim] by tables [tokens, head_dim]."""
        ...

    def attention(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """Causal attention: q [batch, heads, tokens, d], k and v [batch, kv_heads, tokens, d] -> like q.

        `window` is the sliding window in tokens, None for full attention.
        """
        ...

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) * up."""
        ...

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Residual addition."""
        ...


class LayerWeights:
    """One layer's tensors by canonical name, read when asked for.

    With `keep`, a tensor is read once however many backends ask; without, nothing stays in memory.
    """

    def __init__(self, source: WeightSource, layer: int, *, keep: bool = False) -> None:
        self.source = source
        self.layer = layer
        self._kept: dict[str, Tensor] | None = {} if keep else None

    def __getitem__(self, name: str) -> Tensor:
        if self._kept is None:
            return self.source.tensor(name, self.layer)
        if name not in self._kept:
            self._kept[name] = self.source.tensor(name, self.layer)
        return self._kept[name]


def each_layer(source: WeightSource, *, keep: bool = False) -> Iterator[LayerWeights]:
    """The weights of a model's layers in order; `keep` as in LayerWeights."""
    for layer in range(source.spec.num_layers):
        yield LayerWeights(source, layer, keep=keep)


def no_tap(name: str, value: Tensor) -> None:
    """A tap that looks at nothing."""


def decoder_layer(
    ops: Ops, spec: ModelSpec, weights: LayerWeights, x: Tensor, cos: Tensor, sin: Tensor, tap: Tap = no_tap
) -> Tensor:
    """One layer on x [batch, tokens, hidden]; `tap` sees the outputs of attention, MLP and layer."""
    x = attention_half(ops, spec, weights, x, cos, sin, tap)
    x = mlp_half(ops, spec, weights, x, tap)
    tap("layer", x)
    return x


def attention_half(
    ops: Ops, spec: ModelSpec, weights: LayerWeights, x: Tensor, cos: Tensor, sin: Tensor, tap: Tap = no_tap
) -> Tensor:
    """x plus attention over its norm; `tap` sees what is added."""
    normed = ops.rms_norm(x, ops.vector(weights["attention_norm"]), spec.norm_eps)
    attended = attention_block(ops, spec, weights, normed, cos, sin)
    tap("attention", attended)
    return ops.add(x, attended)


def mlp_half(ops: Ops, spec: ModelSpec, weights: LayerWeights, x: Tensor, tap: Tap = no_tap) -> Tensor:
    """x plus the MLP of its norm; `tap` sees what is added."""
    normed = ops.rms_norm(x, ops.vector(weights["ffn_norm"]), spec.norm_eps)
    fed = mlp_block(ops, weights, normed)
    tap("mlp", fed)
    return ops.add(x, fed)


def attention_block(ops: Ops, spec: ModelSpec, weights: LayerWeights, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """QKV projection, rotary embedding, grouped-query attention and output projection of x [batch, tokens, hidden]."""
    bias = ops.vector(weights["bqkv"]) if spec.qkv_bias else None
    qkv = _product(ops, weights, "wqkv", x, bias)
    q, k, v = ops.split_heads(qkv, spec)
    if spec.qk_norm:
        q = ops.rms_norm(q, ops.vector(weights["q_norm"]), spec.norm_eps)
        k = ops.rms_norm(k, ops.vector(weights["k_norm"]), spec.norm_eps)
    cos, sin = ops.vector(cos), ops.vector(sin)
    attended = ops.attention(ops.rope(q, cos, sin), ops.rope(k, cos, sin), v, spec.sliding_window)
    return ops.reduce(_product(ops, weights, "wo", ops.merge_heads(attended)), MATRICES["wo"])


def mlp_block(ops: Ops, weights: LayerWeights, x: Tensor) -> Tensor:
    """(silu(x @ w1) * (x @ w3)) @ w2 of x [batch, tokens, hidden]."""
    gate, up = _product(ops, weights, "w1", x), _product(ops, weights, "w3", x)
    return ops.reduce(_product(ops, weights, "w2", ops.gated(gate, up)), MATRICES["w2"])


def _product(ops: Ops, weights: LayerWeights, name: str, x: Tensor, bias: Tensor | None = None) -> Tensor:
    op = MATRICES[name]
    return ops.linear(x, ops.matrix(weights[name], op), bias, op)


def final_hidden(ops: Ops, spec: ModelSpec, source: WeightSource, x: Tensor) -> Tensor:
    """The normed output of the last layer, which the LM head multiplies."""
    return ops.rms_norm(x, ops.vector(source.tensor("final_norm")), spec.norm_eps)


def through_layers(ops: Ops, source: WeightSource, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [batch, tokens, hidden] taken through every layer, each in its own settings; no weights are kept."""
    for weights in each_layer(source):
        x = decoder_layer(ops.at_layer(weights.layer), source.spec, weights, x, cos, sin)
    return x


def head_matrix(ops: Ops, source: WeightSource) -> Weight:
    """The LM head as the backend stores and multiplies it."""
    return ops.matrix(source.tensor(LM_HEAD.matrix), LM_HEAD)


def forward(ops: Ops, source: WeightSource, tokens: Tensor) -> Tensor:
    """Logits [batch, tokens, vocab] for `tokens` int64 [batch, tokens], layer by layer, nothing kept."""
    import torch

    from .rope import rope_tables

    spec = source.spec
    cos, sin = rope_tables(spec, torch.arange(tokens.shape[1]))
    x = ops.embed(tokens, source.tensor("embedding"))
    x = through_layers(ops, source, x, cos, sin)
    return ops.linear(final_hidden(ops, spec, source, x), head_matrix(ops, source), None, LM_HEAD)
