# SPDX-License-Identifier: Apache-2.0
"""A model's tensors rearranged for a mesh, on the host and in float32: what ttnn then cuts into one piece per chip.

Rotary embedding. Canonical weights have Hugging Face's layout, where dimension i of a head turns with i + d/2
(models.rope). ttnn.experimental.rotary_embedding_llama multiplies by a 32x32 matrix that swaps neighbours, so it wants
2i to turn with 2i + 1, as Meta's weights have it. Heads of q and k, their biases and norms, and the tables are put in
that order; scores do not change, because q and k are reordered alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from ....common.units import TILE
from ....models.head_order import card_order
from ....models.rope import RotaryTable, rope_tables
from ....models.rotary_spec import Rotary
from ....models.spec import ModelSpec
from ....planning.split import Split
from .tensor_names import biased_matrix, matrix_axes

ROTATED_NORMS = ("q_norm", "k_norm")


def rotation() -> Tensor:
    """The matrix T [1, 1, 32, 32] with (x @ T)[2i] = -x[2i + 1] and (x @ T)[2i + 1] = x[2i]."""
    turn = torch.zeros(1, 1, TILE, TILE)
    even = torch.arange(0, TILE, 2)
    turn[..., even, even + 1] = 1
    turn[..., even + 1, even] = -1
    return turn


def rotary_tables(spec: ModelSpec, tokens: int) -> dict[Rotary, RotaryTable]:
    """Every rotary table of a model for positions from 0, [tokens, head_dim] each, in ttnn's order.

    Dimensions that do not turn have cosine 1 and sine 0 (models.rope), so that a part of a head is only a table.
    """
    order = card_order(spec.head_dim)
    return {
        rotary: each_part(table, lambda part: part[:, order])
        for rotary, table in rope_tables(spec, torch.arange(tokens)).items()
    }


def each_part(table: RotaryTable, make: Callable[[Any], Any]) -> RotaryTable:
    """`make` of the cosines and sines; queries share those of the keys where they did before."""
    cos, sin = make(table.cos), make(table.sin)
    if table.query_cos is table.cos:
        return RotaryTable.of(cos, sin)
    return RotaryTable(cos, sin, make(table.query_cos), make(table.query_sin))


def matrix(spec: ModelSpec, split: Split, name: str, weight: Tensor, layer: int | None = None) -> Tensor:
    """A canonical matrix [in, out] as [1, 1, in, out] of which every chip's piece is a plain block.

    Widths that are split over the heads' axis are padded with zeros to whole tiles per chip, a router's to whole tiles.
    The LM head comes whole; `columns` takes a part of it.
    """
    if name == "wqkv":
        weight = _by_chip(spec, split, weight)
    elif name != "wo":
        inputs, outputs = split.part(spec, name, layer)
        over_heads, _ = matrix_axes(name)
        if over_heads == 2:
            weight = functional.pad(weight, (0, 0, 0, inputs * split.heads - weight.shape[0]))
        else:
            weight = functional.pad(weight, (0, outputs * (split.heads if over_heads else 1) - weight.shape[1]))
    return weight[None, None].contiguous()


def columns(split: Split, weight: Tensor, first: int, count: int) -> Tensor:
    """Columns `first` to `first + count` of every chip's piece of a matrix [1, 1, in, out]."""
    pieces = weight.unflatten(-1, (split.heads, -1))[..., first : first + count]
    return pieces.flatten(-2).contiguous()


def bias(spec: ModelSpec, split: Split, name: str, values: Tensor, layer: int | None = None) -> Tensor:
    """A bias as [1, 1, 1, out], in the order of its matrix's columns and as wide."""
    if name == "bqkv":
        values = _by_chip(spec, split, values)
    else:
        of = biased_matrix(name)
        _, outputs = split.part(spec, of, layer)
        parts = split.heads if matrix_axes(of)[0] == 3 else split.hidden if matrix_axes(of)[1] == 3 else 1
        values = functional.pad(values, (0, outputs * parts - len(values)))
    return values[None, None, None].contiguous()


def norm(spec: ModelSpec, split: Split, name: str, values: Tensor) -> Tensor:
    """A norm's weight as [1, 1, n / 32, 32], the rows that ttnn's norms read; of a norm over all heads one chip's part
    after the other."""
    if name in ROTATED_NORMS:
        heads = values.unflatten(-1, (-1, spec.head_dim))[:, card_order(spec.head_dim)]
        if len(heads) > 1:
            heads = _of_chips(split, heads, spec.num_heads if name == "q_norm" else spec.num_kv_heads)
        values = heads.flatten()
    return values.reshape(1, 1, -1, TILE)


def sinks(values: Tensor, heads: int, scale: float, *, decode: bool) -> Tensor:
    """Sinks [heads of all chips] as attention takes them: [1, heads, 1, 1] in prefill; in decode [rows, 32] with one in
    the first column and as many rows as whole tiles hold a chip's `heads`.

    ttnn multiplies them by `scale` as it does scores (exp((sink - max) * scale) in tt-metal's compute_common.hpp of
    sdpa and sdpa_flash_decode.cpp of sdpa_decode), so they come divided by it.
    """
    unscaled = values / scale
    if not decode:
        return unscaled.reshape(1, -1, 1, 1)
    rows = functional.pad(unscaled.reshape(-1, heads), (0, -heads % TILE))
    return functional.pad(rows.reshape(-1, 1), (0, TILE - 1))


def table(split: Split, values: Tensor) -> Tensor:
    """The embedding table [vocab, hidden] as [1, parts of the hidden size, vocab, hidden / parts]."""
    return values.unflatten(-1, (split.hidden, -1)).permute(1, 0, 2)[None].contiguous()


def _by_chip(spec: ModelSpec, split: Split, qkv: Tensor) -> Tensor:
    """The last dimension, all q, all k, all v, as q, k and v of the first chip, of the second, …

    A KV head comes once for every chip that needs it.
    """
    heads = qkv.unflatten(-1, (-1, spec.head_dim))
    q, k, v = heads.split([spec.num_heads, spec.num_kv_heads, spec.num_kv_heads], dim=-2)
    order = card_order(spec.head_dim)
    q, k = q[..., order], k[..., order]
    at_once, own = split.q_heads(spec), split.kv_heads(spec)
    pieces: list[Tensor] = []
    for chip in range(split.heads):
        first = chip * spec.num_kv_heads // split.heads
        pieces += [q[..., chip * at_once : (chip + 1) * at_once, :]]
        pieces += [kv[..., first : first + own, :] for kv in (k, v)]
    return torch.cat(pieces, dim=-2).flatten(-2)


def _of_chips(split: Split, heads: Tensor, count: int) -> Tensor:
    """Rows, one of each of `count` heads, as the first chip has them, the second, …"""
    own = max(1, count // split.heads)
    firsts = (chip * count // split.heads for chip in range(split.heads))
    return torch.cat([heads[first : first + own] for first in firsts])
