# SPDX-License-Identifier: Apache-2.0
"""What the jobs of a sweep share, so that it pays for it once: weights read, weights packed, the reference's states.

Everything is known by content (fingerprints, token ids), and bounded; figures are the same with and without it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..backends.emulated.prepared_weights import PreparedWeights
from ..models.kept_weights import KeptWeights
from ..models.weights import WeightSource
from .reference_store import ReferenceStore

MOST_PREPARED_BYTES = 4 << 30
MOST_REFERENCE_BYTES = 1 << 30


class References:
    """The reference's module outputs by text and layer, as long as there is room; and in `disk`, where one is given."""

    def __init__(self, most_bytes: int = MOST_REFERENCE_BYTES, disk: ReferenceStore | None = None) -> None:
        self._most = most_bytes
        self._disk = disk
        self._bytes = 0
        self._kept: OrderedDict[tuple[bytes, int], dict[str, list[Tensor]]] = OrderedDict()

    def get(self, text: bytes, layer: int) -> dict[str, list[Tensor]] | None:
        """Module -> outputs by stream, or None. Not to be changed."""
        found = self._kept.get((text, layer))
        if found is None and self._disk is not None:
            found = self._disk.get(text, layer)
            if found is not None:
                self._keep(text, layer, found)
        return found

    def add(self, text: bytes, layer: int, outputs: dict[str, list[Tensor]]) -> None:
        """Keeps what fits; the texts used longest ago make room."""
        self._keep(text, layer, outputs)
        if self._disk is not None:
            self._disk.add(text, layer, outputs)

    def _keep(self, text: bytes, layer: int, outputs: dict[str, list[Tensor]]) -> None:
        size = sum(tensor.nbytes for tensors in outputs.values() for tensor in tensors)
        while self._kept and self._bytes + size > self._most and next(iter(self._kept))[0] != text:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= sum(tensor.nbytes for tensors in dropped.values() for tensor in tensors)
        if self._bytes + size <= self._most:
            self._kept[text, layer] = outputs
            self._bytes += size


@dataclass
class Shared:
    """One model's: its weights, their packed forms and the reference's states.

    `prepared` is None for a model too large to keep, whose weights are read anew for every job.
    """

    source: KeptWeights
    prepared: PreparedWeights | None
    references: References


class SharedStates:
    """What the jobs of one process leave for the next one with the same weights."""

    def __init__(self) -> None:
        self._last: Shared | None = None

    def of(self, source: WeightSource, disk: Callable[[], ReferenceStore | None]) -> Shared | None:
        """What earlier jobs left for the same weights; `disk` opens what earlier processes left.

        None for synthetic weights, which are walked as far as time allows: a faster walk would have other figures.
        """
        if source.synthetic:
            return None
        last = self._last
        if last is None or (last.source.fingerprint, last.source.spec) != (source.fingerprint, source.spec):
            kept = KeptWeights(source)
            prepared = PreparedWeights(MOST_PREPARED_BYTES) if kept.kept else None
            last = self._last = Shared(kept, prepared, References(disk=disk()))
        return last
