# SPDX-License-Identifier: Apache-2.0
"""The matrix unit bit for bit in vector floating point, for all but extreme exponents.

`exact_integer.py` states what is computed. Here the same bits come from float32 operations that vectorise:

- Products. A partial operand of the unit is an exact float32, and a product of two has at most 12 bits. Let U be the
  weight of the last of these bits in the largest product of a group. Adding a product to M = 1.5 * 2^23 U by one fused
  multiply-add rounds it to a multiple of U, and leaves M plus a whole number of U: eight in a row give the sum of
  eight aligned products, each rounded on its own. The unit rounds ties away from zero; so the parts of in1 are made
  larger by 2^-18 of themselves, which lifts ties, and nothing else, over the edge.
- Exponents. The largest of a group, max(eA + eB), is found in bytes: how far eA and eB are below the largest of a tile,
  added, and the least of the sums. Where both are narrow (`NARROW`) no sum passes 255, and marks for zeros tell sums
  with a zero in them; elsewhere sums stop at 255, and one that does is so small that it counts as zero. The result
  serves all phases, whose exponents differ from it by a constant.
- Dst. floor(x + 1/2) rounds a group, trunc(x +- 1/2) Dst, to the grid of the largest of the three. For a bf16 Dst the
  two roundings of the unit, first to 1 and then to 2^13, are one: floor((floor(x + 1/2) + 2^12) / 2^13) =
  floor(x / 2^13 + 1/2 + 2^-14). All of it stays in float32 there, as additions to 1.5 * 2^23, which leave whole
  numbers; Dst itself is held larger by 2^-15 of itself, which lifts its ties away from zero. For an fp32 Dst the sum of
  the three has up to 30 bits: it is added in int32, cut in two, and put together in one rounding addition, the lower
  half enlarged by 2^-30 of the upper so that ties go away from zero.

Dst is held multiplied by 2^64 (`LIFT`), so that nothing comes near float32's own lower limit. What this cannot do
is left to the integer way, row by row of a panel of columns: a number of exponent above `TOP_A` (in1) or `TOP_B`
(in0), a tile with max(eA) + max(eB) above `TOP_PRODUCT`, or Dst above exponent `TOP_DST` at the start. Lifted groups
then stay below 2^99 and Dst below 2^120: in fp32 it is no more than the sum of all groups (`LONGEST` limits their
number); in bf16 it no longer changes where it exceeds a group by 2^13; Wormhole's sum of -1 gives no more than 2^10
times a group. A tile where exponents of the unit might reach 0 is done by a second form of the step that watches for
it; `_LOW` is where this begins.

Speed: bound by vector instructions, not by memory. Per 16 products of 16 numbers a phase takes the 16 fused
multiply-adds that a float32 matmul takes as well, 8 to set up the groups and 24 (fp32 Dst) or 15 (bf16) to add to Dst;
the largest exponents take another 5, once for all phases. Without AVX-512, whose additions and conversions can round
down, it is 28 and 19. `ROWS_AT_ONCE` rows share what is read of in1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from tt_transformers_v2.numerics import vectors
from tt_transformers_v2.numerics.compiled import helper, kernel
from tt_transformers_v2.numerics.fidelity import SRC_A, SRC_A_HIGH, SRC_B, SRC_B_HIGH
from tt_transformers_v2.numerics.instructions import add32, bits_of, float_of, shr32
from tt_transformers_v2.numerics.vectors import FLOATS, LANES, OCTETS, SHORT, TILE_OCTETS, WORDS, Code, index, pointer

# One task is ROWS x PANEL numbers of Dst. The parts of in1 of one K tile (32 x 256, high, low, exponents: 72 KiB) stay
# in the second-level cache and serve ROWS rows.
PANEL, ROWS, ROWS_AT_ONCE = 256, 128, 4

LINE = 64  # bytes

# Exponents that are not more than so much below the largest are narrow, and what stands for a zero among them: no sum
# of one of them and another passes 255, and any that is not below ZERO_B has a zero in it.
NARROW, ZERO_A, ZERO_B = 63, 128, 127

LIFT, _LIFT_A, _LIFT_B = 64, 48, 16
TOP_A, TOP_B = 254 - _LIFT_A, 254 - _LIFT_B
TOP_PRODUCT = 220 - LIFT + 127  # of eA + eB
TOP_DST = 180
LONGEST = 1 << 22  # of K in one call, for the bound on Dst above
# From this eA + eB on, the exponent of a group is at least 24 in every phase: neither it nor Dst, which can lose 23
# binary places by cancellation, reaches 0.
_LOW = 24 + 12 + 127

_EXPONENT, _SIGN, _ZERO = np.uint32(0x7F800000), np.uint32(0x80000000), np.uint32(0)
_A, _A_HIGH, _B, _B_HIGH = np.uint32(SRC_A), np.uint32(SRC_A_HIGH), np.uint32(SRC_B), np.uint32(SRC_B_HIGH)
_LIFT_A_BITS, _LIFT_B_BITS, _LIFT_BITS = np.uint32(_LIFT_A << 23), np.uint32(_LIFT_B << 23), np.uint32(LIFT << 23)
_UNLIFT_BITS = np.uint32((1 << 32) - (LIFT << 23))
_OVER_TIES, _AS_IT_IS = np.float32(1 + 2.0**-18), np.float32(1)
# Added to an exponent field: M = 1.5 * 2^23 U with U = 2^(E - 137). Dead groups get an M that swallows everything.
_MAGIC, _SWALLOW = np.uint32((13 << 23) | 0x400000), np.uint32((230 << 23) | 0x400000)
_ZERO_GROUP = np.uint32(LIFT << 23)
_SMALLEST = np.uint32((LIFT + 1) << 23)
_WIDE_SCALE, _WIDE_BACK = np.uint32(277 << 23), np.uint32((1 << 32) - (23 << 23))
# 2^-15 in a significand: a bf16 Dst is held larger by so much of itself, from `_lift` on and after every step.
_ENLARGED = np.uint32(1 << 8)
_BF16_SCALE, _BF16_BACK = np.uint32(264 << 23), np.uint32((1 << 32) - (10 << 23) + int(_ENLARGED))
_WHOLE = np.float32(1.5 * 2.0**23)
_HALF_LESS = np.uint32(0x3EFFFFFF)
_HALF_AND = np.float32(0.5 + 2.0**-14)
_TO_BF16, _UPPER = np.uint32(0x8000), np.uint32(0xFFFF0000)
_LOW_SIX, _HIGH_REST = np.uint32(63), np.uint32(0xFFFFFFC0)
_TINY = np.float32(2.0**-30)
_MAGNITUDE, _SIGN_AND_EXPONENT, _NAN = np.uint32(0x7FFFFFFF), np.uint32(0xFF800000), np.uint32(0x7FC00000)
_ALMOST_HALF = np.uint32(0x7FFF)
_MINUS_ONE = np.uint32(0xFFFFFFFF)
_EVERY_ROW = np.uint32((1 << ROWS_AT_ONCE) - 1)


# ---- operands ----


@vectors.vector_tool
def _split(typing, source, size, at, high, low, exponents, to, count, keep, keep_high, lift, times, both):  # type: ignore[no-untyped-def] # fmt: skip
    """`count` numbers (a multiple of 16) from number `at` on -> lifted parts `times` themselves, uint8 exponents, from
    [to] on; zero where the exponent is. both: whether `low` is asked for.

    source: uint8, the bits of bf16 (`size` 2) or float32 (4), so that one kernel serves both. All arrays are contiguous
    and of any number of dimensions: slices would take more time than what is done with them.
    """
    word = types.uint32
    signature = types.void(
        source, types.int64, at, high, low, exponents, to, types.int64, word, word, word, types.float32, both
    )

    def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        c, b = Code(builder), builder
        arrays = [args[place] for place in (0, 3, 4, 5)]
        start, upper, lower, found = vectors.pointers(context, b, (source, high, low, exponents), arrays)
        kept, kept_high, lifted = (c.splat(value, WORDS) for value in args[8:11])
        scale, zero = c.splat(args[11], FLOATS), vectors.words(0)

        def every(load: Callable[[Any], Any]) -> None:
            with c.every(args[7], LANES) as i:
                onto, v = b.add(args[6], i), load(b.add(args[2], i))
                e = b.lshr(b.and_(v, vectors.words(_EXPONENT)), vectors.words(23))
                some = b.icmp_unsigned("!=", e, zero)
                whole = b.select(some, b.and_(b.add(v, lifted), kept), zero)
                first = c.float_of(b.and_(whole, kept_high))
                c.store(b.fmul(first, scale), upper, onto)
                c.store(b.trunc(e, SHORT), found, onto)
                with b.if_then(args[12]):
                    c.store(b.fmul(b.fsub(c.float_of(whole), first), scale), lower, onto)

        halves, wholes = (b.bitcast(start, kind.element.as_pointer()) for kind in (vectors.HALVES, WORDS))
        with b.if_else(b.icmp_signed("==", args[1], index(2))) as (bf16, float32):
            with bf16:
                every(lambda place: b.shl(b.zext(c.load(halves, place, vectors.HALVES), WORDS), vectors.words(16)))
            with float32:
                every(lambda place: c.load(wholes, place, WORDS))
        return context.get_dummy_value()

    return signature, code


@helper
def _parts_of_a(source, size, at, high, low, below, to, count, both):  # type: ignore[no-untyped-def]
    _split(source, size, at, high, low, below, to, count, _A, _A_HIGH, _LIFT_A_BITS, _OVER_TIES, both)


@helper
def _parts_of_b(source, size, at, high, low, below, to, both):  # type: ignore[no-untyped-def]
    _split(source, size, at, high, low, below, to, 32, _B, _B_HIGH, _LIFT_B_BITS, _AS_IT_IS, both)


def _below_largest(kind: Any, mark: int) -> Any:
    """A tool that turns exponents into how far they are below the largest; the 0 of a zero into `mark`, or into 255
    where others are more than `NARROW` below. Returns the largest times 256, plus the least that is not 0 (255 if there
    is none)."""

    @vectors.vector_tool
    def below(typing, exponents, at, count):  # type: ignore[no-untyped-def]
        signature = types.uint32(exponents, at, types.int64)

        def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            c, b = Code(builder, context), builder
            cells, count = b.gep(pointer(context, b, exponents, args[0]), [args[1]]), args[2]
            none, all_set = vectors.octets(0, kind), vectors.octets(255, kind)

            def wider(i: Any, range_: list[Any]) -> list[Any]:
                e = c.load(cells, i, kind)
                there = b.select(b.icmp_unsigned("!=", e, none), e, all_set)
                return [c.most(range_[0], e), c.least(range_[1], there)]

            most, least = vectors.accumulated(c, count, kind.count, [none, all_set], wider)
            top, bottom = c.over_lanes("umax", most), c.over_lanes("umin", least)
            tops = c.splat(top, kind)
            # Where all are zero it wraps to 1.
            narrow = b.icmp_unsigned("<=", b.sub(top, bottom), top.type(NARROW))
            zero = c.splat(b.select(narrow, top.type(mark), top.type(255)), kind)
            with c.every(count, kind.count) as i:
                e = c.load(cells, i, kind)
                c.store(b.select(b.icmp_unsigned("!=", e, none), b.sub(tops, e), zero), cells, i)
            word = context.get_value_type(types.uint32)
            return b.or_(b.shl(b.zext(top, word), word(8)), b.zext(bottom, word))

        return signature, code

    return below


_below_in_panel, _below_in_row = _below_largest(OCTETS, ZERO_A), _below_largest(TILE_OCTETS, ZERO_B)


@helper
def _narrow(most, least):  # type: ignore[no-untyped-def]
    """Whether zeros were marked by ZERO_A or ZERO_B, of what `_below_largest` found."""
    return most - least <= NARROW


@vectors.vector_tool
def _fetch(typing, source, at, count):  # type: ignore[no-untyped-def]
    """Has `count` bytes from byte `at` on brought near while something else is computed; they may be anywhere."""
    signature = types.void(source, types.int64, types.int64)

    def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        c = Code(builder, context)
        start = pointer(context, builder, source, args[0])
        with c.every(args[2], LINE) as i:
            c.fetch(start, builder.add(args[1], i))
        return context.get_dummy_value()

    return signature, code


def _largest_of_eight(narrow: bool) -> Any:
    """A tool for exponents all of which are narrow, or for any."""

    @vectors.vector_tool
    def largest(typing, below_a, below_b, top, out, width, marks_a, marks_b):  # type: ignore[no-untyped-def]
        signature = types.void(below_a, below_b, top, out, types.int64, types.boolean, types.uint32)

        def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            c, b = Code(builder, context), builder
            first, second, tops, found = (
                pointer(context, b, kind, array) for kind, array in zip(signature.args[:4], args[:4], strict=True)
            )
            _largest_code(c, narrow, first, second, tops, found, *args[4:])
            return context.get_dummy_value()

        return signature, code

    return largest


def _largest_code(c: Code, narrow: bool, below_a: Any, below_b: Any, top: Any, out: Any, width: Any, narrow_a: Any, narrow_b: Any) -> None:  # fmt: skip # noqa: E501
    """Lifted exponents of the largest of eight products, LIFT where all are zero.

    below_a: uint8 [32, width]; below_b: uint8 [ROWS_AT_ONCE, 32]; top: uint8 [ROWS_AT_ONCE], of the largest product
    that could be; out: uint8 [ROWS_AT_ONCE, 4, width]; narrow_a, narrow_b: whether zeros have the marks of narrow
    exponents there, a bit for each row of b. Sums of narrow ones fit in a byte. Of others a sum that stops at 255 is
    that of a product that is zero.
    """
    b, rows = c.b, range(ROWS_AT_ONCE)
    highest = [c.splat_at(top, index(row), OCTETS) for row in rows]
    nothing, all_set = vectors.octets(LIFT), vectors.octets(255)

    def marked(vector: Any, mark: int, is_narrow: Any) -> Any:
        zero = b.and_(c.splat(is_narrow, vectors.flags(OCTETS)), b.icmp_unsigned("==", vector, vectors.octets(mark)))
        return b.select(zero, all_set, vector)

    with c.every(index(4), 1) as group:
        from_k = b.mul(group, index(8))
        own = [[c.splat_at(below_b, b.add(from_k, index(32 * row + k)), OCTETS) for k in range(8)] for row in rows]
        if not narrow:
            bits = [b.trunc(b.lshr(narrow_b, narrow_b.type(row)), vectors.FLAG) for row in rows]
            own = [[marked(each, ZERO_B, bits[row]) for each in own[row]] for row in rows]
        first_line, first_out = b.mul(from_k, width), b.mul(group, width)
        with c.every(width, vectors.BYTES) as j:
            sums: list[list[Any]] = [[] for _ in rows]
            for k in range(8):
                line = c.load(below_a, b.add(first_line, c.at(k, width, j)), OCTETS)
                if not narrow:
                    line = marked(line, ZERO_A, narrow_a)
                for row in rows:
                    sums[row].append(b.add(line, own[row][k]) if narrow else c.add_up_to_most(line, own[row][k]))
            for row in rows:
                least = functools.reduce(c.least, sums[row])
                e = c.most(c.subtract_down_to_zero(highest[row], least), nothing)
                if narrow:
                    e = b.select(b.icmp_unsigned("<", least, vectors.octets(ZERO_B)), e, nothing)
                c.store(e, out, b.add(first_out, c.at(4 * row, width, j)))


_largest_narrow, _largest_any = _largest_of_eight(True), _largest_of_eight(False)


# ---- one step on ROWS_AT_ONCE rows: dst[width] += b[16] times a[16, width] ----


def _step(wide: bool, low: bool) -> Any:
    """A tool for one Dst. low: where a group's exponent may be 0 or less (it is zero then), and Dst too small."""

    @vectors.vector_tool
    def step(typing, dst, a, b_parts, largest, half, width, less, minus_one):  # type: ignore[no-untyped-def]
        signature = types.void(dst, a, b_parts, largest, types.int64, types.int64, types.uint32, types.uint32)

        def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            c = Code(builder, context)
            arrays = [
                pointer(context, builder, kind, array) for kind, array in zip(signature.args[:4], args[:4], strict=True)
            ]
            _rows_step(c, wide, low, *arrays, *args[4:])
            return context.get_dummy_value()

        return signature, code

    return step


