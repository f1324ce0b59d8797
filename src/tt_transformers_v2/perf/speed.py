# SPDX-License-Identifier: Apache-2.0
"""A prediction of speed: times of ops, their shares, and what bounds the whole. perf.roofline makes it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from .ops import Op
from .timing import KINDS, OpTime


@dataclass(frozen=True, slots=True)
class OpLine:
    """A row of the per-op table: an op's time, how often it runs, and its share of the whole (0 to 1)."""

    time: OpTime
    count: int
    share: float

    @property
    def op(self) -> Op:
        """What it does: kind, shape, formats and fidelity."""
        return self.time.op

    @property
    def us(self) -> float:
        """Per execution."""
        return self.time.us

    @property
    def total_us(self) -> float:
        """Of all executions."""
        return self.time.us * self.count

    @property
    def parts(self) -> dict[str, float]:
        """Microseconds of one execution by kind: weights, math, overhead and so on."""
        return self.time.parts

    @property
    def bound(self) -> str:
        """What limits it: DRAM, FLOP, SLOW or HOST."""
        return self.time.bound

    @property
    def dram_share(self) -> float:
        """Of the chip's nominal bandwidth."""
        return self.time.dram_share

    @property
    def flop_share(self) -> float:
        """Of the nominal rate of the cores used."""
        return self.time.flop_share


Counted = tuple[OpTime, int]


@dataclass(frozen=True, init=False)
class Performance:
    """A prediction of speed.

    decode_us: a decode step. ttft_ms: one user's prompt, sampling of its first token included. tokens_per_s: over
        all users of all groups. ops, shares, bound: of a decode step; prefill_ops and so on: of a prompt.
    notes: what the form does not cover in this configuration.
    """

    decode_us: float
    ttft_ms: float
    users: int
    basis: str
    decode_times: tuple[Counted, ...]
    prefill_times: tuple[Counted, ...]
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        decode_us: float,
        ttft_ms: float,
        users: int,
        basis: str,
        decode_times: tuple[Counted, ...],
        prefill_times: tuple[Counted, ...],
        notes: tuple[str, ...] = (),
    ) -> None:
        # Every prediction makes one; dataclass would set the fields of a frozen one by one, at three times the time.
        vars(self).update(
            decode_us=decode_us,
            ttft_ms=ttft_ms,
            users=users,
            basis=basis,
            decode_times=decode_times,
            prefill_times=prefill_times,
            notes=notes,
        )

    @property
    def decode_ms(self) -> float:
        """Milliseconds per decode step."""
        return self.decode_us / 1e3

    @property
    def decode_tokens_per_s_per_user(self) -> float:
        """Decode speed as one user sees it."""
        return 1e6 / self.decode_us

    @property
    def tokens_per_s(self) -> float:
        """Decode speed over all users of all groups."""
        return self.users * 1e6 / self.decode_us

    @functools.cached_property
    def ops(self) -> tuple[OpLine, ...]:
        """The ops of a decode step, in order."""
        return _lines(self.decode_times)

    @functools.cached_property
    def prefill_ops(self) -> tuple[OpLine, ...]:
        """The ops of a prompt, in order."""
        return _lines(self.prefill_times)

    @property
    def shares(self) -> dict[str, float]:
        """Of a decode step's time by kind; they sum to 1. Matmuls on weights that are bound by math count as math."""
        return _shares(self.ops)

    @property
    def prefill_shares(self) -> dict[str, float]:
        """Of a prompt's time by kind; they sum to 1."""
        return _shares(self.prefill_ops)

    @property
    def bound(self) -> str:
        """The bound of the decode ops with the largest share of the time."""
        return _largest(self.bound_shares)

    @property
    def bound_shares(self) -> dict[str, float]:
        """Of a decode step's time by the bound of the op; they sum to 1."""
        return _bound_shares(self.ops)

    @property
    def prefill_bound(self) -> str:
        """The same of a prompt."""
        return _largest(self.prefill_bound_shares)

    @property
    def prefill_bound_shares(self) -> dict[str, float]:
        """As bound_shares, of a prompt."""
        return _bound_shares(self.prefill_ops)


def _lines(times: Sequence[Counted]) -> tuple[OpLine, ...]:
    whole = sum(time.us * count for time, count in times)
    return tuple(OpLine(time, count, time.us * count / whole) for time, count in times)


def _shares(lines: tuple[OpLine, ...]) -> dict[str, float]:
    """Share of the time by kind; sums to 1."""
    shares = dict.fromkeys(KINDS, 0.0)
    whole = sum(line.total_us for line in lines)
    for line in lines:
        for kind, us in line.parts.items():
            if kind == "weights" and line.bound == "FLOP":  # a decode matmul whose readers' math takes the time
                kind = "flops"
            shares[kind] += us * line.count / whole
    return shares


def _bound_shares(lines: tuple[OpLine, ...]) -> dict[str, float]:
    by_bound: dict[str, float] = {}
    for line in lines:
        by_bound[line.bound] = by_bound.get(line.bound, 0.0) + line.share
    return by_bound


def _largest(shares: dict[str, float]) -> str:
    return max(shares, key=lambda bound: shares[bound])
