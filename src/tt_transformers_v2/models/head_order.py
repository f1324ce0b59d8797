# SPDX-License-Identifier: Apache-2.0
"""The orders of a head's dimensions of q and k: in files, in models.decoder (the canonical one), and on a card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rotary_spec import Rotary
from .spec import ModelSpec

if TYPE_CHECKING:
    import torch


def head_order(rotary: Rotary | None, head_dim: int, *, interleaved: bool) -> list[int] | None:
    """Where each dimension of a head of `head_dim` elements is stored, None where it is in its place.

    Canonical heads turn i with i + d/2. Stored ones turn, of their first `rotated` dimensions, the lower half with the
    upper one, or neighbours (`interleaved`); what does not turn stands behind them.
    """
    rotated = head_dim if rotary is None or rotary.rotated is None else rotary.rotated
    if rotary is None or (rotated == head_dim and not interleaved):
        return None
    half, rest = rotated // 2, list(range(rotated, head_dim))
    if interleaved:
        low, high = list(range(0, rotated, 2)), list(range(1, rotated, 2))
    else:
        low, high = list(range(half)), list(range(half, rotated))
    return [*low, *rest[: len(rest) // 2], *high, *rest[len(rest) // 2 :]]


def card_order(head_dim: int) -> list[int]:
    """For each dimension of a head as a card has it, where it is canonically.

    ttnn.experimental.rotary_embedding_llama turns neighbours, 2i with 2i + 1, where canonical heads turn i with
    i + d/2. What a card packs in blocks of 16, and the order of its sums over a head, follow from it.
    """
    half = head_dim // 2
    return [i + side * half for i in range(half) for side in (0, 1)]


def reordered(x: torch.Tensor, name: str, spec: ModelSpec, order: list[int]) -> torch.Tensor:
    """wqkv, bqkv, q_norm or k_norm [..., heads * head_dim] with the dimensions of the heads of q and k in `order`."""
    heads = x.unflatten(-1, (-1, spec.head_dim)).clone()
    turning = heads.shape[-2] if name.endswith("norm") else spec.num_heads + spec.num_kv_heads
    heads[..., :turning, :] = heads[..., :turning, order]
    return heads.flatten(-2)
