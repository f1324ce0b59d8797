# SPDX-License-Identifier: Apache-2.0
"""The matrix unit step by step in integers: right for every bit pattern, and the measure of the fast way.

One step (MVMUL) adds 16 products to each number of Dst, in two groups of eight:

- A source number has a sign, an 8-bit exponent e and a significand F = 0x400 | 10 bits. e = 0 is zero; e = 255 is
  an ordinary number. Of F, SrcA (in1) gives F >> 6 in even phases and (F >> 1) & 31 in odd ones, SrcB (in0) gives
  F >> 4 in phases 0 and 1 and (F & 15) << 3 in phases 2 and 3.
- A product has exponent eA + eB - 127 - 5 * (odd phase) - 7 * (phase >= 2). A group takes the largest exponent E of
  its eight, aligns each product to it (half away from zero) and adds; E <= 0 makes it zero.
- Both groups, shifted left by 13, and the 24-bit significand of Dst are aligned to the largest exponent of the
  three: groups round half up, Dst half away from zero. A bf16 Dst then rounds each to a multiple of 2^13, likewise.
- The sum is normalised to 24 bits, or 8 for a bf16 Dst, half away from zero. Exponent <= 0 gives +0, >= 255
  infinity. On Wormhole a sum of exactly -1 comes out as -2^27.

Source: the public Tensix ISA documentation (MVMUL, ELWADD, ELWMUL, SrcA, SrcB, Dst) and ttsim 1.10.0; checked
against its golden arrays for both architectures, with 0 differences.
"""

from __future__ import annotations

import numpy as np

from tt_transformers_v2.numerics.compiled import helper, kernel

ADD, SUB, MUL = 0, 1, 2


@helper
def _round_shift(value, places):  # type: ignore[no-untyped-def]
    """A magnitude shifted right by 0..62 places, half up."""
    return (value + ((1 << places) >> 1)) >> places


@helper
def _align_group(total, places, wide):  # type: ignore[no-untyped-def]
    """A signed sum of eight products, as aligned to the largest of the three terms."""
    if places >= 31:
        return 0
    # An arithmetic shift rounds down, so adding one half rounds half up for both signs.
    value = ((total << 13) + ((1 << places) >> 1)) >> places
    return value if wide else (value + 4096) & ~0x1FFF


@helper
def _three_terms(total0, exponent0, total1, exponent1, dst, wide, wormhole):  # type: ignore[no-untyped-def]
    """Two sums of eight products (of weight 2^13) and Dst as float32 bits -> the next Dst as float32 bits."""
    old = (dst >> 23) & 255
    e = max(exponent0, exponent1, old)
    if e <= 0:
        return 0
    sum_of_three = _align_group(total0, e - exponent0, wide) + _align_group(total1, e - exponent1, wide)
    places = e - old
    if old > 0 and places < 31:
        m = _round_shift((dst & 0x7FFFFF) | 0x800000, places)
        if not wide:
            m = (m + 4096) & ~0x1FFF
        sum_of_three += -m if (dst >> 31) & 1 else m
    if sum_of_three == 0:
        return 0
    if wide and wormhole and sum_of_three == -1:
        sum_of_three = -(1 << 27)
    sign, m = (1, -sum_of_three) if sum_of_three < 0 else (0, sum_of_three)
    bits, length = 24 if wide else 8, 0
    while (m >> length) != 0:
        length += 1
    if length > bits:
        m = _round_shift(m, length - bits)
        if (m >> bits) != 0:
            m >>= 1
            length += 1
    else:
        m <<= bits - length
    m <<= 24 - bits
    e += length - 24
    if e <= 0:
        return 0
    if e >= 255:
        return (sign << 31) | 0x7F800000
    return (sign << 31) | (e << 23) | (m & 0x7FFFFF)


