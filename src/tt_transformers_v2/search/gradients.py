# SPDX-License-Identifier: Apache-2.0
"""Gradients of the float32 reference's own predictions, layer by layer from the last to the first.

At every position a token is drawn from the reference's distribution, and the sum of the drawn tokens' log-probabilities
is differentiated by the output of each matrix product (and of attention). Only the residual stream between layers is
kept: a layer is computed again when the gradient reaches it, so memory is that of one layer and of a few activations.
What the gradients are good for is said in `gradient_effects.py`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..backends.reference import ReferenceOps
from ..hardware.op_table import SDPA, ModelOp
from ..models.decoder import LayerWeights, attention_half, final_hidden, head_matrix, logits_of, mlp_half
from ..models.layer_spec import AttentionSpec
from ..models.named_weights import NamedWeights
from ..models.rope import RotaryTables, rope_tables
from ..models.weights import WeightSource

# Tokens whose activations of one layer are in memory together.
TOKENS_AT_ONCE = 1024


@dataclass
class Product:
    """x [windows, T, K] @ weight [K, N] of the reference, and the gradient at its output for each sample of labels;
    `name` is the canonical one of the weight."""

    op: ModelOp
    name: str
    x: Tensor
    weight: Tensor
    output: Tensor
    gradients: list[Tensor] = field(default_factory=list)


@dataclass
class Attended:
    """q, k and v [windows, heads, T, d] of the reference's attention, its output, and the gradients there."""

    q: Tensor
    k: Tensor
    v: Tensor
    kind: AttentionSpec
    sinks: Tensor | None
    output: Tensor
    gradients: list[Tensor] = field(default_factory=list)


@dataclass
class LayerPass:
    """What the backward pass saw of some windows in one layer; `windows` are their numbers."""

    layer: int
    windows: slice
    products: list[Product]
    attended: list[Attended]


class RecordingOps(ReferenceOps):
    """The reference, remembering the products with matrices of some tensor groups, and attention if it is among
    `groups` as SDPA's. `names` has those of matrices by the id of the tensor (models.named_weights)."""

    def __init__(self, groups: Collection[str], names: Mapping[int, str]) -> None:
        self.groups, self.names = groups, names
        self.products: list[Product] = []
        self.attended: list[Attended] = []

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: ModelOp) -> Tensor:
        """As models.decoder.Ops.linear."""
        y = super().linear(x, weight, bias, op)
        if op.tensor_group in self.groups:
            self.products.append(Product(op, self.names[id(weight)], x.detach(), weight, y))
        return y

    def attention(self, q: Tensor, k: Tensor, v: Tensor, kind: AttentionSpec, sinks: Tensor | None) -> Tensor:
        """As models.decoder.Ops.attention."""
        y = super().attention(q, k, v, kind, sinks)
        if SDPA.tensor_group in self.groups:
            self.attended.append(Attended(q.detach(), k.detach(), v.detach(), kind, sinks, y))
        return y


@dataclass
class PassCost:
    """Seconds for the whole text: of the forward pass, of computing layers again, of going backwards for all samples,
    and of the options' effects. `layer_cpu` is the processor time of the last layer that the pass took, all in all."""

    forward: float = 0.0
    recomputed: float = 0.0
    backward: float = 0.0
    effects: float = 0.0
    layer_cpu: float = 0.0


