# SPDX-License-Identifier: Apache-2.0
"""Heads of q and k in a card's order (models.head_order): what is packed in blocks of 16 and summed over a head is in
that order on a card, and so is here. Everything else is computed in the canonical order, which gives the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...models.spec import ModelSpec


class CardHeads(NamedTuple):
    """How the columns of wqkv are heads: `turning` heads of q and k, of `head_dim` elements, then those of v."""

    turning: int
    head_dim: int

    @classmethod
    def of(cls, spec: ModelSpec) -> CardHeads:
        """Those of a model."""
        return cls(spec.num_heads + spec.num_kv_heads, spec.head_dim)

    def columns(self, x: Tensor) -> Tensor:
        """x [..., columns of wqkv] in a card's order."""
        return self._of_columns(x, to_card)

    def canonical_columns(self, x: Tensor) -> Tensor:
        """The inverse of `columns`."""
        return self._of_columns(x, from_card)

    def of_norm(self, weight: Tensor) -> Tensor:
        """The weight of a norm over one head or over several, in a card's order."""
        return to_card(weight.unflatten(-1, (-1, self.head_dim))).flatten(-2)

    def _of_columns(self, x: Tensor, order: Callable[[Tensor], Tensor]) -> Tensor:
        heads = x.unflatten(-1, (-1, self.head_dim))
        turned = order(heads[..., : self.turning, :])
        return torch.cat((turned, heads[..., self.turning :, :]), dim=-2).flatten(-2)


def to_card(x: Tensor) -> Tensor:
    """x [..., head_dim] in a card's order."""
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def from_card(x: Tensor) -> Tensor:
    """The inverse of `to_card`."""
    return x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
