# SPDX-License-Identifier: Apache-2.0
"""The decoder, written once: every backend brings its own `Ops`, and the order of operations stays the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from ..common.errors import ConfigError
from ..hardware.op_table import EXPERT_MATRICES, LM_HEAD, MATRICES, ROUTER, ModelOp
from .layer_spec import AttentionSpec, ExpertsSpec, MlpSpec
from .spec import ModelSpec
from .weights import WeightSource, expert_name, layer_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from .rope import RotaryTables

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

    def layer_matrix(self, weights: LayerWeights, name: str, op: ModelOp) -> Weight:
        """`matrix` of a layer's tensor by its canonical name, which is not read where the backend has it at hand."""
        ...

    def vector(self, weight: Tensor) -> Tensor:
        """A norm weight, a bias or a rotary table as the backend stores it."""
        ...

    def embed(self, tokens: Tensor, table: Tensor) -> Tensor:
        """Rows of `table` [vocab, hidden] for `tokens` int64 [batch, tokens]."""
        ...

    def for_heads(self, spec: ModelSpec) -> Ops:
        """The same backend, which knows how the columns of wqkv are heads."""
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

    def attention(self, q: Tensor, k: Tensor, v: Tensor, kind: AttentionSpec, sinks: Tensor | None) -> Tensor:
        """Causal attention: q [batch, heads, tokens, d], k and v [batch, kv_heads, tokens, d] -> like q.

        `kind` has its window, scale and soft cap; `sinks` [heads] are scores that attend to nothing.
        """
        ...

    def norm_all_heads(self, qkv: Tensor, q_norm: Tensor, k_norm: Tensor, spec: ModelSpec) -> Tensor:
        """qkv [batch, tokens, all heads] with an RMS norm over all of q and one over all of k."""
        ...

    def gated(self, gate: Tensor, up: Tensor, mlp: MlpSpec) -> Tensor:
        """activation(gate) * up, or what `mlp` makes of them within its limit."""
        ...

    def activated(self, x: Tensor, mlp: MlpSpec) -> Tensor:
        """activation(x) of an MLP without a gate."""
        ...

    def biased(self, x: Tensor, bias: Tensor, op: ModelOp) -> Tensor:
        """What `reduce` gave plus the bias [out] of its matrix."""
        ...

    def route(self, scores: Tensor, experts: ExpertsSpec) -> tuple[Tensor, Tensor]:
        """The chosen experts int64 [batch, tokens, top_k] and their shares, of the router's scores [..., experts]."""
        ...

    def mixed(self, x: Tensor, chosen: Tensor, shares: Tensor, expert: Callable[[Ops, int, Tensor], Tensor]) -> Tensor:
        """The sum over the chosen experts of share times output, like x [batch, tokens, hidden].

        `expert(ops, number, rows)` computes one on [1, tokens, hidden].
        """
        ...

    def scaled(self, x: Tensor, gate: Tensor) -> Tensor:
        """sigmoid(gate) [..., 1] times x [..., width]."""
        ...

    def capped(self, logits: Tensor, cap: float) -> Tensor:
        """cap * tanh(logits / cap)."""
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

    @property
    def asked(self) -> frozenset[str]:
        """What has been asked for so far, with `keep`."""
        return frozenset(self._kept or ())

    def read(self, names: frozenset[str]) -> None:
        """Reads those of `names` that the layer has, in a thread while another layer is computed; what cannot be read
        says so when it is asked for."""
        with contextlib.suppress(ConfigError):
            for name in layer_tensors(self.source.spec, self.layer):
                if name in names:
                    self[name]


def each_layer(source: WeightSource, *, keep: bool = False) -> Iterator[LayerWeights]:
    """The weights of a model's layers in order; `keep` as in LayerWeights. What was asked for of the layer before is
    then read of the next one while this one is computed."""
    if not keep or source.synthetic:
        yield from (LayerWeights(source, layer, keep=keep) for layer in range(source.spec.num_layers))
        return
    layers = [LayerWeights(source, layer, keep=True) for layer in range(source.spec.num_layers)]
    with ThreadPoolExecutor(1, thread_name_prefix="weights") as reader:
        reading: Future[None] | None = None
        asked: frozenset[str] = frozenset()
        while layers:
            own = layers.pop(0)
            if reading is not None:
                reading.result()
            if layers:
                reading = reader.submit(layers[0].read, asked)
            yield own
            asked = own.asked


