# SPDX-License-Identifier: Apache-2.0
"""Decode attention's chunks of keys: every position sees its window and nothing else, or the chunk is refused."""

from __future__ import annotations

import pytest

from tt_transformers_v2.planning.attention_chunks import (
    attended,
    cache_tokens,
    chunk_refusal,
    decode_chunk,
    dynamic_chunk,
    wrong_window,
)
from tt_transformers_v2.planning.dst import dst_tiles
from tt_transformers_v2.planning.plans import decode_attention

# Windows and positions on, just before and just after the edges of tiles, of chunks and of chunks in either Dst mode,
# and everything between up to a chunk.
EDGES = sorted({edge + step for edge in (160, 192, 256, 288, 512, 1024, 4096) for step in (-1, 0, 1)})
WINDOWS = [None, *range(1, 131), *EDGES]
POSITIONS = [*range(520), *(p for p in EDGES if p >= 520), 5000]


def right(position: int, window: int | None) -> range:
    return range(0 if window is None else max(0, position + 1 - window), position + 1)


@pytest.mark.parametrize("fp32", [True, False])
def test_our_chunks_attend_to_each_window_and_nothing_else(fp32: bool) -> None:
    for window in WINDOWS:
        chunk = decode_attention((8, 8), window).k_chunk_size
        for position in POSITIONS:
            seen = attended(position, window, chunk, fp32_dest_acc_en=fp32)
            assert seen == right(position, window), (window, position)


@pytest.mark.parametrize("fp32", [True, False])
@pytest.mark.parametrize("chunk", [32, 64, 128, 256])
def test_any_typed_chunk_of_keys_attends_to_the_window(chunk: int, fp32: bool) -> None:
    for window in WINDOWS:
        assert chunk_refusal(chunk, 8192, window, fp32_dest_acc_en=fp32) is None
        assert all(attended(p, window, chunk, fp32_dest_acc_en=fp32) == right(p, window) for p in POSITIONS)


@pytest.mark.parametrize("fp32", [True, False])
def test_ttnns_own_chunks_are_refused_for_exactly_the_windows_they_get_wrong(fp32: bool) -> None:
    for window in WINDOWS:
        wrong = [p for p in POSITIONS if attended(p, window, 0, fp32_dest_acc_en=fp32) != right(p, window)]
        assert wrong_window(window, 0, fp32_dest_acc_en=fp32) == bool(wrong), (window, wrong[:3])
        assert (chunk_refusal(0, 8192, window, fp32_dest_acc_en=fp32) is not None) == bool(wrong)


def test_ttnns_own_chunks_see_what_the_simulator_showed() -> None:
    """Window 32, position 40, November 2026."""
    assert attended(40, 32, 0, fp32_dest_acc_en=True) == range(9, 64)
    assert attended(40, 32, 32, fp32_dest_acc_en=True) == range(9, 41)


@pytest.mark.parametrize(
    ("position", "fp32", "keys"),
    [
        *((0, True, 32), (31, True, 32), (32, True, 64), (64, True, 128), (127, True, 128), (128, True, 128)),
        *((128, False, 256), (255, False, 256), (256, False, 256), (9000, False, 256)),
    ],
)
def test_ttnns_own_chunks_are_powers_of_two_that_dst_holds(position: int, fp32: bool, keys: int) -> None:
    assert dynamic_chunk(position, fp32_dest_acc_en=fp32) == keys <= 32 * dst_tiles(fp32)


@pytest.mark.parametrize(
    ("needed", "page", "tokens"),
    [(1, None, 128), (128, 32, 128), (129, 32, 256), (193, 64, 256), (1, 96, 384), (385, 96, 768), (300, 512, 512)],
)
def test_a_cache_is_whole_chunks_and_whole_pages(needed: int, page: int | None, tokens: int) -> None:
    assert cache_tokens(needed, page) == tokens
    assert decode_chunk(None, tokens) == 128


@pytest.mark.parametrize(("tokens", "chunk"), [(32, 32), (64, 64), (96, 32), (128, 128), (224, 32), (4096, 128)])
def test_of_another_cache_a_chunk_divides_it(tokens: int, chunk: int) -> None:
    assert decode_chunk(None, tokens) == chunk
    assert chunk_refusal(chunk, tokens, None, fp32_dest_acc_en=True) is None
    assert decode_chunk(7, tokens) == 32


@pytest.mark.parametrize(
    ("chunk", "tokens", "fp32", "why"),
    [
        (33, 1024, True, "whole tiles of 32"),
        (192, 768, True, "4 tiles of it at a time"),
        (384, 768, False, "8 tiles of it at a time"),
        (128, 192, True, "past the end of a cache of 192 tokens"),
        (256, 128, True, "past the end of a cache of 128 tokens"),
    ],
)
def test_chunks_that_read_something_else_are_refused(chunk: int, tokens: int, fp32: bool, why: str) -> None:
    refused = chunk_refusal(chunk, tokens, None, fp32_dest_acc_en=fp32)
    assert refused is not None
    assert why in refused.why
    assert refused.fix.endswith(f"k_chunk_size={decode_chunk(None, tokens)}.")
    assert f"k_chunk_size={chunk}" in str(refused.error)


def test_three_tiles_fit_either_dst_mode_at_once() -> None:
    assert chunk_refusal(96, 768, None, fp32_dest_acc_en=True) is None
    assert chunk_refusal(192, 768, None, fp32_dest_acc_en=False) is None
