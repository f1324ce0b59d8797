# SPDX-License-Identifier: Apache-2.0
"""Weights read once and kept, for work that goes through a model hundreds of times."""

from __future__ import annotations

from torch import Tensor

from .weights import WeightSource

# A larger model (float32) is read anew at each use.
MOST_BYTES = 8 << 30


class KeptWeights:
    """A WeightSource that returns the same tensor object each time, as long as the whole model is small enough."""

    def __init__(self, source: WeightSource) -> None:
        self.spec, self.basis = source.spec, source.basis
        self.synthetic, self.fingerprint = source.synthetic, source.fingerprint
        self.kept = source.spec.num_parameters * 4 <= MOST_BYTES
        self._source = source
        self._tensors: dict[tuple[str, int | None], Tensor] = {}

    def tensor(self, name: str, layer: int | None = None) -> Tensor:
        """As WeightSource.tensor, but not to be changed by the caller."""
        if not self.kept:
            return self._source.tensor(name, layer)
        if (name, layer) not in self._tensors:
            self._tensors[name, layer] = self._source.tensor(name, layer)
        return self._tensors[name, layer]