def _rows_step(c: Code, wide: bool, low: bool, dst: Any, a: Any, b_parts: Any, largest: Any, half: Any, width: Any, less: Any, minus_one: Any) -> None:  # fmt: skip # noqa: E501
    """dst: float32 [rows, PANEL]; a: [32, width]; b_parts: [rows, 32]; largest: uint8 [rows, 4, width]; `half` 0 or 1
    of the 32; less: what the phase's exponents are smaller by, as an exponent field."""
    b, rows = c.b, range(ROWS_AT_ONCE)
    from_k = b.mul(half, index(16))
    lesser, minus = c.splat(less, WORDS), c.splat(minus_one, WORDS)
    magic = b.sub(vectors.words(_MAGIC), lesser)
    first_a, first_group = b.mul(from_k, width), b.mul(b.mul(half, index(2)), width)
    with c.every(width, LANES) as j:
        own = [[c.splat_at(b_parts, b.add(from_k, index(32 * row + k)), FLOATS) for k in range(16)] for row in rows]
        exponents, groups = [], []
        for group in range(2):
            start, sums = [], []
            for row in rows:
                octet = c.load(largest, b.add(first_group, c.at(4 * row + group, width, j)), SHORT)
                e = b.shl(b.zext(octet, WORDS), vectors.words(23))
                m = b.add(e, magic)
                if low:
                    alive = b.icmp_unsigned(">", b.sub(e, lesser), vectors.words(_ZERO_GROUP))
                    m = b.select(alive, m, vectors.words(_SWALLOW))
                start.append(c.float_of(m))
                sums.append(start[row])
                exponents.append(e)
            for k in range(8):
                line = c.load(a, b.add(first_a, c.at(8 * group + k, width, j)), FLOATS)
                sums = [c.fma(own[row][8 * group + k], line, sums[row]) for row in rows]
            groups.append([b.fsub(sums[row], start[row]) for row in rows])
        for row in rows:
            place = c.at(row, index(PANEL), j)
            d = c.load(dst, place, FLOATS)
            e = b.sub(c.most(exponents[row], exponents[ROWS_AT_ONCE + row]), lesser)
            e = c.most(e, b.and_(c.bits(d), vectors.words(_EXPONENT)))
            both = (groups[0][row], groups[1][row])
            v = _add_wide(c, both, d, e, minus) if wide else _add_bf16(c, both, d, e)
            if low:
                normal = b.icmp_unsigned(">=", b.and_(c.bits(v), vectors.words(_EXPONENT)), vectors.words(_SMALLEST))
                v = b.select(normal, v, vectors.floats(0))
            c.store(v, dst, place)


