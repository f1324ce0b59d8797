# SPDX-License-Identifier: Apache-2.0
"""What every variant is compared with: the float32 reference's logits on a fixed text, made once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..accuracy.agreement import confidence_interval
from ..backends.reference import ReferenceOps
from ..models.decoder import final_hidden, head_matrix, logits_of, through_layers
from ..models.rope import rope_tables
from ..models.weights import WeightSource

# Positions whose logits are computed together, and those looked at together, which should stay in the cache meanwhile.
_COMPUTED, _AT_ONCE = 512, 32


@dataclass(frozen=True)
class Divergence:
    """How far logits are from the reference's: KL in nats per position with its 95 % confidence interval (None on a
    text too short for one), the share of positions with the same most likely token, PCC over all logits."""

    kl: float
    top1: float
    pcc: float
    kl_low: float | None = None
    kl_high: float | None = None


class Target:
    """The reference's logits for `windows` int64 [W, T], as float32 [W * T, vocab] and what KL needs of them."""

    def __init__(self, source: WeightSource, windows: Tensor) -> None:
        self.windows = windows
        ops, spec = ReferenceOps(), source.spec
        tables = rope_tables(spec, torch.arange(windows.shape[1]))
        x = through_layers(ops, source, ops.embed(windows, source.tensor("embedding")), tables)
        hidden = final_hidden(ops, spec, source, x).flatten(0, 1)
        self.logits = logits_of(ops, spec, head_matrix(ops, source), hidden)
        self.best = self.logits.argmax(-1)
        self._normaliser = torch.logsumexp(self.logits, -1)
        self._sum = float(self.logits.sum(dtype=torch.float64))
        self._squares = _dot(self.logits, self.logits)

    def divergence(self, logits_of: Callable[[slice], Tensor]) -> Divergence:
        """Compares the rows that `logits_of` gives for slices of positions."""
        positions, vocab = self.logits.shape
        kl = torch.empty(positions, dtype=torch.float64)
        same, total, squares, products = 0, 0.0, 0.0, 0.0
        for rows, found in _pieces(logits_of, positions):
            wanted = self.logits[rows]
            log_p = wanted - self._normaliser[rows, None]
            difference = log_p - found
            shares = log_p.exp_()
            # KL(p || q) = sum p (log p - z_q) + log sum exp z_q, for z_q the candidate's logits.
            kl[rows] = ((shares * difference).sum(-1) + torch.logsumexp(found, -1)).double()
            same += int((found.argmax(-1) == self.best[rows]).sum())
            total += float(found.sum(dtype=torch.float64))
            squares += _dot(found, found)
            products += _dot(found, wanted)
        count = positions * vocab
        covariance = products - total * self._sum / count
        spread = (squares - total * total / count) * (self._squares - self._sum * self._sum / count)
        pcc = covariance / spread**0.5 if spread > 0 else 1.0
        low, high = (None if math.isnan(bound) else max(bound, 0.0) for bound in confidence_interval(kl))
        return Divergence(max(float(kl.mean()), 0.0), same / positions, pcc, low, high)


def _pieces(logits_of: Callable[[slice], Tensor], positions: int) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, positions, _COMPUTED):
        together = logits_of(slice(start, min(start + _COMPUTED, positions)))
        for offset, piece in enumerate(together.split(_AT_ONCE)):
            first = start + offset * _AT_ONCE
            yield slice(first, first + len(piece)), piece


def _dot(x: Tensor, y: Tensor) -> float:
    """The sum of products, row by row in float32 and over rows in float64."""
    return float((x * y).sum(-1).sum(dtype=torch.float64))
