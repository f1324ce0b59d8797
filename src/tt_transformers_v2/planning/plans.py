# SPDX-License-Identifier: Apache-2.0
"""How an op is laid over the cores of a chip: program configurations as plain values, without ttnn.

A plan is what a user would write into ttnn's program config; `smaller` gives the next one to try when L1 overflows.
Sizes are in tiles of 32 unless a name says otherwise. The shapes follow tt_transformers: decode matmuls read weights
sharded over the DRAM banks while activations are sharded over a grid of cores that divides both widths; prefill
matmuls are two-dimensional multicasts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..common.errors import ConfigError
from ..common.units import TILE
from .attention_chunks import decode_chunk
from .dst import dst_tiles

_AnyMulticast = TypeVar("_AnyMulticast", bound="_Multicast")

LARGEST_BLOCK = 8  # tt_transformers' find_largest_divisor stops at 8


@dataclass(frozen=True)
class DramShardedPlan:
    """A decode matmul: activations width-sharded over `cores`, weights over the DRAM banks."""

    cores: int
    in0_block_w: int
    per_core_m: int
    per_core_n: int
    readers_per_bank: int = 1

    def smaller(self) -> DramShardedPlan | None:
        """The same with the next smaller block of the inner dimension, or None."""
        block = _next_divisor(self.in0_block_w)
        return None if block is None else dataclasses.replace(self, in0_block_w=block)


@dataclass(frozen=True)
class _Multicast:
    """What both kinds of multicast matmuls have: `columns` x `rows` cores with per_core_m x per_core_n tiles of the
    output each."""

    columns: int
    rows: int
    in0_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    per_core_m: int
    per_core_n: int

    def smaller(self: _AnyMulticast) -> _AnyMulticast | None:
        """The next smaller plan: first a shorter block of the inner dimension, then a smaller subblock, or None."""
        block = _next_divisor(self.in0_block_w)
        if block is not None:
            return dataclasses.replace(self, in0_block_w=block)
        if self.out_subblock_h > 1:
            return dataclasses.replace(self, out_subblock_h=_next_divisor(self.out_subblock_h) or 1)
        if self.out_subblock_w > 1:
            return dataclasses.replace(self, out_subblock_w=_next_divisor(self.out_subblock_w) or 1)
        return None


@dataclass(frozen=True)
class MulticastPlan(_Multicast):
    """A prefill matmul: rows and columns of the output are shared out over both axes of the cores."""

    fuse_batch: bool


@dataclass(frozen=True)
class Multicast1DPlan(_Multicast):
    """A matmul whose cores each compute all rows and a part of the width: of one tile of rows by weights that are not
    sharded."""


@dataclass(frozen=True)
class SdpaPlan:
    """Attention on `columns` x `rows` cores, in chunks of queries and keys (tokens; 0 lets ttnn choose).

    exp_approx_mode: the vector unit's approximate exponential in softmax. ttnn takes it where a program config leaves
    it out, and so it is the default here until cards have been measured; in decode Tenstorrent's simulator showed no
    difference. max_cores_per_head_batch: the most cores that share a user's KV head in decode; ttnn's default.
    """

    columns: int
    rows: int
    q_chunk_size: int
    k_chunk_size: int
    exp_approx_mode: bool = True
    max_cores_per_head_batch: int = 16

    def smaller(self) -> SdpaPlan | None:
        """The same with half the chunks, in whole tiles, or None below one tile."""
        largest = max(self.q_chunk_size, self.k_chunk_size)
        if largest <= TILE:
            return None
        half = [max(TILE, size // 2 // TILE * TILE) if size else 0 for size in (self.q_chunk_size, self.k_chunk_size)]
        return dataclasses.replace(self, q_chunk_size=half[0], k_chunk_size=half[1])


MatmulPlan = DramShardedPlan | MulticastPlan | Multicast1DPlan
Plan = MatmulPlan | SdpaPlan
_KINDS: dict[str, type[Plan]] = {
    kind.__name__: kind for kind in (DramShardedPlan, MulticastPlan, Multicast1DPlan, SdpaPlan)
}


def to_fields(plan: Plan) -> dict[str, Any]:
    """A plan as JSON types: its `kind` and its fields."""
    return {"kind": type(plan).__name__, **dataclasses.asdict(plan)}


def from_fields(fields: Mapping[str, Any]) -> Plan:
    """The plan that `to_fields` wrote. Raises KeyError, TypeError for anything else."""
    return _KINDS[fields["kind"]](**{name: value for name, value in fields.items() if name != "kind"})


def smaller_plans(plan: Plan) -> Iterator[Plan]:
    """`plan` and every smaller one, in the order in which they are tried."""
    current: Plan | None = plan
    while current is not None:
        yield current
        current = current.smaller()


def decode_matmul(
    inputs: int, outputs: int, *, rows: int, grid: tuple[int, int], readers_per_bank: int = 1, cores: int | None = None
) -> DramShardedPlan:
    """The plan of a decode matmul [rows, inputs] x [inputs, outputs], sizes in elements, on a grid of columns x rows.

    The cores divide the tiles of the inner width (tt_transformers' dram_shard_core_grid_for_k), unless `cores` says
    how many there are. Raises ConfigError for widths that are no whole tiles.
    """
    deep, wide = _tiles(inputs, "inputs"), _tiles(outputs, "outputs")
    cores = cores or storage_cores(deep, grid)
    return DramShardedPlan(
        cores=cores,
        in0_block_w=largest_divisor(max(1, deep // cores)),
        per_core_m=math.ceil(rows / TILE),
        per_core_n=math.ceil(wide / cores),
        readers_per_bank=readers_per_bank,
    )


def prefill_matmul(
    inputs: int, outputs: int, *, rows: int, grid: tuple[int, int], fp32_dest_acc_en: bool
) -> MulticastPlan:
    """The plan of a prefill matmul [rows, inputs] x [inputs, outputs], sizes in elements, on columns x rows cores.

    Subblocks fill Dst: 8 tiles, 4 with fp32_dest_acc_en. Raises ConfigError for widths that are no whole tiles.
    """
    deep, wide, tall = _tiles(inputs, "inputs"), _tiles(outputs, "outputs"), math.ceil(rows / TILE)
    return _multicast(wide, tall, largest_divisor(deep, 4), grid, fp32_dest_acc_en, fuse_batch=rows <= 2048)


def interleaved_matmul(
    inputs: int, outputs: int, *, rows: int, grid: tuple[int, int], fp32_dest_acc_en: bool
) -> MulticastPlan | Multicast1DPlan:
    """The plan of a decode matmul whose weights are not sharded (memory.use_width_sharding=false, or weights in L1).

    One tile of rows is sent to all cores, K two tiles at a time where it has an even number of them; more rows take a
    two-dimensional multicast with the K tiles that a column of cores holds, one where columns do not divide them. Both
    are ttnn 0.81.1's own choice without a program config, known from the L1 that it asks for on described systems
    (tests/backends/ttnn) and from arrays computed on Tenstorrent's simulator in November 2026, not on a card. For small
    outputs of operands in L1 ttnn takes a program without multicasts, which is left out here. Raises ConfigError for
    widths that are no whole tiles.
    """
    deep, wide, tall = _tiles(inputs, "inputs"), _tiles(outputs, "outputs"), math.ceil(rows / TILE)
    if tall > 1:
        block = deep // grid[0] if deep % grid[0] == 0 else 1
        return _multicast(wide, tall, block, grid, fp32_dest_acc_en, fuse_batch=True)
    per_core_n = math.ceil(wide / (grid[0] * grid[1]))
    height, width = _subblock(tall, per_core_n, dst_tiles(fp32_dest_acc_en))
    return Multicast1DPlan(grid[0], grid[1], largest_divisor(deep, 2), height, width, tall, per_core_n)


def prefill_grid(rows: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Columns x rows of the cores that a prefill matmul of `rows` tokens keeps busy."""
    return grid[0], min(grid[1], math.ceil(rows / TILE))


def reader_cores(banks: int, readers_per_bank: int, grid: tuple[int, int]) -> int:
    """Cores that read the weights of a decode matmul from `banks` DRAM banks."""
    return max(1, min(banks * readers_per_bank, grid[0] * grid[1]))


def rows_at_once(rows: int, limit: int) -> int:
    """Rows that a prefill matmul takes at a time: all, or the largest part of whole tiles within `limit`."""
    return rows if rows <= limit else TILE * largest_divisor(rows // TILE, max(1, limit // TILE))


def prefill_attention(tokens: int, grid: tuple[int, int]) -> SdpaPlan:
    """tt_transformers' chunks: 256 tokens from 2048 tokens on, else 64."""
    chunk = 256 if tokens >= 2048 else 64
    return SdpaPlan(grid[0], grid[1], chunk, chunk)


def decode_attention(grid: tuple[int, int], window: int | None = None, tokens: int | None = None) -> SdpaPlan:
    """One tile of queries, and as many keys at once as `decode_chunk` says for a sliding `window` and a cache of
    `tokens` per user."""
    return SdpaPlan(grid[0], grid[1], TILE, decode_chunk(window, tokens))


def storage_cores(tiles: int, grid: tuple[int, int]) -> int:
    """The most cores, in a rectangle within `grid` columns x rows and at most 32, that divide a number of tiles."""
    columns, rows = grid
    return next(
        cores for cores in range(min(32, columns * rows), 0, -1) if tiles % cores == 0 and rectangle(cores, grid)
    )


def core_rectangle(cores: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Columns x rows of a rectangle of `cores` within `grid`, as wide as possible. Raises ConfigError if none fits."""
    found = rectangle(cores, grid)
    if found is None:
        raise ConfigError(f"{cores} cores do not form a rectangle within {grid[0]} x {grid[1]}.")
    return found


def largest_divisor(number: int, limit: int = LARGEST_BLOCK) -> int:
    """The largest divisor of `number` of at most `limit`."""
    return max(d for d in range(1, limit + 1) if number % d == 0)


def rectangle(cores: int, grid: tuple[int, int]) -> tuple[int, int] | None:
    """As `core_rectangle`, or None."""
    columns, rows = grid
    return next(
        (
            (wide, cores // wide)
            for wide in range(min(columns, cores), 0, -1)
            if cores % wide == 0 and cores // wide <= rows
        ),
        None,
    )


def _subblock(height: int, width: int, most: int) -> tuple[int, int]:
    """The largest subblock of a block of height x width tiles that Dst can hold; ties go to the wider one."""
    choices = [
        (h, w) for h in range(1, most + 1) for w in range(1, most // h + 1) if height % h == 0 and width % w == 0
    ]
    return max(choices, key=lambda pair: (pair[0] * pair[1], pair[1]))


def _multicast(
    wide: int, tall: int, block: int, grid: tuple[int, int], fp32_dest_acc_en: bool, *, fuse_batch: bool
) -> MulticastPlan:
    """The two-dimensional multicast of an output of tall x wide tiles."""
    columns, grid_rows = prefill_grid(tall * TILE, grid)
    per_core_m, per_core_n = math.ceil(tall / grid_rows), math.ceil(wide / columns)
    height, width = _subblock(per_core_m, per_core_n, dst_tiles(fp32_dest_acc_en))
    return MulticastPlan(columns, grid_rows, block, height, width, per_core_m, per_core_n, fuse_batch)


def _next_divisor(number: int) -> int | None:
    """The next smaller divisor of `number`, or None at 1."""
    return None if number == 1 else max(d for d in range(1, number) if number % d == 0)


def _tiles(width: int, what: str) -> int:
    if width < TILE or width % TILE:
        raise ConfigError(f"{what} of a matmul must be whole tiles of {TILE}, not {width} elements.")
    return width // TILE
