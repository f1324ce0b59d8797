# SPDX-License-Identifier: Apache-2.0
"""Keys and values of one layer, kept from the positions before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class KVCache:
    """What one layer has cached: k and v, each [batch, kv_heads, positions, head_dim], holding values of the cache's
    format. Room is made in doubling steps, so that a long decode copies each position a few times at most."""

    def __init__(self) -> None:
        self.length = 0
        self._k: Tensor | None = None
        self._v: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Appends the keys and values of new positions; returns those of all positions so far, not to be changed."""
        import torch

        new = self.length + k.shape[2]
        if self._k is None or self._v is None or new > self._k.shape[2]:
            shape = (*k.shape[:2], max(new, 2 * self.length), k.shape[3])
            grown = torch.empty(shape, dtype=k.dtype), torch.empty(shape, dtype=v.dtype)
            if self._k is not None and self._v is not None:
                grown[0][:, :, : self.length] = self._k[:, :, : self.length]
                grown[1][:, :, : self.length] = self._v[:, :, : self.length]
            self._k, self._v = grown
        self._k[:, :, self.length : new], self._v[:, :, self.length : new] = k, v
        self.length = new
        return self._k[:, :, :new], self._v[:, :, :new]

    def keep(self, rows: Tensor) -> None:
        """Drops every sequence of the batch but `rows` (int64), in their order."""
        if self._k is not None and self._v is not None:
            self._k, self._v = self._k[rows], self._v[rows]
