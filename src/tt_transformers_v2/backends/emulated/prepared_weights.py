# SPDX-License-Identifier: Apache-2.0
"""Weights made ready once: in the form a matrix unit multiplies by, kept in memory, and in the formats that a device
stores, kept by whoever brings a place for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from torch import Tensor

# Bytes of float32 weights kept; what was not used for longest goes first.
MOST_BYTES = 6 << 30


# The formats whose values are bf16 numbers, two bytes each.
KEPT_FORMATS = ("bf16", "bfp8", "bfp4")


class PackedMatrices(Protocol):
    """Where matrices of the weights with `fingerprint` are kept after they were rounded to a format of `KEPT_FORMATS`.

    Names have the layer, the canonical name, the format, and whether columns are in the card's order of heads.
    """

    fingerprint: str

    def get(self, name: str) -> Tensor | None:
        """The bfloat16 matrix [in, out] added as `name`, not to be changed."""
        ...

    def add(self, name: str, matrix: Tensor) -> None:
        """Keeps a matrix of bf16 numbers."""
        ...


class PreparedWeights:
    """A bounded store. A weight is known by the tensor object it is made from, so keep those that should be found."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[int, Hashable], tuple[Tensor, Any]] = OrderedDict()

    def get(self, weight: Tensor, how: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives for `weight` in the form `how`, made only when it is not kept."""
        key = (id(weight), how)
        found = self._kept.get(key)
        if found is not None:  # the tensor is kept beside its form, so that no other can have its id
            self._kept.move_to_end(key)
            return found[1]
        made = make()
        self._kept[key] = (weight, made)
        self._bytes += weight.nbytes
        while self._bytes > self._most and len(self._kept) > 1:
            _, (dropped, _) = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return made
