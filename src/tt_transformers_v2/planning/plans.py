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
from collections.abc import Iterator
from dataclasses import dataclass

from ..common.errors import ConfigError
from ..common.units import TILE
from .attention_chunks import decode_chunk
from .dst import dst_tiles

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
class MulticastPlan:
    """A prefill matmul on `columns` x `rows` cores: each computes per_core_m x per_core_n tiles of the output."""

    columns: int
    rows: int
    in0_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    per_core_m: int
    per_core_n: int
    fuse_batch: bool

    def smaller(self) -> MulticastPlan | None:
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
        """The same with half the chunks, or None below one tile."""
        largest = max(self.q_chunk_size, self.k_chunk_size)
        if largest <= TILE:
            return None
        half = [max(TILE, size // 2) if size else 0 for size in (self.q_chunk_size, self.k_chunk_size)]
        return dataclasses.replace(self, q_chunk_size=half[0], k_chunk_size=half[1])


Plan = DramShardedPlan | MulticastPlan | SdpaPlan


def smaller_plans(plan: Plan) -> Iterator[Plan]:
    """`plan` and every smaller one, in the order in which they are tried."""
    current: Plan | None = plan
    while current is not None:
        yield current
        current = current.smaller()


def decode_matmul(
    inputs: int, outputs: int, *, rows: int, grid: tuple[int, int], readers_per_bank: int = 1
) -> DramShardedPlan:
    """The plan of a decode matmul [rows, inputs] x [inputs, outputs], sizes in elements, on a grid of columns x rows.

    The cores divide the tiles of the inner width (tt_transformers' dram_shard_core_grid_for_k). Raises ConfigError for
    widths that are no whole tiles.
    """
    deep, wide = _tiles(inputs, "inputs"), _tiles(outputs, "outputs")
    cores = storage_cores(deep, grid)
    return DramShardedPlan(
        cores=cores,
        in0_block_w=largest_divisor(deep // cores),
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
    columns, grid_rows = grid[0], min(grid[1], tall)
    per_core_m, per_core_n = math.ceil(tall / grid_rows), math.ceil(wide / columns)
    height, width = _subblock(per_core_m, per_core_n, dst_tiles(fp32_dest_acc_en))
    return MulticastPlan(
        columns=columns,
        rows=grid_rows,
        in0_block_w=largest_divisor(deep, 4),
        out_subblock_h=height,
        out_subblock_w=width,
        per_core_m=per_core_m,
        per_core_n=per_core_n,
        fuse_batch=rows <= 2048,
    )


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


def _next_divisor(number: int) -> int | None:
    """The next smaller divisor of `number`, or None at 1."""
    return None if number == 1 else max(d for d in range(1, number) if number % d == 0)


def _tiles(width: int, what: str) -> int:
    if width < TILE or width % TILE:
        raise ConfigError(f"{what} of a matmul must be whole tiles of {TILE}, not {width} elements.")
    return width // TILE
