# SPDX-License-Identifier: Apache-2.0
"""How long chips take to sum or gather activations, from Tenstorrent's published collective measurements."""

from __future__ import annotations

from .calibration import ArchCalibration

ONE_SHOT_BYTES = 1 << 20  # below this, Wormhole's ring reduce-scatter is a one-shot algorithm (CCL summary_wormhole_b0)


def all_reduce_us(payload: float, chips: int, ring: bool, c: ArchCalibration) -> float:
    """Time of an all-reduce of `payload` bytes per chip over `chips` chips.

    An architecture calibrated as all-reduce moves 2(N-1)/N of the payload in one op; elsewhere it is composed of a
    reduce-scatter, which moves (N-1)/N of the payload, and an all-gather of shards of payload/N, which moves N-1 of
    them.
    """
    direct = c.all_reduce_ring if ring else c.all_reduce_line
    if direct is not None:
        return direct.time_us(_hops(chips, ring), 2 * payload * (chips - 1) / chips)
    scatter = reduce_scatter_us(payload, chips, ring, c)
    gather = _composed_gather_us(payload, chips, ring, c)
    assert scatter is not None, "ArchCalibration guarantees one of the two"
    assert gather is not None, "ArchCalibration guarantees one of the two"
    return scatter + gather


def all_gather_us(payload: float, chips: int, ring: bool, c: ArchCalibration) -> float:
    """Time of gathering shards of payload/N; where only all-reduces were measured, half of one."""
    gather = _composed_gather_us(payload, chips, ring, c)
    return gather if gather is not None else all_reduce_us(payload, chips, ring, c) / 2


def _hops(chips: int, ring: bool) -> float:
    return chips / 2 if ring else chips - 1


def reduce_scatter_us(payload: float, chips: int, ring: bool, c: ArchCalibration) -> float | None:
    """Time of summing `payload` bytes of every chip into shards of payload/N; None where it was not measured."""
    moved = payload * (chips - 1) / chips
    if chips == 2 and c.reduce_scatter_pair:
        return c.reduce_scatter_pair.time_us(1, moved)
    scatter = c.reduce_scatter_ring if ring else c.reduce_scatter_line
    if ring and payload < ONE_SHOT_BYTES and c.reduce_scatter_ring_small:
        scatter = c.reduce_scatter_ring_small
    return scatter.time_us(_hops(chips, ring), moved) if scatter else None


def _composed_gather_us(payload: float, chips: int, ring: bool, c: ArchCalibration) -> float | None:
    moved = payload * (chips - 1) / chips
    if chips == 2 and c.all_gather_pair:
        return c.all_gather_pair.time_us(1, moved)
    gather = c.all_gather_ring if ring else c.all_gather_line
    return gather.time_us(_hops(chips, ring), moved) if gather else None