@helper
def _group(a, b, k, phase, exponent_out):  # type: ignore[no-untyped-def]
    """Aligned sum of the eight products from k on of two lists of float32 bits; its exponent goes to a cell."""
    odd, second = phase % 2, phase // 2
    largest = -1000
    for i in range(k, k + 8):
        ea, eb = (a[i] >> 23) & 255, (b[i] >> 23) & 255
        exponent = ea + eb - 127 - 5 * odd - 7 * second if ea != 0 and eb != 0 else 0
        largest = max(largest, exponent)
    if largest <= 0:
        exponent_out[0] = 0
        return 0
    total = 0
    for i in range(k, k + 8):
        ea, eb = (a[i] >> 23) & 255, (b[i] >> 23) & 255
        if ea != 0 and eb != 0:
            fa, fb = 0x400 | ((a[i] >> 13) & 0x3FF), 0x400 | ((b[i] >> 13) & 0x3FF)
            product = ((fa >> 1) & 31 if odd else fa >> 6) * ((fb & 15) << 3 if second else fb >> 4)
            places = min(largest - (ea + eb - 127 - 5 * odd - 7 * second), 30)
            product = ((product << 1) + (1 << places)) >> (places + 1)
            total += -product if ((a[i] ^ b[i]) >> 31) & 1 else product
    exponent_out[0] = largest
    return total


@kernel
def accumulate(in0, shift0, in1, shift1, index0, index1, dst, chosen, rows, panel, first, last, phases, wide, wormhole, lo, hi):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    """Adds the products of in0[..., first:last] to `dst` where `chosen`, in the rows listed from lo to hi.

    Args:
        in0: bits [batches, M, K], to be shifted left by shift0 to give float32 bits; in1 likewise [batches, K, N].
        index0, index1: which batch of in0 and of in1 belongs to each batch of dst.
        dst: float32 bits [batches, M, N], read and written.
        chosen: uint8 [batches, M, panels]; a panel is `panel` columns.
        rows: int64 [n], numbers of rows, those of all batches counted through.
        first, last: range of K; first is a multiple of 32, the last tile is filled up with zeros.
        phases: 1..4. wide: fp32 Dst. wormhole: with its own way of handling a sum of -1.
    """
    height, columns = dst.shape[1], dst.shape[2]
    a, b = np.zeros(32, np.int64), np.zeros(32, np.int64)
    e0, e1 = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for n in range(lo, hi):
        batch, r = rows[n] // height, rows[n] % height
        left, right = index0[batch], index1[batch]
        for p in range(chosen.shape[2]):
            if chosen[batch, r, p] == 0:
                continue
            for k in range(first, last, 32):
                for i in range(32):
                    b[i] = np.int64(in0[left, r, k + i]) << shift0 if k + i < last else 0
                for c in range(p * panel, min(columns, (p + 1) * panel)):
                    for i in range(32):
                        a[i] = np.int64(in1[right, k + i, c]) << shift1 if k + i < last else 0
                    d = np.int64(dst[batch, r, c])
                    for phase in range(phases):
                        for half in range(0, 32, 16):
                            s0 = _group(a, b, half, phase, e0)
                            s1 = _group(a, b, half + 8, phase, e1)
                            d = _three_terms(s0, e0[0], s1, e1[0], d, wide, wormhole)
                    dst[batch, r, c] = np.uint32(d)


@kernel
def eltwise(left, right, out, op, phases, wide, wormhole, lo, hi):  # type: ignore[no-untyped-def]
    """Elements lo..hi of float32 bits: out += left op right in the matrix unit; left is SrcA, right SrcB, out Dst."""
    for i in range(lo, hi):
        a, b = np.int64(left[i]), np.int64(right[i])
        ea, eb = (a >> 23) & 255, (b >> 23) & 255
        fa = 0x400 | ((a >> 13) & 0x3FF) if ea != 0 else 0
        fb = 0x400 | ((b >> 13) & 0x3FF) if eb != 0 else 0
        d = np.int64(out[i])
        if op == MUL:
            for phase in range(phases):
                odd, second = phase % 2, phase // 2
                product = ((fa >> 1) & 31 if odd else fa >> 6) * ((fb & 15) << 3 if second else fb >> 4)
                exponent = ea + eb - 127 - 5 * odd - 7 * second
                signed = -product if ((a ^ b) >> 31) & 1 else product
                some = exponent > 0 and ea != 0 and eb != 0
                d = _three_terms(signed if some else 0, exponent if some else 0, 0, 0, d, wide, wormhole)
        else:
            e = max(ea, eb)
            fa = _round_shift(fa, e - ea) if e - ea < 12 else 0
            fb = _round_shift(fb, e - eb) if e - eb < 12 else 0
            minus = bool(((b >> 31) & 1) ^ (1 if op == SUB else 0))
            total = (-fa if (a >> 31) & 1 else fa) + (-fb if minus else fb)
            d = _three_terms(total, e, 0, 0, d, wide, wormhole)
        out[i] = np.uint32(d)