def no_tap(name: str, value: Tensor) -> None:
    """A tap that looks at nothing."""


def decoder_layer(
    ops: Ops, spec: ModelSpec, weights: LayerWeights, x: Tensor, tables: RotaryTables, tap: Tap = no_tap
) -> Tensor:
    """One layer on x [batch, tokens, hidden]; `tap` sees what attention and MLP add, and the layer's output."""
    x = attention_half(ops, spec, weights, x, tables, tap)
    x = mlp_half(ops, spec, weights, x, tap)
    tap("layer", x)
    return x


def attention_half(
    ops: Ops, spec: ModelSpec, weights: LayerWeights, x: Tensor, tables: RotaryTables, tap: Tap = no_tap
) -> Tensor:
    """x plus attention; `tap` sees what is added."""
    normed = _normed(ops, spec, weights, x, "attention_norm")
    attended = attention_block(ops, spec, weights, normed, tables)
    attended = _normed(ops, spec, weights, attended, "attention_post_norm")
    tap("attention", attended)
    return ops.add(x, attended)


def mlp_half(ops: Ops, spec: ModelSpec, weights: LayerWeights, x: Tensor, tap: Tap = no_tap) -> Tensor:
    """x plus the MLP or the experts; `tap` sees what is added."""
    kind = spec.layer(weights.layer).feed_forward
    normed = _normed(ops, spec, weights, x, "ffn_norm")
    if isinstance(kind, MlpSpec):
        fed = mlp_block(ops, kind, weights, normed)
    else:
        fed = experts_block(ops, kind, weights, normed)
    fed = _normed(ops, spec, weights, fed, "ffn_post_norm")
    tap("mlp", fed)
    return ops.add(x, fed)


def attention_block(ops: Ops, spec: ModelSpec, weights: LayerWeights, x: Tensor, tables: RotaryTables) -> Tensor:
    """QKV projection, rotary embedding, grouped-query attention and output projection of x [batch, tokens, hidden]."""
    kind, ops = spec.layer(weights.layer).attention, ops.for_heads(spec)
    qkv = _product(ops, weights, "wqkv", x, "bqkv" if kind.qkv_bias else None)
    if kind.qk_norm == "all":
        qkv = ops.norm_all_heads(qkv, ops.vector(weights["q_norm"]), ops.vector(weights["k_norm"]), spec)
    q, k, v = ops.split_heads(qkv, spec)
    if kind.qk_norm == "head":
        q = ops.rms_norm(q, ops.vector(weights["q_norm"]), spec.norm_eps)
        k = ops.rms_norm(k, ops.vector(weights["k_norm"]), spec.norm_eps)
    if kind.rotary is not None:
        table = tables[kind.rotary]
        q = ops.rope(q, ops.vector(table.query_cos), ops.vector(table.query_sin))
        k = ops.rope(k, ops.vector(table.cos), ops.vector(table.sin))
    attended = ops.attention(q, k, v, kind, ops.vector(weights["sinks"]) if kind.sinks else None)
    return _reduced(ops, weights, "wo", ops.merge_heads(attended), "bo" if kind.output_bias else None)


def mlp_block(ops: Ops, mlp: MlpSpec, weights: LayerWeights, x: Tensor, of: str = "") -> Tensor:
    """The MLP of x [batch, tokens, hidden]; `of` is what the names of its tensors begin with."""
    b1, b3, b2 = (f"{of}b{n}" if mlp.bias else None for n in (1, 3, 2))
    gate = _product(ops, weights, f"{of}w1", x, b1)
    if not mlp.gated:
        return _reduced(ops, weights, f"{of}w2", ops.activated(gate, mlp), b2)
    up = _product(ops, weights, f"{of}w3", x, b3)
    return _reduced(ops, weights, f"{of}w2", ops.gated(gate, up, mlp), b2)


