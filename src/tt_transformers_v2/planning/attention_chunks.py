# SPDX-License-Identifier: Apache-2.0
"""Which chunks of keys decode attention takes, and which positions ttnn's kernel then attends to.

The arithmetic is that of the kernels in the ttnn 0.81.1 wheel (operations/transformer/sdpa_decode/device/kernels:
rt_args_common.hpp, sdpa_flash_decode.cpp, writer_decode_all.cpp). A sliding window has two masks, one that ends at the
current position in the last chunk and one that begins with the window in the first. With chunks of a given size both
are added. With k_chunk_size 0 the kernel sizes chunks by the position and adds one mask only: where one chunk holds
both ends of the window, positions after the current one are attended. Tenstorrent's simulator showed the same
(November 2026, not a card): window 32, position 40 sees 9 to 63.
"""

from __future__ import annotations

import math

from ..common.units import TILE
from .dst import DST_TILES_FP32, dst_tiles
from .refusals import Refusal

# Keys at once without a window: as many tiles as Dst holds in either mode (ttnn's dynamic chunks end there with
# fp32_dest_acc_en), so that no mode leaves a part of a chunk out.
CHUNK = DST_TILES_FP32 * TILE
# The size that the simulator showed to attend to the right positions of a sliding window, op by op.
WINDOW_CHUNK = TILE


def cache_tokens(needed: int, page: int | None) -> int:
    """Tokens of a user's KV cache that hold `needed`: whole chunks of keys and whole pages, so that none reads past
    its end. `page` is in tokens, None for a plain cache."""
    whole = math.lcm(CHUNK, page or TILE)
    return math.ceil(needed / whole) * whole


def decode_chunk(window: int | None, tokens: int | None = None) -> int:
    """Keys that decode attention takes at once: 4 tiles, 1 for a sliding `window`.

    `tokens` are those of a cache that is otherwise than `cache_tokens` has it: the largest power of two of tiles, up to
    4, that divides it.
    """
    if window is not None:
        return WINDOW_CHUNK
    tiles = math.ceil((tokens or CHUNK) / TILE)
    return TILE * min(CHUNK // TILE, tiles & -tiles)


def dynamic_chunk(position: int, *, fp32_dest_acc_en: bool) -> int:
    """Keys at once that k_chunk_size 0 comes to at a position: a power of two of tiles, at most what Dst holds."""
    tiles = position // TILE + 1
    return TILE * min(dst_tiles(fp32_dest_acc_en), 1 << (tiles - 1).bit_length())


def attended(position: int, window: int | None, chunk: int, *, fp32_dest_acc_en: bool) -> range:
    """The positions that a token at `position` attends to in ttnn's kernel.

    window: tokens of the sliding window, None for none. chunk: k_chunk_size. It should be the last `window` ones up to
    and with its own.
    """
    size = chunk or dynamic_chunk(position, fp32_dest_acc_en=fp32_dest_acc_en)
    first = max(0, position + 1 - window) if window else 0
    one_chunk = first // size == position // size
    causal_mask = chunk > 0 or not (first > 0 and one_chunk)
    return range(first, position + 1 if causal_mask else (position // size + 1) * size)


def wrong_window(window: int | None, chunk: int, *, fp32_dest_acc_en: bool) -> bool:
    """Whether some position attends to others than it should: with k_chunk_size 0 and a window below a full chunk."""
    return window is not None and chunk == 0 and window < dst_tiles(fp32_dest_acc_en) * TILE


def chunk_refusal(chunk: int, tokens: int, window: int | None, *, fp32_dest_acc_en: bool) -> Refusal | None:
    """Why decode attention cannot take chunks of `chunk` keys from a cache of `tokens` per user; None where it can."""
    most = dst_tiles(fp32_dest_acc_en)
    what, tiles = f"decode attention with k_chunk_size={chunk} is wrong on a card.", chunk // TILE
    if wrong_window(window, chunk, fp32_dest_acc_en=fp32_dest_acc_en):
        return Refusal(
            what,
            f"ttnn's kernel would let a sliding window of {window} tokens see positions after the current one.",
            f"Set runtime.programs.sdpa_decode.k_chunk_size={WINDOW_CHUNK}.",
        )
    if chunk == 0:
        return None
    good = decode_chunk(window, tokens)
    fix = f"Set runtime.programs.sdpa_decode.k_chunk_size={good}."
    if chunk % TILE:
        return Refusal(what, f"Chunks are whole tiles of {TILE} keys.", fix)
    if tiles > most and tiles % most:
        return Refusal(what, f"ttnn works through {most} tiles of it at a time and would leave out the rest.", fix)
    if math.ceil(tokens / TILE) % tiles:
        return Refusal(what, f"The last chunk would read past the end of a cache of {tokens} tokens.", fix)
    return None
