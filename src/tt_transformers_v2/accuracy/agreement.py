# SPDX-License-Identifier: Apache-2.0
"""How close two models' logits are, and how well each predicts the text: sums that are added up chunk by chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import torch
import torch.nn.functional as functional
from torch import Tensor


@dataclass
class Correlation:
    """Pearson correlation (PCC) over everything added, in float64."""

    count: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(5, dtype=torch.float64))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Two tensors of one shape."""
        x, y = x.reshape(-1).double(), y.reshape(-1).double()
        self.count += x.numel()
        self.sums += torch.stack([x.sum(), y.sum(), x @ x, y @ y, x @ y])

    def absorb(self, other: Correlation) -> None:
        """Adds what another has seen."""
        self.count += other.count
        self.sums += other.sums

    @property
    def value(self) -> float:
        """-1 to 1; 1.0 for two constant signals that are equal, NaN when only one varies."""
        x, y, xx, yy, xy = (self.sums / max(self.count, 1)).tolist()
        spread = (xx - x * x) * (yy - y * y)
        if spread <= 0:
            return 1.0 if math.isclose(x, y) and math.isclose(xx, yy) else math.nan
        return (xy - x * y) / math.sqrt(spread)


def pcc(x: Tensor, y: Tensor) -> float:
    """Pearson correlation of two tensors of one shape."""
    correlation = Correlation()
    correlation.add(x, y)
    return correlation.value


@dataclass
class Series:
    """What each position added: its place in its window, KL, whether the likeliest token is the reference's or among
    its five (1 or 0), and how much more the next token surprised the candidate, in nats (NaN without a next token)."""

    place: Tensor
    kl: Tensor
    same: Tensor
    among: Tensor
    excess: Tensor

    def at(self, chosen: Tensor) -> Series:
        """The positions that a mask chooses."""
        return Series(*(getattr(self, f.name)[chosen] for f in fields(self)))


# Positions that stand together are drawn together where a spread is estimated: neighbours are alike.
BLOCK = 32
_DRAWS = 2000
# Logits that are compared at a time: what is made of them stays in a processor's cache.
_AT_ONCE = 1 << 18


def confidence_interval(values: Tensor) -> tuple[float, float]:
    """95 % for the mean of `values` [positions] without its NaNs, by drawing blocks of neighbours with replacement.

    The same values always give the same interval. With fewer than two blocks there is none: NaN.
    """
    known = ~values.isnan()
    sums = torch.stack([block.sum() for block in values.nan_to_num().split(BLOCK)])
    counts = torch.stack([block.sum() for block in known.double().split(BLOCK)])
    if len(sums) < 2:
        return math.nan, math.nan
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(sums), (_DRAWS, len(sums)), generator=generator)
    means = sums[drawn].sum(-1) / counts[drawn].sum(-1)
    low, high = torch.quantile(means.nan_to_num(), torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return low, high


@dataclass
class Agreement:
    """Teacher-forced agreement of a candidate's logits with a reference's, and both against the text.

    `positions` counts all positions, `predicted` those that have a next token in their window.
    """

    positions: int = 0
    top1: int = 0
    top5: int = 0
    kl: float = 0.0
    predicted: int = 0
    nll: float = 0.0
    reference_nll: float = 0.0
    next_top1: int = 0
    next_top5: int = 0
    reference_next_top1: int = 0
    reference_next_top5: int = 0
    correlation: Correlation = field(default_factory=Correlation)
    series: list[Series] = field(default_factory=list)

    def add(self, candidate: Tensor, reference: Tensor, targets: Tensor, first: int = 0) -> None:
        """Logits [positions, vocab] of both, and `targets` int64 [positions]: the next token, or -1.

        `first` is the place of the first position in its window.
        """
        rows = max(1, _AT_ONCE // candidate.shape[-1])
        for start in range(0, len(targets), rows):
            piece = slice(start, start + rows)
            self._add(candidate[piece], reference[piece], targets[piece], first + start)

    def _add(self, candidate: Tensor, reference: Tensor, targets: Tensor, first: int) -> None:
        best = candidate.argmax(-1, keepdim=True)
        top = reference.topk(min(5, reference.shape[-1]), dim=-1).indices
        self.positions += len(best)
        self.top1 += int((best == top[:, :1]).sum())
        self.top5 += int((best == top).any(-1).sum())
        log_p = functional.log_softmax(reference.float(), -1)
        log_q = functional.log_softmax(candidate.float(), -1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).double()
        self.kl += float(kl.sum())
        self.correlation.add(candidate, reference)

        known = targets >= 0
        wanted = targets[known, None]
        excess = torch.full_like(kl, math.nan)
        excess[known] = (log_p[known].gather(-1, wanted) - log_q[known].gather(-1, wanted)).flatten().double()
        same, among = (best == top[:, :1]).flatten(), (best == top).any(-1)
        self.series.append(Series(torch.arange(first, first + len(best)), kl, same.double(), among.double(), excess))
        self.predicted += len(wanted)
        self.nll -= float(log_q[known].gather(-1, wanted).sum(dtype=torch.float64))
        self.reference_nll -= float(log_p[known].gather(-1, wanted).sum(dtype=torch.float64))
        candidate_top = candidate[known].topk(min(5, candidate.shape[-1]), dim=-1).indices
        self.next_top1 += int((best[known] == wanted).sum())
        self.next_top5 += int((candidate_top == wanted).any(-1).sum())
        self.reference_next_top1 += int((top[known, :1] == wanted).sum())
        self.reference_next_top5 += int((top[known] == wanted).any(-1).sum())

    def absorb(self, other: Agreement) -> None:
        """Adds what another has found."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.correlation.absorb(other.correlation)
        self.series += other.series

    def by_place(self) -> Series:
        """Every position added, in order."""
        return Series(*(torch.cat([getattr(own, f.name) for own in self.series]) for f in fields(Series)))

    def metrics(self) -> dict[str, float]:
        """Shares (0 to 1), KL in nats per position, perplexities; the reference's own figures with `reference_`."""
        predicted = max(self.predicted, 1)
        return {
            "top1": self.top1 / self.positions,
            "top5": self.top5 / self.positions,
            "kl_divergence": max(self.kl / self.positions, 0.0),
            "pcc": self.correlation.value,
            "perplexity": _exp(self.nll / predicted),
            "reference_perplexity": _exp(self.reference_nll / predicted),
            "next_token_top1": self.next_top1 / predicted,
            "next_token_top5": self.next_top5 / predicted,
            "reference_next_token_top1": self.reference_next_top1 / predicted,
            "reference_next_token_top5": self.reference_next_top5 / predicted,
        }


_COUNTS = tuple(f.name for f in fields(Agreement) if f.name not in ("correlation", "series"))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