def experts_block(ops: Ops, experts: ExpertsSpec, weights: LayerWeights, x: Tensor) -> Tensor:
    """Each token's experts of x [batch, tokens, hidden], by the shares that the router gives them."""
    scores = _product(ops, weights, "router", x, "router_bias" if experts.router_bias else None)
    chosen, shares = ops.route(scores, experts)

    def expert(own: Ops, number: int, rows: Tensor) -> Tensor:
        return mlp_block(own, experts.mlp, weights, rows, expert_name(number))

    fed = ops.mixed(x, chosen, shares, expert)
    if experts.shared is None:
        return fed
    shared = mlp_block(ops, experts.shared, weights, x, "shared.")
    if experts.shared_gate:
        shared = ops.scaled(shared, _product(ops, weights, "shared.gate", x))
    return ops.add(fed, shared)


def _normed(ops: Ops, spec: ModelSpec, weights: LayerWeights, x: Tensor, name: str) -> Tensor:
    """x through the norm `name`, where layers of this kind have it."""
    if spec.layer(weights.layer).norms == ("before" if name.endswith("post_norm") else "after"):
        return x
    return ops.rms_norm(x, ops.vector(weights[name]), spec.norm_eps)


def _product(ops: Ops, weights: LayerWeights, name: str, x: Tensor, bias: str | None = None) -> Tensor:
    op = matrix_op(name)
    return ops.linear(x, ops.layer_matrix(weights, name, op), ops.vector(weights[bias]) if bias else None, op)


def _reduced(ops: Ops, weights: LayerWeights, name: str, x: Tensor, bias: str | None) -> Tensor:
    """The product with a matrix whose inputs are split over chips: their sum first, then the bias."""
    y = ops.reduce(_product(ops, weights, name, x), matrix_op(name))
    return ops.biased(y, ops.vector(weights[bias]), matrix_op(name)) if bias else y


def matrix_op(name: str) -> ModelOp:
    """The matmul with a layer's matrix by its canonical name, also with an expert's or a shared expert's."""
    group, _, matrix = name.rpartition(".")
    if matrix in ("router", "gate"):
        return ROUTER
    return EXPERT_MATRICES[f"experts.{matrix}"] if group.startswith("expert") else MATRICES[matrix]


def final_hidden(ops: Ops, spec: ModelSpec, source: WeightSource, x: Tensor) -> Tensor:
    """The normed output of the last layer, which the LM head multiplies."""
    return ops.rms_norm(x, ops.vector(source.tensor("final_norm")), spec.norm_eps)


def through_layers(ops: Ops, source: WeightSource, x: Tensor, tables: RotaryTables) -> Tensor:
    """x [batch, tokens, hidden] taken through every layer, each in its own settings; no weights are kept."""
    for weights in each_layer(source):
        x = decoder_layer(ops.at_layer(weights.layer), source.spec, weights, x, tables)
    return x


def head_matrix(ops: Ops, source: WeightSource) -> Weight:
    """The LM head as the backend stores and multiplies it."""
    return ops.matrix(source.tensor(LM_HEAD.matrix), LM_HEAD)


def logits_of(ops: Ops, spec: ModelSpec, head: Weight, hidden: Tensor) -> Tensor:
    """Logits of normed outputs of the last layer; `head` is `head_matrix`."""
    logits = ops.linear(hidden, head, None, LM_HEAD)
    return logits if spec.logit_cap is None else ops.capped(logits, spec.logit_cap)


def forward(ops: Ops, source: WeightSource, tokens: Tensor) -> Tensor:
    """Logits [batch, tokens, vocab] for `tokens` int64 [batch, tokens], layer by layer, nothing kept.

    Raises ConfigError for a token that the embedding has no row for.
    """
    import torch

    from .rope import rope_tables

    spec = source.spec
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < spec.vocab_size:
        raise ConfigError(f"tokens must be 0 to {spec.vocab_size - 1}, not {int(tokens.min())} to {int(tokens.max())}.")
    tables = rope_tables(spec, torch.arange(tokens.shape[1]))
    x = ops.embed(tokens, source.tensor("embedding"))
    x = through_layers(ops, source, x, tables)
    return logits_of(ops, spec, head_matrix(ops, source), final_hidden(ops, spec, source, x))
