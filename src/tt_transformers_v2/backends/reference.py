# SPDX-License-Identifier: Apache-2.0
"""Plain float32, what every other backend is measured against."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor
from typing_extensions import Self

from ..hardware.op_table import ModelOp
from ..models.decoder import LayerWeights
from ..models.kv_cache import KVCache
from ..models.layer_spec import AttentionSpec, ExpertsSpec, MlpSpec
from ..models.rope import apply_rope
from ..models.spec import ModelSpec


class HostLayout:
    """How activations on this machine are laid out, and how attention goes on from a cache."""

    cache: KVCache | None = None

    def continuing(self, cache: KVCache) -> Self:
        """The same ops with attention that looks at `cache` too, and adds to it."""
        changed = copy.copy(self)
        changed.cache = cache
        return changed

    def _attended_to(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all positions so far, for those of new positions."""
        return (k, v) if self.cache is None else self.cache.extend(k, v)

    def for_heads(self, spec: ModelSpec) -> Self:
        return self

    def matrix(self, weight: Tensor, op: ModelOp) -> Any:
        """As models.decoder.Ops.matrix."""
        raise NotImplementedError

    def layer_matrix(self, weights: LayerWeights, name: str, op: ModelOp) -> Any:
        return self.matrix(weights[name], op)

    def split_heads(self, qkv: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, _ = qkv.shape
        heads = qkv.reshape(batch, tokens, -1, spec.head_dim).transpose(1, 2)
        q, k, v = heads.split([spec.num_heads, spec.num_kv_heads, spec.num_kv_heads], dim=1)
        return q, k, v

    def merge_heads(self, attended: Tensor) -> Tensor:
        batch, _, tokens, _ = attended.shape
        return attended.transpose(1, 2).reshape(batch, tokens, -1)

    def reduce(self, x: Tensor, op: ModelOp) -> Tensor:
        return x

    def norm_all_heads(self, qkv: Tensor, q_norm: Tensor, k_norm: Tensor, spec: ModelSpec) -> Tensor:
        q, k, v = qkv.split([len(q_norm), len(k_norm), qkv.shape[-1] - len(q_norm) - len(k_norm)], dim=-1)
        normed = (self.rms_norm(q, q_norm, spec.norm_eps), self.rms_norm(k, k_norm, spec.norm_eps))
        return torch.cat((*normed, v), dim=-1)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """As models.decoder.Ops.rms_norm."""
        raise NotImplementedError

    def mixed(self, x: Tensor, chosen: Tensor, shares: Tensor, expert: Callable[[Any, int, Tensor], Tensor]) -> Tensor:
        rows, picks, weights = x.flatten(0, 1), chosen.flatten(0, 1), shares.flatten(0, 1)
        mixed: Tensor | None = None
        first = torch.ones(len(rows), dtype=torch.bool)
        own = self.for_experts(len(rows))
        # In the order of the experts' numbers: each token's sum begins with its first one.
        for number in picks.unique().tolist():
            where, place = (picks == number).nonzero(as_tuple=True)
            output = self.shared_out(expert(own, number, rows[where][None])[0], weights[where, place][:, None])
            if mixed is None:
                mixed = torch.zeros(len(rows), output.shape[-1])
            added = self.add(mixed[where], output)
            mixed[where] = torch.where(first[where][:, None], output, added)
            first[where] = False
        assert mixed is not None
        return mixed.reshape(*x.shape[:-1], -1)

    def for_experts(self, rows: int) -> Self:
        """The ops that compute an expert for some of `rows` rows."""
        return self

    def shared_out(self, x: Tensor, share: Tensor) -> Tensor:
        """An expert's output [rows, hidden] times each token's share [rows, 1]."""
        return x * share

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """As models.decoder.Ops.add."""
        raise NotImplementedError

    def capped(self, logits: Tensor, cap: float) -> Tensor:
        return cap * torch.tanh(logits / cap)


class ReferenceOps(HostLayout):
    """models.decoder.Ops in float32; nothing is rounded."""

    name = "reference"

    def at_layer(self, layer: int) -> ReferenceOps:
        return self

    def in_phase(self, phase: str) -> ReferenceOps:
        return self

    def matrix(self, weight: Tensor, op: ModelOp) -> Tensor:
        return weight

    def vector(self, weight: Tensor) -> Tensor:
        return weight

    def embed(self, tokens: Tensor, table: Tensor) -> Tensor:
        return functional.embedding(tokens, table)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: ModelOp) -> Tensor:
        y = x @ weight
        return y if bias is None else y + bias

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return rms_norm(x, weight, eps)

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return apply_rope(x, cos, sin)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, kind: AttentionSpec, sinks: Tensor | None) -> Tensor:
        k, v = (repeat_kv_heads(x, q) for x in self._attended_to(k, v))
        scores = q @ k.transpose(-1, -2) * kind.scale_for(q.shape[-1])
        if kind.cap is not None:
            scores = self.capped(scores, kind.cap)
        scores = scores + causal_mask(q.shape[-2], kind.window, k.shape[-2])
        if sinks is None:
            return torch.softmax(scores, dim=-1) @ v
        beside = sinks[:, None, None].expand(*scores.shape[:-1], 1)
        return torch.softmax(torch.cat((scores, beside), dim=-1), dim=-1)[..., :-1] @ v

    def gated(self, gate: Tensor, up: Tensor, mlp: MlpSpec) -> Tensor:
        if mlp.limit is None:
            return activation(gate, mlp.activation) * up
        gate, up = gate.clamp(max=mlp.limit), up.clamp(-mlp.limit, mlp.limit)
        return gate * torch.sigmoid(gate * mlp.alpha) * (up + 1)

    def activated(self, x: Tensor, mlp: MlpSpec) -> Tensor:
        return activation(x, mlp.activation)

    def biased(self, x: Tensor, bias: Tensor, op: ModelOp) -> Tensor:
        return x + bias

    def route(self, scores: Tensor, experts: ExpertsSpec) -> tuple[Tensor, Tensor]:
        return route(scores, experts)

    def scaled(self, x: Tensor, gate: Tensor) -> Tensor:
        return torch.sigmoid(gate) * x

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def activation(x: Tensor, name: str) -> Tensor:
    """An activation of layer_spec.ACTIVATIONS in float32."""
    if name == "relu2":
        return functional.relu(x).square()
    if name == "gelu_tanh":
        return functional.gelu(x, approximate="tanh")
    chosen: Tensor = getattr(functional, name)(x)
    return chosen


