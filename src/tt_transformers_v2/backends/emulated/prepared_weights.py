# SPDX-License-Identifier: Apache-2.0
"""Weights in the form a matrix unit multiplies by, made once for each format and fidelity and used in many runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from torch import Tensor

# Bytes of float32 weights kept; what was not used for longest goes first.
MOST_BYTES = 6 << 30


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
