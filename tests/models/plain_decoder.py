# SPDX-License-Identifier: Apache-2.0
"""A decoder forward in plain float32 torch, short enough to be checked by eye: what tests compare against."""

from __future__ import annotations

import torch

from tt_transformers_v2.models.rope import apply_rope, rope_tables
from tt_transformers_v2.models.weights import WeightSource


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def logits(source: WeightSource, ids: torch.Tensor) -> torch.Tensor:
    """Logits [B, T, vocab] for token ids [B, T]."""
    spec, (batch, length) = source.spec, ids.shape
    q_width, kv_width = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    (table,) = rope_tables(spec, torch.arange(length)).values()
    cos, sin = table.cos, table.sin
    age = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    hidden_key = age < 0
    if spec.sliding_window is not None:
        hidden_key |= age >= spec.sliding_window

    x = source.tensor("embedding")[ids]
    for layer in range(spec.num_layers):

        def weight(name: str, layer: int = layer) -> torch.Tensor:
            return source.tensor(name, layer)

        normed = rms_norm(x, weight("attention_norm"), spec.norm_eps)
        qkv = normed @ weight("wqkv")
        if spec.qkv_bias:
            qkv = qkv + weight("bqkv")
        q, k, v = (
            part.view(batch, length, -1, spec.head_dim).transpose(1, 2)
            for part in qkv.split([q_width, kv_width, kv_width], dim=-1)
        )
        if spec.qk_norm:
            q = rms_norm(q, weight("q_norm"), spec.norm_eps)
            k = rms_norm(k, weight("k_norm"), spec.norm_eps)
        q, k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
        groups = spec.num_heads // spec.num_kv_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        scores = (q @ k.transpose(-1, -2)) * spec.head_dim**-0.5
        attention = scores.masked_fill(hidden_key, float("-inf")).softmax(-1) @ v
        x = x + attention.transpose(1, 2).reshape(batch, length, q_width) @ weight("wo")

        normed = rms_norm(x, weight("ffn_norm"), spec.norm_eps)
        x = x + (torch.nn.functional.silu(normed @ weight("w1")) * (normed @ weight("w3"))) @ weight("w2")
    return rms_norm(x, source.tensor("final_norm"), spec.norm_eps) @ source.tensor("lm_head")
