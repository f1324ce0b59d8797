# SPDX-License-Identifier: Apache-2.0
"""Plain float32, what every other backend is measured against."""

from __future__ import annotations

import copy
import functools

import torch
import torch.nn.functional as functional
from torch import Tensor
from typing_extensions import Self

from ..hardware.op_table import ModelOp
from ..models.kv_cache import KVCache
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

    def attention(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        k, v = (repeat_kv_heads(x, q) for x in self._attended_to(k, v))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return torch.softmax(scores + causal_mask(q.shape[-2], window, k.shape[-2]), dim=-1) @ v

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return functional.silu(gate) * up

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


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
