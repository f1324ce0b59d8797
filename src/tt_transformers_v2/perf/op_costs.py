# SPDX-License-Identifier: Apache-2.0
"""What single ops cost besides bandwidth and tile rate: constants fitted by kind of op to profiles, and their formulas.

A calibration without them (tt_metal_2025) has one lump a layer instead. Microseconds of device kernel time
throughout; units, sources and dates are in conf/provenance.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ..common.units import TILE


@dataclass(frozen=True)
class OpCosts:
    """Fixed and variable costs of the ops of a layer, by kind.

    matmul_us: of a DRAM-sharded decode matmul, beside its tiles; block_cycles: cycles per weight tile and reader that
        a block of one tile of K adds, spread over in0_block_w tiles.
    matmul_interleaved_us: of a decode matmul with interleaved weights; page_cycles: cycles per weight tile and DRAM
        bank that reading it page by page takes at least; block_us: that sending a block of K to all cores takes.
    sdpa_decode_us: of decode attention; sdpa_decode_query_us: for each user's query head of 128 elements, spread over
        the chip; sdpa_decode_efficiency: share of the nominal bandwidth at which the cache is read.
    prefill_matmul_us: of a prefill matmul; prefill_tile_cycles: cycles per tile multiply beside the matrix unit's.
    sdpa_prefill_us: of a chunk of queries against a chunk of keys on a core.
    norm_us, norm_tile_us: of a norm, and per tile that its busiest core holds.
    create_heads_us, create_heads_head_us: of splitting QKV, and per query, key and value head.
    concat_heads_us, concat_heads_user_us: of joining heads, and per user.
    rope_us: of rotating the queries or the keys.
    cache_update_us, cache_update_head_us: of writing the keys or the values of a token, and per KV head and byte of an
        element.
    gated_us, gated_tile_us: of the activation and product of the MLP, and per tile of its width.
    add_us, add_tile_us: of an addition of two activations, the same way.
    move_us: of resharding an activation, or moving it between sharded and interleaved.
    gap_us: between two ops of a trace.
    elementwise_efficiency: share of the nominal bandwidth that norms, additions and products of long prompts reach.
    topk_us, topk_element_us: of top-k on many cores (8192 to 32768 logits), and per logit on the single core that
        other rows get; sampler_us: of sampling among the candidates.
    """

    matmul_us: float
    block_cycles: float
    matmul_interleaved_us: float
    page_cycles: float
    block_us: float
    sdpa_decode_us: float
    sdpa_decode_query_us: float
    sdpa_decode_efficiency: float
    prefill_matmul_us: float
    prefill_tile_cycles: float
    sdpa_prefill_us: float
    norm_us: float
    norm_tile_us: float
    create_heads_us: float
    create_heads_head_us: float
    concat_heads_us: float
    concat_heads_user_us: float
    rope_us: float
    cache_update_us: float
    cache_update_head_us: float
    gated_us: float
    gated_tile_us: float
    add_us: float
    add_tile_us: float
    move_us: float
    gap_us: float
    elementwise_efficiency: float
    topk_us: float
    topk_element_us: float
    sampler_us: float

    def norm(self, tiles: float, cores: int) -> float:
        """A norm of `tiles` spread over `cores`."""
        return self.norm_us + self.norm_tile_us * math.ceil(tiles / cores)

    def create_heads(self, q_heads: int, kv_heads: int) -> float:
        """Splitting QKV of a decode step into `q_heads` query heads and `kv_heads` each of keys and values."""
        return self.create_heads_us + self.create_heads_head_us * (q_heads + 2 * kv_heads)

    def concat_heads(self, users: int) -> float:
        """Joining the heads of `users`."""
        return self.concat_heads_us + self.concat_heads_user_us * users

    def cache_update(self, kv_heads: int, bytes_per_element: float) -> float:
        """Writing the keys, or the values, of one token of every user into a cache of that format."""
        return self.cache_update_us + self.cache_update_head_us * kv_heads * bytes_per_element

    def gated(self, width: float) -> float:
        """The activation function and product over one tile of rows, `width` elements wide."""
        return self.gated_us + self.gated_tile_us * math.ceil(width / TILE)

    def add(self, width: float) -> float:
        """An addition over one tile of rows, `width` elements wide."""
        return self.add_us + self.add_tile_us * math.ceil(width / TILE)

    def topk(self, width: int) -> float:
        """Top-k of rows of `width` logits: one core takes what is not for the many-core program."""
        narrowest, widest = MULTICORE_TOPK
        return self.topk_us if narrowest <= width <= widest else self.topk_element_us * width


MULTICORE_TOPK = (8192, 32768)  # logits; ttnn 0.81.1 topk and tt-metal PR #50597
OP_COSTS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(OpCosts))
# Shares of a nominal rate, above 0 and at most 1.
OP_SHARES = ("sdpa_decode_efficiency", "elementwise_efficiency")
