# SPDX-License-Identifier: Apache-2.0
"""Attention in chunks of keys, as ttnn's scaled dot product attention computes it.

For each chunk of keys, and each row of queries:

1. S = Q K^T in the matrix unit, not yet scaled. Positions that are hidden count as minus infinity; chunks that are
   hidden from a row are left out.
2. m, the largest number so far: cut to bf16 toward zero. S - m in the matrix unit.
3. P = exp((S - m) scale), approximate or accurate (below). The columns of a tile, 32, are summed up over the chunk.
4. O' = P V in the matrix unit, packed to bf16.
5. What earlier chunks gave is rescaled by r = exp((old m - m) scale), accurate, in bf16: sums = sums r + those of this
   chunk in the matrix unit, O = O r + O', the product packed to bf16 and added in L1.

In the end a product with a column of ones adds the 32 sums, and O is multiplied by the reciprocal. With an fp32 Dst, S,
P and the sums are fp32, which the unit reads as tf32; with a bf16 Dst they are bf16.

The approximate exponential is Schraudolph's (1999): 256 / ln 2 (S - m) scale + 32500.818, rounded to 15 bits, half away
from zero, are the upper bits of a float32, shifted left by 15. Its error is up to 4 %, and exp(0) is 0.9785.

Source: the kernels of the ttnn 0.81.1 wheel (sdpa.cpp, compute_common.hpp, ckernel_sfpu_exp.h). With the approximate
exponential and an fp32 Dst, 0 differing values from ttnn 0.81.1 on Tenstorrent's simulator (November 2026, not a card;
Wormhole, HiFi2 and HiFi4, vector kernels compiled by a stand-in for the vendor's compiler). Not compared: the accurate
exponential and r are float32's here, a bf16 Dst, windows, soft caps and sinks. Soft caps are no option of ttnn's
attention: here they are float32 between steps 1 and 2. Decode is assumed to take the same steps, chunk by chunk; it
sums P in the matrix unit, and chunks on several cores meet in a tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tt_transformers_v2.common.units import TILE
from tt_transformers_v2.numerics.compiled import helper, kernel, run_split
from tt_transformers_v2.numerics.elementwise import add, multiply
from tt_transformers_v2.numerics.formats import quantize
from tt_transformers_v2.numerics.instructions import add32, bits_of, float_of, floor32, fma, sub32, to_int, trunc32
from tt_transformers_v2.numerics.packer import pack_output

# A product of the matrix unit: x [..., M, K], y [..., K, N] and the format it is packed to -> [..., M, N].
Product = Callable[[torch.Tensor, torch.Tensor, str], torch.Tensor]

AT_ONCE = 256  # keys whose scores are computed in one product

# Schraudolph's constants on a grid of 2^8, as ttnn has them: 256 / ln 2, and 127 * 256 less what balances the error.
_SLOPE, _OFFSET = np.float32(256) * np.float32(1.4426950408889634), np.float32(32500.818359375)
_EXPONENT, _SIGN, _UPPER = np.uint32(0x7F800000), np.uint32(0x80000000), np.uint32(0xFFFF0000)
_TF32, _HALF_BF16, _HALF = np.uint32(0xFFFFE000), np.uint32(0x8000), np.uint32(0x3F000000)
_SCALE, _BACK, _SMALLEST = np.uint32(264 << 23), np.uint32((1 << 32) - (10 << 23)), np.uint32(27 << 23)
_ZERO, _ZERO_F, _ONE_HALF, _LARGEST = np.uint32(0), np.float32(0), np.float32(0.5), np.float32(32767)


def flash_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    product: Product,
    *,
    math_fidelity: str,
    fp32_dest_acc_en: bool,
    k_chunk: int,
    window: int | None = None,
    exp_approx: bool = True,
    out: str = "bf16",
    scale: float | None = None,
    cap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal attention of the last positions over all of them.

    Args:
        q: float32 CPU tensor [batch, heads, tokens, head_dim] of bf16 values: the last `tokens` positions.
        k, v: float32 tensors [batch, kv_heads, positions, head_dim], of values of the cache's format; kv_heads divides
            heads.
        product: the matrix unit with the settings of the op.
        math_fidelity, fp32_dest_acc_en: the same settings, for the products element by element.
        k_chunk: keys of a chunk, a multiple of 32; chunks begin at position 0.
        window: how many positions up to its own a row sees; None: all.
        exp_approx: ttnn's `exp_approx_mode`.
        out: what the result is packed to, as in `matmul`.
        scale: what scores are multiplied by; None: head_dim ** -0.5.
        cap: scaled scores become cap * tanh(score / cap); None: they stay.
        sinks: float32 [heads] of bf16 values, a scaled score of each head that takes part in the softmax and has no
            value; None: there are none.

    Returns:
        float32 tensor like q.

    Raises:
        ValueError: a chunk that is no multiple of 32, a window below 1, heads that do not divide, more tokens than
            positions.
    """
    batch, heads, tokens, depth = q.shape
    kv_heads, positions = k.shape[1:3]
    if k_chunk < TILE or k_chunk % TILE:
        raise ValueError(f"k_chunk must be a multiple of {TILE}, not {k_chunk}")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, not {window}")
    if heads % kv_heads or tokens > positions:
        raise ValueError(f"q {list(q.shape)} does not fit k {list(k.shape)}")
    wide = bool(fp32_dest_acc_en)
    between = "fp32" if wide else "bf16"
    how: dict[str, Any] = {"math_fidelity": math_fidelity, "fp32_dest_acc_en": wide}
    grouped = (batch, kv_heads, heads // kv_heads, tokens)
    queries, keys, values = q.reshape(*grouped, depth), k.unsqueeze(2), v.unsqueeze(2)
    largest = torch.full((*grouped, 1), -torch.inf)
    sums, result = torch.zeros(*grouped, TILE), torch.zeros(*grouped, v.shape[-1])
    scale = float(np.float32(depth**-0.5 if scale is None else scale))
    short_scale = float(_cut(torch.tensor([scale])))
    first = positions - tokens
    for start, rows, weights in _scores(queries, keys, product, between, k_chunk, window):
        stop = start + weights.shape[-1]
        if cap is not None:
            weights = quantize(torch.tanh(weights * (scale / cap)) * (cap / scale), between)
        before = largest[..., rows, :].clone()
        own = _weigh(weights, largest, sums.shape, rows, first - start, window, scale, exp_approx, wide)
        part = product(weights, values[..., start:stop, :], "bf16")
        if torch.isfinite(before).any():
            gone = torch.exp((before - largest[..., rows, :]) * short_scale)
            rescale = pack_output(gone, "bf16", True) if wide else quantize(gone, "bf16")
            kept = multiply(sums[..., rows, :], rescale, out=between, **how)
            own = add(own, kept, fp32_dest_acc_en=wide, out=between)
            part = quantize(part + multiply(result[..., rows, :], rescale, **how), "bf16")
        sums[..., rows, :], result[..., rows, :] = own, part
    if sinks is not None:
        sums, result = _with_sinks(sinks.reshape(kv_heads, -1, 1, 1) / scale, largest, sums, result, scale, wide, how)
    total = product(sums, torch.ones(TILE, 1), between)
    shares = 1 / _cut(total, _TF32) if wide else quantize(1 / total, "bf16")
    return pack_output(multiply(result, shares, out=between, **how), out, wide).reshape(batch, heads, tokens, -1)


def _with_sinks(
    sinks: torch.Tensor,
    largest: torch.Tensor,
    sums: torch.Tensor,
    result: torch.Tensor,
    scale: float,
    wide: bool,
    how: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums and result after one more chunk, whose only score is the head's sink and whose value is nothing.

    The steps are assumed to be those between chunks, with an accurate exponential.
    """
    between = "fp32" if wide else "bf16"
    most = torch.maximum(largest, _cut(sinks.expand_as(largest).contiguous()))
    gone = torch.exp((largest - most) * float(_cut(torch.tensor([scale]))))
    rescale = pack_output(gone, "bf16", True) if wide else quantize(gone, "bf16")
    own = torch.zeros_like(sums)
    own[..., :1] = quantize(torch.exp((sinks - most) * scale), between)
    sums = add(own, multiply(sums, rescale, out=between, **how), fp32_dest_acc_en=wide, out=between)
    return sums, quantize(multiply(result, rescale, **how), "bf16")


def _scores(
    queries: torch.Tensor, keys: torch.Tensor, product: Product, between: str, k_chunk: int, window: int | None
) -> Iterator[tuple[int, slice, torch.Tensor]]:
    """For each chunk of keys its start, the rows of queries that see any of it, and their scores [..., rows, keys].

    Scores of small chunks are computed several at a time: the same bits, and the unit is faster on wide products.
    """
    tokens, positions = queries.shape[-2], keys.shape[-2]
    first = positions - tokens

    def seeing(start: int, stop: int) -> slice:
        return slice(max(0, start - first), tokens if window is None else min(tokens, stop - 1 + window - first))

    at_once = k_chunk * max(1, AT_ONCE // k_chunk)
    for begin in range(0, positions, at_once):
        end = min(positions, begin + at_once)
        all_rows = seeing(begin, end)
        if all_rows.start >= all_rows.stop:
            continue
        scores = product(queries[..., all_rows, :], keys[..., begin:end, :].transpose(-1, -2), between)
        for start in range(begin, end, k_chunk):
            stop = min(end, start + k_chunk)
            rows = seeing(start, stop)
            if rows.start < rows.stop:
                own = slice(rows.start - all_rows.start, rows.stop - all_rows.start)
                yield start, rows, scores[..., own, start - begin : stop - begin].contiguous()


def _cut(x: torch.Tensor, keep: np.uint32 = _UPPER) -> torch.Tensor:
    return torch.from_numpy((x.numpy().view(np.uint32) & keep).view(np.float32))


def _weigh(
    scores: torch.Tensor,
    largest: torch.Tensor,
    shape: torch.Size,
    rows: slice,
    ahead: int,
    window: int | None,
    scale: float,
    exp_approx: bool,
    wide: bool,
) -> torch.Tensor:
    """Scores [..., rows, keys] become weights in place, and `largest` [..., tokens, 1] the largest so far.

    `ahead`: the position of token 0 minus that of the first key. Returns the sums over tiles, [..., rows, 32].
    """
    height, width = scores.shape[-2:]
    sums = torch.zeros(*shape[:-2], height, TILE)
    count = shape[:-2].numel()
    s, t = scores.reshape(count, height, width).numpy(), sums.reshape(count, height, TILE).numpy()
    m = largest.reshape(count, -1).numpy()
    where = (rows.start, ahead, width + ahead + len(m[0]) if window is None else window)
    how = (_SLOPE * np.float32(scale), np.float32(scale), bool(exp_approx), wide)
    run_split(lambda lo, hi: _weights(s, m, t, *where, *how, lo, hi), count * height, s.size)
    return sums


# ---- compiled ----


@helper
def _to_bf16(x):  # type: ignore[no-untyped-def]
    return float_of(np.uint32(add32(bits_of(x), _HALF_BF16) & _UPPER))


@helper
def _nearest_bf16(x):  # type: ignore[no-untyped-def]
    v = bits_of(x)
    odd = np.uint32(np.uint32(v >> np.uint32(16)) & np.uint32(1))
    return float_of(np.uint32(add32(add32(v, np.uint32(0x7FFF)), odd) & _UPPER))


@helper
def _whole(v, scale):  # type: ignore[no-untyped-def]
    half = float_of(np.uint32(np.uint32(bits_of(v) & _SIGN) | _HALF))
    return trunc32(fma(v, scale, half))


@helper
def _difference(x, m, wide):  # type: ignore[no-untyped-def]
    """x - m of the matrix unit: both as tf32, the smaller rounded to the last place of the larger."""
    u = np.uint32(bits_of(x) & _TF32)
    e = max(max(np.uint32(u & _EXPONENT), np.uint32(bits_of(m) & _EXPONENT)), _SMALLEST)
    scale = float_of(sub32(_SCALE, e))
    d = (_whole(float_of(u), scale) - _whole(m, scale)) * float_of(add32(e, _BACK))
    return d if wide else _to_bf16(d)


@helper
def _approximate(d, slope, wide):  # type: ignore[no-untyped-def]
    """Schraudolph's exponential of d; what comes out negative is cut off by the packer."""
    i = floor32(fma(d, slope, _OFFSET) + _ONE_HALF)
    i = i if i > _ZERO_F else _ZERO_F  # not min and max, which mind NaN and do not vectorise
    i = i if i < _LARGEST else _LARGEST
    bits = np.uint32(to_int(i) << np.uint32(15))
    return float_of(bits if wide else np.uint32(bits & _UPPER))


@helper
def _maximum(x, lanes):  # type: ignore[no-untyped-def]
    """Largest of x and lanes, which are overwritten: a plain maximum does not vectorise, minding NaN."""
    for c in range(0, x.size, 32):
        for j in range(min(32, x.size - c)):
            v = x[c + j]
            lanes[j] = v if v > lanes[j] else lanes[j]
    m = lanes[0]
    for j in range(1, 32):
        m = lanes[j] if lanes[j] > m else m
    return m


@helper
def _exponentials(x, m, slope, scale, approx, wide):  # type: ignore[no-untyped-def]
    if approx:
        for c in range(x.size):
            x[c] = _approximate(_difference(x[c], m, wide), slope, wide)
    else:
        for c in range(x.size):
            p = np.float32(np.exp(np.float32(_difference(x[c], m, wide) * scale)))
            x[c] = p if wide else _nearest_bf16(p)


@helper
def _sum_tiles(x, total, wide):  # type: ignore[no-untyped-def]
    for tile in range(0, x.size, 32):
        for c in range(min(32, x.size - tile)):
            p = total[c] + x[tile + c]
            total[c] = p if wide else _nearest_bf16(p)


@kernel
def _weights(scores, largest, sums, row_0, ahead, window, slope, scale, approx, wide, lo, hi):  # type: ignore[no-untyped-def] # fmt: skip
    """Rows lo..hi, counted through all heads, of scores [heads, rows, keys]; see `_weigh`."""
    height, width = scores.shape[1], scores.shape[2]
    lanes = np.empty(32, np.float32)
    for n in range(lo, hi):
        head, r = n // height, n % height
        seen = row_0 + r + ahead + 1  # keys of the chunk up to this position
        begin, end = max(seen - window, 0), min(seen, width)
        lanes[:] = largest[head, row_0 + r]
        m = float_of(np.uint32(bits_of(_maximum(scores[head, r, begin:end], lanes)) & _UPPER))
        largest[head, row_0 + r] = m
        scores[head, r, :begin] = _ZERO_F
        scores[head, r, end:] = _ZERO_F
        _exponentials(scores[head, r, begin:end], m, slope, scale, approx, wide)
        _sum_tiles(scores[head, r], sums[head, r], wide)
