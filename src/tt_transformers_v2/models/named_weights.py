# SPDX-License-Identifier: Apache-2.0
"""A layer's tensors that can be told apart by whoever multiplies by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .decoder import LayerWeights
from .weights import WeightSource

if TYPE_CHECKING:
    from torch import Tensor


class NamedWeights(LayerWeights):
    """LayerWeights that write down, in `names`, the canonical name of every tensor object they give out."""

    def __init__(self, source: WeightSource, layer: int, names: dict[int, str], *, keep: bool = False) -> None:
        super().__init__(source, layer, keep=keep)
        self._names = names

    def __getitem__(self, name: str) -> Tensor:
        tensor = super().__getitem__(name)
        self._names[id(tensor)] = name
        return tensor
