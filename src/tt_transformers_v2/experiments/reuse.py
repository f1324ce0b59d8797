# SPDX-License-Identifier: Apache-2.0
"""What the jobs of a sweep share, so that it pays for it once: weights read, weights packed, the reference's states.

Everything is known by content (fingerprints, token ids), and bounded; figures are the same with and without it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor

from ..backends.prepared import PreparedWeights
from ..models.kept import KeptWeights
from ..models.weights import WeightSource

MOST_PREPARED_BYTES = 4 << 30
MOST_REFERENCE_BYTES = 1 << 30


class References:
    """The reference's module outputs by text and layer, as long as there is room."""

    def __init__(self, most_bytes: int = MOST_REFERENCE_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[bytes, int], dict[str, list[Tensor]]] = OrderedDict()

    def get(self, text: bytes, layer: int) -> dict[str, list[Tensor]] | None:
        """Module -> outputs by stream, or None. Not to be changed."""
        return self._kept.get((text, layer))

    def add(self, text: bytes, layer: int, outputs: dict[str, list[Tensor]]) -> None:
        """Keeps what fits; the texts used longest ago make room."""
        size = sum(tensor.nbytes for tensors in outputs.values() for tensor in tensors)
        while self._kept and self._bytes + size > self._most and next(iter(self._kept))[0] != text:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= sum(tensor.nbytes for tensors in dropped.values() for tensor in tensors)
        if self._bytes + size <= self._most:
            self._kept[text, layer] = outputs
            self._bytes += size


@dataclass
class Shared:
    """One model's: its weights, their packed forms and the reference's states."""

    source: KeptWeights
    prepared: PreparedWeights = field(default_factory=lambda: PreparedWeights(MOST_PREPARED_BYTES))
    references: References = field(default_factory=References)


_last: list[Shared] = []


def shared(source: WeightSource) -> Shared | None:
    """What earlier jobs of this process left for the same weights; None for models too large to keep, and for
    synthetic ones, which are walked layer by layer."""
    if source.synthetic:
        return None
    if not _last or (_last[0].source.fingerprint, _last[0].source.spec) != (source.fingerprint, source.spec):
        _last[:] = [Shared(KeptWeights(source))]
    return _last[0] if _last[0].source.kept else None