def route(scores: Tensor, experts: ExpertsSpec) -> tuple[Tensor, Tensor]:
    """models.decoder.Ops.route in float32; of equal scores the lower number wins."""
    if experts.router == "top_k_then_softmax":
        best, chosen = largest(scores, experts.top_k)
        return chosen, torch.softmax(best, dim=-1)
    shares, chosen = largest(torch.softmax(scores, dim=-1), experts.top_k)
    return chosen, shares / shares.sum(dim=-1, keepdim=True) if experts.normalised else shares


def largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of the last dimension, largest first, and their places."""
    ordered, places = torch.sort(x, dim=-1, descending=True, stable=True)
    return ordered[..., :count], places[..., :count]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def repeat_kv_heads(kv: Tensor, q: Tensor) -> Tensor:
    """k or v [batch, kv_heads, tokens, d] repeated to q's number of heads."""
    return kv.repeat_interleave(q.shape[1] // kv.shape[1], dim=1)


@functools.lru_cache(maxsize=4)
def causal_mask(tokens: int, window: int | None, positions: int | None = None) -> Tensor:
    """[tokens, positions] for the last `tokens` of `positions` (default: all of them): 0 where one may look, minus
    infinity elsewhere. Not to be changed."""
    looked_at = torch.arange(tokens if positions is None else positions)
    distance = looked_at[-tokens:, None] - looked_at[None, :]
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.zeros(distance.shape).masked_fill(hidden, float("-inf"))
