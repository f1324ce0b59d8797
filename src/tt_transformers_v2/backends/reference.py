# SPDX-License-Identifier: Apache-2.0
"""Plain float32, what every other backend is measured against."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..models.rope import apply_rope
from ..models.spec import ModelSpec


class HostLayout:
    """How activations on this machine are laid out; one chip holds all of them."""

    def split_heads(self, qkv: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, _ = qkv.shape
        heads = qkv.reshape(batch, tokens, -1, spec.head_dim).transpose(1, 2)
        q, k, v = heads.split([spec.num_heads, spec.num_kv_heads, spec.num_kv_heads], dim=1)
        return q, k, v

    def merge_heads(self, attended: Tensor) -> Tensor:
        batch, _, tokens, _ = attended.shape
        return attended.transpose(1, 2).reshape(batch, tokens, -1)

    def reduce(self, x: Tensor, half: str) -> Tensor:
        return x


class ReferenceOps(HostLayout):
    """models.decoder.Ops in float32; nothing is rounded."""

    name = "reference"

    def at_layer(self, layer: int) -> ReferenceOps:
        return self

    def matrix(self, weight: Tensor, tensor_group: str, op_group: str) -> Tensor:
        return weight

    def vector(self, weight: Tensor) -> Tensor:
        return weight

    def embed(self, tokens: Tensor, table: Tensor) -> Tensor:
        return functional.embedding(tokens, table)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, op_group: str) -> Tensor:
        y = x @ weight
        return y if bias is None else y + bias

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return rms_norm(x, weight, eps)

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return apply_rope(x, cos, sin)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        k, v = repeat_kv_heads(k, q), repeat_kv_heads(v, q)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return torch.softmax(scores + causal_mask(q.shape[-2], window), dim=-1) @ v

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


def causal_mask(tokens: int, window: int | None) -> Tensor:
    """[tokens, tokens]: 0 where a position may look, minus infinity elsewhere."""
    position = torch.arange(tokens)
    distance = position[:, None] - position[None, :]
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.zeros(tokens, tokens).masked_fill(hidden, float("-inf"))
