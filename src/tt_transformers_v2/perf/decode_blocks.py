# SPDX-License-Identifier: Apache-2.0
"""Blocks of K in which tt_transformers' DRAM-sharded decode matmuls take their activations.

Activations are sharded over a grid of at most 8 x 8 cores, and a block is the largest divisor, up to 8, of the tiles of
K that one core holds (model_config.py @17a8a99d: find_grid, find_grid_k_n, dram_matmul_config). Fewer tiles a block
mean more multicasts per weight tile.
"""

from __future__ import annotations

import functools

from ..hardware.op_table import LM_HEAD
from ..planning.plans import largest_divisor, rectangle

_GRID = (8, 8)
_MOST = _GRID[0] * _GRID[1]
_ATTENTION_CORES = 32  # find_grid looks for the number of cores nearest to it
_ATTENTION = ("wqkv", "wo")


@functools.lru_cache(maxsize=10_000)
def in0_block_w(op: str, deep: int, wide: int) -> int:
    """Tiles of K per block of the decode matmul `op`, whose weight has deep x wide tiles on a chip."""
    return largest_divisor(deep // activation_cores(op, deep, wide))


@functools.lru_cache(maxsize=10_000)
def activation_cores(op: str, deep: int, wide: int) -> int:
    """Cores over which the activations of decode matmul `op` are sharded, deep x wide its weight's tiles."""
    cores = [count for count in range(1, _MOST + 1) if deep % count == 0 and rectangle(count, _GRID)]
    if op in _ATTENTION:
        return min(cores, key=lambda count: (abs(count - _ATTENTION_CORES), count))
    if op == LM_HEAD.name:
        return max(cores)
    return max(count for count in cores if wide % count == 0)
