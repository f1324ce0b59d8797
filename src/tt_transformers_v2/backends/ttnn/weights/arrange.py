# SPDX-License-Identifier: Apache-2.0
"""A model's tensors rearranged for a mesh, on the host and in float32: what ttnn then cuts into one piece per chip.

Rotary embedding. Canonical weights have Hugging Face's layout, where dimension i of a head turns with i + d/2
(models.rope). ttnn.experimental.rotary_embedding_llama multiplies by a 32x32 matrix that swaps neighbours, so it wants
2i to turn with 2i + 1, as Meta's weights have it. Heads of q and k, their biases and norms, and the tables are put in
that order; scores do not change, because q and k are reordered alike.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from ....common.units import TILE
from ....models.rope import rope_tables
from ....models.spec import ModelSpec
from ....planning.split import Split

ROTATED_NORMS = ("q_norm", "k_norm")


def interleaved(head_dim: int) -> Tensor:
    """For each dimension of a head in ttnn's order, where it is in Hugging Face's."""
    half = torch.arange(head_dim // 2)
    return torch.stack((half, half + head_dim // 2), dim=-1).flatten()


def rotation() -> Tensor:
    """The matrix T [1, 1, 32, 32] with (x @ T)[2i] = -x[2i + 1] and (x @ T)[2i + 1] = x[2i]."""
    turn = torch.zeros(1, 1, TILE, TILE)
    even = torch.arange(0, TILE, 2)
    turn[..., even, even + 1] = 1
    turn[..., even + 1, even] = -1
    return turn


def rotary_tables(spec: ModelSpec, tokens: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [tokens, head_dim] for positions from 0, in ttnn's order."""
    (table,) = rope_tables(spec, torch.arange(tokens)).values()
    cos, sin = table.cos, table.sin
    order = interleaved(spec.head_dim)
    return cos[:, order], sin[:, order]


def matrix(spec: ModelSpec, split: Split, name: str, weight: Tensor) -> Tensor:
    """A canonical matrix [in, out] as [1, 1, in, out] of which every chip's piece is a plain block.

    Widths that are split over the heads' axis are padded with zeros to whole tiles per chip. The LM head comes whole;
    `columns` takes a part of it.
    """
    if name == "wqkv":
        weight = _by_chip(spec, split, weight)
    elif name == "w2":
        weight = functional.pad(weight, (0, 0, 0, split.width(spec.intermediate_dim) * split.heads - weight.shape[0]))
    elif name in ("w1", "w3", "lm_head"):
        elements = spec.vocab_size if name == "lm_head" else spec.intermediate_dim
        weight = functional.pad(weight, (0, split.width(elements) * split.heads - weight.shape[1]))
    return weight[None, None].contiguous()


def columns(split: Split, weight: Tensor, first: int, count: int) -> Tensor:
    """Columns `first` to `first + count` of every chip's piece of a matrix [1, 1, in, out]."""
    pieces = weight.unflatten(-1, (split.heads, -1))[..., first : first + count]
    return pieces.flatten(-2).contiguous()


def bias(spec: ModelSpec, split: Split, values: Tensor) -> Tensor:
    """The bias of wqkv as [1, 1, 1, out], in the order of its columns."""
    return _by_chip(spec, split, values)[None, None, None].contiguous()


def norm(spec: ModelSpec, name: str, values: Tensor) -> Tensor:
    """A norm's weight as [1, 1, n / 32, 32], the rows that ttnn's norms read."""
    if name in ROTATED_NORMS:
        values = values[interleaved(spec.head_dim)]
    return values.reshape(1, 1, -1, TILE)


def table(split: Split, values: Tensor) -> Tensor:
    """The embedding table [vocab, hidden] as [1, parts of the hidden size, vocab, hidden / parts]."""
    return values.unflatten(-1, (split.hidden, -1)).permute(1, 0, 2)[None].contiguous()


def _by_chip(spec: ModelSpec, split: Split, qkv: Tensor) -> Tensor:
    """The last dimension, all q, all k, all v, as q, k and v of the first chip, of the second, …

    A KV head comes once for every chip that needs it.
    """
    heads = qkv.unflatten(-1, (-1, spec.head_dim))
    q, k, v = heads.split([spec.num_heads, spec.num_kv_heads, spec.num_kv_heads], dim=-2)
    order = interleaved(spec.head_dim)
    q, k = q[..., order], k[..., order]
    at_once, own = split.q_heads(spec), split.kv_heads(spec)
    pieces: list[Tensor] = []
    for chip in range(split.heads):
        first = chip * spec.num_kv_heads // split.heads
        pieces += [q[..., chip * at_once : (chip + 1) * at_once, :]]
        pieces += [kv[..., first : first + own, :] for kv in (k, v)]
    return torch.cat(pieces, dim=-2).flatten(-2)