def _add_wide(c: Code, groups: Any, d: Any, e: Any, minus: Any) -> Any:
    """Sum of two groups and an fp32 Dst on the grid of exponent field e."""
    b = c.b
    scale = c.float_of(b.sub(vectors.words(_WIDE_SCALE), e))
    half = c.float_of(b.or_(b.and_(c.bits(d), vectors.words(_SIGN)), vectors.words(_HALF_LESS)))
    total = b.fptosi(c.fma(d, scale, half), WORDS)
    for group in groups:
        total = b.add(total, c.floor_to_int(c.fma(group, scale, vectors.floats(0.5))))
    total = b.select(b.icmp_signed("==", total, vectors.words(_MINUS_ONE)), minus, total)
    upper = b.sitofp(b.and_(total, vectors.words(_HIGH_REST)), FLOATS)
    lower = b.sitofp(b.and_(total, vectors.words(_LOW_SIX)), FLOATS)
    joined = b.fadd(upper, c.fma(upper, vectors.floats(_TINY), lower))
    return b.fmul(joined, c.float_of(b.add(e, vectors.words(_WIDE_BACK))))


def _add_bf16(c: Code, groups: Any, d: Any, e: Any) -> Any:
    """Sum of two groups and a bf16 Dst, enlarged as `_ENLARGED` says, on the grid of exponent field e."""
    b = c.b
    scale = c.float_of(b.sub(vectors.words(_BF16_SCALE), e))
    total = c.fma(d, scale, vectors.floats(_WHOLE))
    for group in groups:
        total = c.add_floor(c.fma(group, scale, vectors.floats(_HALF_AND)), total)
    total = b.fsub(total, vectors.floats(_WHOLE))
    rounded = c.float_of(b.and_(b.add(c.bits(total), vectors.words(_TO_BF16)), vectors.words(_UPPER)))
    return b.fmul(rounded, c.float_of(b.add(e, vectors.words(_BF16_BACK))))