class BackwardPass:
    """The reference on `windows` int64 [W, T], differentiated for `samples` draws of labels.

    `gradient` [samples, W, T, hidden] is that of the residual stream before layer `next_layer + 1`; with both given, a
    pass goes on from there. Draws depend on the window's number alone, so every run makes the same ones.
    """

    def __init__(
        self,
        source: WeightSource,
        windows: Tensor,
        samples: int,
        groups: Collection[str],
        gradient: Tensor | None = None,
        next_layer: int | None = None,
    ) -> None:
        self.source, self.windows, self.samples, self.groups = source, windows, samples, groups
        self.cost = PassCost()
        self._tables = rope_tables(source.spec, torch.arange(windows.shape[1]))
        self._at_once = max(TOKENS_AT_ONCE // windows.shape[1], 1)
        last = source.spec.num_layers - 1 if next_layer is None else next_layer
        whole = gradient is None
        started = time.monotonic()
        # Of a pass that goes on, the layers it has behind it are not needed again.
        self.before = self._forward(source.spec.num_layers if whole else last + 1)
        self.cost.forward = time.monotonic() - started
        self.next_layer = last
        self.gradient = self._at_the_end() if gradient is None else gradient

    @property
    def parts(self) -> int:
        """Into how many parts the windows are divided in each layer."""
        return -(-len(self.windows) // self._at_once)

    def _forward(self, layers: int) -> list[Tensor]:
        """The residual stream [W, T, hidden] before each of the first `layers` layers and after them."""
        ops, spec = ReferenceOps(), self.source.spec
        kept = []
        with torch.no_grad():
            x = ops.embed(self.windows, self.source.tensor("embedding"))
            for layer in range(layers):
                kept.append(x)
                weights = LayerWeights(self.source, layer, keep=self.parts > 1)
                parts = [
                    mlp_half(ops, spec, weights, attention_half(ops, spec, weights, part, self._tables))
                    for part in x.split(self._at_once)
                ]
                x = torch.cat(parts)
        return [*kept, x]

    def _at_the_end(self) -> Tensor:
        """The gradient at the last layer's output, for labels drawn from the model's own distribution."""
        started = time.monotonic()
        ops, spec, last = ReferenceOps(), self.source.spec, self.before[-1]
        found = torch.empty(self.samples, *last.shape)
        head = head_matrix(ops, self.source)
        for number in range(len(last)):
            generator = torch.Generator().manual_seed(number)
            with torch.enable_grad():
                x = last[number : number + 1].detach().requires_grad_()
                logits = logits_of(ops, spec, head, final_hidden(ops, spec, self.source, x))
            shares = torch.softmax(logits.detach()[0], -1)
            labels = torch.multinomial(shares, self.samples, replacement=True, generator=generator)
            for sample in range(self.samples):
                # d log p(label) / d logits = (1 at the label) - p
                score = shares.neg()
                score[torch.arange(len(score)), labels[:, sample]] += 1
                keep = sample + 1 < self.samples
                (found[sample, number],) = (
                    part[0] for part in torch.autograd.grad(logits, x, score[None], retain_graph=keep)
                )
        self.cost.backward += time.monotonic() - started
        return found

    def layer(self) -> Iterator[LayerPass]:
        """Takes the gradient through layer `next_layer`, some windows at a time, and goes on to the one before it."""
        layer, spec = self.next_layer, self.source.spec
        names: dict[int, str] = {}
        weights = NamedWeights(self.source, layer, names, keep=self.parts > 1)
        before = torch.empty_like(self.gradient)
        for start in range(0, len(self.windows), self._at_once):
            part = slice(start, min(start + self._at_once, len(self.windows)))
            started = time.monotonic()
            ops = RecordingOps(self.groups, names)
            with torch.enable_grad():
                x = self.before[layer][part].detach().requires_grad_()
                y = _layer(ops, spec, weights, x, self._tables)
            self.cost.recomputed += time.monotonic() - started
            started = time.monotonic()
            seen: list[Any] = [*ops.products, *ops.attended]
            for sample in range(self.samples):
                found = torch.autograd.grad(
                    y,
                    [x, *(each.output for each in seen)],
                    self.gradient[sample, part],
                    retain_graph=sample + 1 < self.samples,
                )
                before[sample, part] = found[0]
                for each, gradient in zip(seen, found[1:], strict=True):
                    each.gradients.append(gradient)
            for each in seen:
                each.output = each.output.detach()
            del y, x, found
            self.cost.backward += time.monotonic() - started
            yield LayerPass(layer, part, ops.products, ops.attended)
        self.gradient, self.next_layer = before, layer - 1


def _layer(ops: ReferenceOps, spec: Any, weights: LayerWeights, x: Tensor, tables: RotaryTables) -> Tensor:
    return mlp_half(ops, spec, weights, attention_half(ops, spec, weights, x, tables))