_step_bf16, _step_wide, _step_bf16_low, _step_wide_low = _step(False, False), _step(True, False), _step(False, True), _step(True, True)  # fmt: skip # noqa: E501


# ---- the whole ----


@helper
def _octets(count):  # type: ignore[no-untyped-def]
    """uint8 [count] that begins with a cache line: a vector across two of them costs two accesses."""
    room = np.empty(count + LINE, np.uint8)
    skipped = (LINE - room.ctypes.data % LINE) % LINE
    return room[skipped : skipped + count]


@helper
def _floats(count):  # type: ignore[no-untyped-def]
    """float32 [count], likewise."""
    room = np.empty(count + LINE // 4, np.float32)
    skipped = (LINE - room.ctypes.data % LINE) % LINE // 4
    return room[skipped : skipped + count]


@helper
def _lift(bits, out, wide):  # type: ignore[no-untyped-def]
    """Dst as float32 bits -> lifted floats at the front of `out`, zero where the exponent is 0. Returns whether all of
    them fit."""
    most, lift = _ZERO, _LIFT_BITS if wide else add32(_LIFT_BITS, _ENLARGED)
    for i in range(bits.size):
        e = np.uint32(bits[i] & _EXPONENT)
        out[i] = float_of(add32(bits[i], lift) if e != _ZERO else _ZERO)
        most = max(most, e)
    return most <= np.uint32(TOP_DST << 23)


@helper
def _drop(values, out, wide):  # type: ignore[no-untyped-def]
    """The reverse of `_lift`."""
    kept = _MINUS_ONE if wide else _UPPER
    for i in range(out.size):
        v = np.uint32(bits_of(values[i]) & kept)
        out[i] = add32(v, _UNLIFT_BITS) if np.uint32(v & _EXPONENT) != _ZERO else _ZERO


@helper
def onto_fp32(x, y):  # type: ignore[no-untyped-def]
    """Bits of the sum of a partial result x in L1 and a number y that is packed, both fp32 (blocks.l1_add)."""
    x = x if np.uint32(x & _EXPONENT) != _ZERO else np.uint32(x & _SIGN)
    y = y if np.uint32(y & _EXPONENT) != _ZERO else np.uint32(y & _SIGN)
    v = bits_of(float_of(x) + float_of(y))
    v = v if np.uint32(v & _EXPONENT) != _ZERO else np.uint32(v & _SIGN)
    return _NAN if np.uint32(v & _MAGNITUDE) > _EXPONENT else v


@helper
def onto_bf16(x, y):  # type: ignore[no-untyped-def]
    """The same for bf16."""
    x = np.uint32(x & _SIGN_AND_EXPONENT) if np.uint32(x & _MAGNITUDE) > _EXPONENT else x
    y = np.uint32(y & _SIGN_AND_EXPONENT) if np.uint32(y & _MAGNITUDE) > _EXPONENT else y
    y = np.uint32(y & _UPPER) if np.uint32(y & _EXPONENT) != _ZERO else _ZERO
    v = bits_of(float_of(x) + float_of(y))
    nan = np.uint32(v & _MAGNITUDE) > _EXPONENT
    odd = np.uint32(shr32(v, np.uint32(16)) & np.uint32(1))
    return _NAN if nan else np.uint32(add32(v, add32(_ALMOST_HALF, odd)) & _UPPER)


@helper
def _fold(values, partials, wide):  # type: ignore[no-untyped-def]
    """Packs Dst onto partial results in L1; Dst is zero afterwards."""
    kept = _MINUS_ONE if wide else _UPPER
    for i in range(partials.size):
        v = np.uint32(bits_of(values[i]) & kept)
        dropped = add32(v, _UNLIFT_BITS) if np.uint32(v & _EXPONENT) != _ZERO else _ZERO
        partials[i] = onto_fp32(partials[i], dropped) if wide else onto_bf16(partials[i], dropped)
        values[i] = np.float32(0)


@helper
def _copy(source, to):  # type: ignore[no-untyped-def]
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            to[i, j] = source[i, j]


@helper
def _rows_of_b(in0, batch, row, bottom, k, deep, line, high, low, below, most, least, both):  # type: ignore[no-untyped-def]
    """Parts of in0[batch, row : row + ROWS_AT_ONCE, k : k + deep], zeros beyond `bottom` and `deep`.

    Written are high and low: float32 [ROWS_AT_ONCE * 32], low only if `both`; below: uint8, likewise, how far exponents
    are below the largest of their row; most, least: int64 [ROWS_AT_ONCE], the largest exponent and the least of a
    number that is not zero. line: uint8 [32, 2 or 4], to work with.
    """
    depth, size = in0.shape[2], in0.shape[3]
    for q in range(ROWS_AT_ONCE):
        if row + q < bottom and deep == 32:
            _parts_of_b(in0, size, (batch * in0.shape[1] + row + q) * depth + k, high, low, below, 32 * q, both)
        else:
            line[:] = 0
            if row + q < bottom:
                _copy(in0[batch, row + q, k : k + deep], line)
            _parts_of_b(line, size, 0, high, low, below, 32 * q, both)
        found = _below_in_row(below, 32 * q, 32)
        most[q], least[q] = np.int64(found >> np.uint32(8)), np.int64(found & np.uint32(255))


@kernel
def accumulate(in0, in1, index0, index1, dst, left_over, first, last, block, folds, phases, wide, wormhole, lo, hi):  # type: ignore[no-untyped-def] # fmt: skip
    """Adds the products of in0[..., first:last] to `dst`; tasks lo..hi, see `tasks`.

    Args:
        in0, in1: uint8 [batches, M, K, 2 or 4] and [batches, K, N, 2 or 4], bits of bf16 or float32.
        index0, index1: which batch of in0 and of in1 belongs to each batch of dst.
        dst: float32 bits [batches, M, N], of bf16 numbers unless `wide`.
        left_over: uint8 [batches, M, panels], written: 1 where dst was left alone, for the integer way.
        first, last: range of K; first is a multiple of 32, the last tile is filled up with zeros.
        block, folds: after each `block` of K (a multiple of 32) of the first `folds`, Dst is packed onto partial
            results and starts again from zero; after the last of them it goes on from their sum. folds 0: never.
        phases: 1..4. wide: fp32 Dst. wormhole: with its own way of handling a sum of -1.
    """
    columns, at_once, bottom = dst.shape[2], ROWS_AT_ONCE, dst.shape[1]
    row_tasks, panels = (bottom + ROWS - 1) // ROWS, (columns + PANEL - 1) // PANEL
    high_b, low_b, below_b = _floats(32 * at_once), _floats(32 * at_once), _octets(32 * at_once)
    high_a, low_a, held = _floats(32 * PANEL), _floats(32 * PANEL), _floats(ROWS * PANEL)
    below_a, largest = _octets(32 * PANEL), _octets(4 * at_once * PANEL)
    size, both = in1.shape[3], phases > 1
    line, line_b = np.zeros((PANEL, size), np.uint8), np.zeros((32, in0.shape[3]), np.uint8)
    most, least = np.zeros(at_once, np.int64), np.zeros(at_once, np.int64)
    top, partials = np.zeros(at_once, np.uint8), np.empty(ROWS * PANEL, np.uint32)
    fits = np.zeros(ROWS, np.uint8)
    minus_one = np.uint32((1 << 32) - (1 << 27)) if wormhole else _MINUS_ONE
    for task in range(lo, hi):
        batch = task // (row_tasks * panels)
        # Neighbouring tasks share their columns, so the weights stay near while the rows change.
        panel = (task // row_tasks) % panels
        left, right, own, column = index0[batch], index1[batch], task % row_tasks * ROWS, panel * PANEL
        high, width = min(ROWS, bottom - own), min(PANEL, columns - column)
        n = (width + 63) // 64 * 64
        held[:] = np.float32(0)
        partials[:] = _ZERO
        fits[:] = 0
        for r in range(high):
            cells = dst[batch, own + r, column : column + width]
            fits[r] = np.uint8(_lift(cells, held[r * PANEL : (r + 1) * PANEL], wide))
        for k in range(first, last, 32):
            deep = min(32, last - k)
            for i in range(32):
                if i < deep and n == width:
                    at = (right * in1.shape[1] + k + i) * columns + column
                    _parts_of_a(in1, size, at, high_a, low_a, below_a, i * n, n, both)
                else:
                    line[:] = 0
                    if i < deep:
                        _copy(in1[right, k + i, column : column + width], line)
                    _parts_of_a(line, size, 0, high_a, low_a, below_a, i * n, n, both)
            range_a = _below_in_panel(below_a, 0, 32 * n)
            most_a, least_a = np.int64(range_a >> np.uint32(8)), np.int64(range_a & np.uint32(255))
            narrow_a = _narrow(most_a, least_a)
            for r in range(0, high, at_once):
                _rows_of_b(in0, left, own + r, bottom, k, deep, line_b, high_b, low_b, below_b, most, least, phases > 2)
                least_b, some, narrow_b = np.int64(255), False, np.uint32(0)
                for q in range(at_once):
                    most_b = most[q]
                    if most_a > TOP_A or most_b > TOP_B or most_a + most_b > TOP_PRODUCT:
                        fits[r + q] = 0  # what is computed of it is thrown away
                    some = some or fits[r + q] != 0
                    least_b = min(least_b, least[q])
                    narrow_b = np.uint32(narrow_b | np.uint32(_narrow(most_b, least[q]) << q))
                    top[q] = np.uint8(min(max(int(most_a + most_b) + (LIFT - 127), 0), 255))
                if not some:
                    continue
                if narrow_a and narrow_b == _EVERY_ROW:
                    _largest_narrow(below_a, below_b, top, largest, n, narrow_a, narrow_b)
                else:
                    _largest_any(below_a, below_b, top, largest, n, narrow_a, narrow_b)
                d = held[r * PANEL : (r + at_once) * PANEL]
                # The next tile's share of each group of rows.
                for line_k in range(k + 32 + r * 32 // high, min(k + 32 + (r + at_once) * 32 // high, last)):
                    _fetch(in1, ((right * in1.shape[1] + line_k) * columns + column) * size, width * size)
                low = least_a + least_b < _LOW
                for phase in range(phases):
                    a, b = low_a if phase % 2 else high_a, low_b if phase >= 2 else high_b
                    less = np.uint32((5 * (phase % 2) + 7 * (phase // 2)) << 23)
                    for half in range(2):
                        if wide and low:
                            _step_wide_low(d, a, b, largest, half, n, less, minus_one)
                        elif wide:
                            _step_wide(d, a, b, largest, half, n, less, minus_one)
                        elif low:
                            _step_bf16_low(d, a, b, largest, half, n, less, minus_one)
                        else:
                            _step_bf16(d, a, b, largest, half, n, less, minus_one)
            done = k + 32 - first
            if folds > 0 and (done % block == 0 or k + 32 >= last) and (done + block - 1) // block <= folds:
                for r in range(high):
                    cells = slice(r * PANEL, (r + 1) * PANEL)
                    _fold(held[cells], partials[cells], wide)
                    if (done + block - 1) // block == folds and k + 32 < last and fits[r]:
                        fits[r] = np.uint8(_lift(partials[cells], held[cells], wide))
        whole = folds > 0 and folds * block >= last - first
        for r in range(high):
            if fits[r] == 0:
                left_over[batch, own + r, panel] = 1
            elif whole:
                for j in range(width):
                    dst[batch, own + r, column + j] = partials[r * PANEL + j]
            else:
                _drop(held[r * PANEL : r * PANEL + width], dst[batch, own + r, column : column + width], wide)


def tasks(batches: int, rows: int, columns: int) -> int:
    """How many tasks `accumulate` has for dst [batches, rows, columns]."""
    return batches * -(-rows // ROWS) * -(-columns // PANEL)
