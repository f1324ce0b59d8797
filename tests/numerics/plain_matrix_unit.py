# SPDX-License-Identifier: Apache-2.0
"""The matrix unit once more, number by number in Python's own integers, to compare the fast one with.

Written from the description of the arithmetic alone, with sign and magnitude kept apart as the hardware has them;
it shares no code with the package except the packer. Numbers are float32 bits.
"""

from collections.abc import Sequence

import torch

from tt_transformers_v2.numerics.formats import quantize
from tt_transformers_v2.numerics.packer import pack_output

PHASES = {"LoFi": 1, "HiFi2": 2, "HiFi3": 3, "HiFi4": 4}


def split(bits: int) -> tuple[int, int, int]:
    """Sign, exponent and 23-bit fraction."""
    return bits >> 31, (bits >> 23) & 0xFF, bits & 0x7FFFFF


def rounded(magnitude: int, places: int) -> int:
    """Shifted right, half up."""
    return magnitude if places == 0 else (magnitude + (1 << (places - 1))) >> places


def product(a: int, b: int, phase: int) -> tuple[int, int, int]:
    """Sign, exponent and magnitude of the partial product of SrcA and SrcB in one phase."""
    (sign_a, exp_a, fraction_a), (sign_b, exp_b, fraction_b) = split(a), split(b)
    if exp_a == 0 or exp_b == 0:
        return 0, 0, 0
    full_a, full_b = 0x400 | (fraction_a >> 13), 0x400 | (fraction_b >> 13)
    part_a = full_a >> 6 if phase in (0, 2) else (full_a >> 1) & 31
    part_b = full_b >> 4 if phase in (0, 1) else (full_b & 15) << 3
    exponent = exp_a + exp_b - 127
    if phase in (1, 3):
        exponent -= 5
    if phase in (2, 3):
        exponent -= 7
    return sign_a ^ sign_b, exponent, part_a * part_b


def group(a: Sequence[int], b: Sequence[int], phase: int) -> tuple[int, int, int]:
    """Sign, exponent and magnitude (times 2^13) of the sum of eight products."""
    products = [product(x, y, phase) for x, y in zip(a, b, strict=True)]
    largest = max(exponent for _, exponent, _ in products)
    if largest <= 0:
        return 0, 0, 0
    total = 0
    for sign, exponent, magnitude in products:
        aligned = rounded(magnitude, min(largest - exponent, 30))
        total += -aligned if sign else aligned
    return int(total < 0), largest, abs(total) << 13


def add_to_dst(groups: list[tuple[int, int, int]], dst: int, wide: bool, wormhole: bool) -> int:
    """Groups and Dst added and normalised."""
    sign_d, exp_d, fraction_d = split(dst)
    largest = max([exp_d, *(exponent for _, exponent, _ in groups)])
    if largest <= 0:
        return 0
    total = 0
    for sign, exponent, magnitude in groups:
        shift = largest - exponent
        if shift >= 31:
            continue
        aligned = magnitude if shift == 0 else (magnitude + (1 << (shift - 1)) - sign) >> shift
        if not wide:
            aligned = (aligned + 4096 - sign) & ~0x1FFF
        total += -aligned if sign else aligned
    if exp_d != 0 and largest - exp_d < 31:
        aligned = rounded(0x800000 | fraction_d, largest - exp_d)
        if not wide:
            aligned = (aligned + 4096) & ~0x1FFF
        total += -aligned if sign_d else aligned
    if total == 0:
        return 0
    if total == -1 and wide and wormhole:
        # Normalised by a shift of -4 instead of 23.
        total, largest = -(1 << 23), largest + 4
    sign, magnitude = int(total < 0), abs(total)
    shift = magnitude.bit_length() - 24
    magnitude = rounded(magnitude, shift) if shift > 0 else magnitude << -shift
    if not wide:
        magnitude = rounded(magnitude, 16) << 16
    largest += shift
    if magnitude == 1 << 24:
        magnitude, largest = 1 << 23, largest + 1
    if largest <= 0:
        return 0
    if largest >= 255:
        return (sign << 31) | 0x7F800000
    return (sign << 31) | (largest << 23) | (magnitude & 0x7FFFFF)


def dot(
    in0: Sequence[int], in1: Sequence[int], dst: int, fidelity: str, wide: bool, wormhole: bool, first: int, last: int
) -> int:
    """Dst after a row of in0 times a column of in1, from first to last."""
    b, a = list(in0[first:last]), list(in1[first:last])
    missing = -len(a) % 32
    a, b = a + [0] * missing, b + [0] * missing
    for k in range(0, len(a), 32):
        for phase in range(PHASES[fidelity]):
            for half in (k, k + 16):
                groups = [group(a[c : c + 8], b[c : c + 8], phase) for c in (half, half + 8)]
                dst = add_to_dst(groups, dst, wide, wormhole)
    return dst


def to_bits(x: torch.Tensor) -> list[list[int]]:
    return (x.float().contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF).tolist()


def from_bits(bits: list[list[int]]) -> torch.Tensor:
    signed = [[b - (1 << 32) if b >> 31 else b for b in row] for row in bits]
    return torch.tensor(signed, dtype=torch.int64).to(torch.int32).view(torch.float32)


def product_of(
    in0: torch.Tensor, in1: torch.Tensor, dst: torch.Tensor, fidelity: str, wide: bool, wormhole: bool,
    first: int = 0, last: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """Dst [M, N] after in0 [M, K] times in1 [K, N], from first to last."""
    rows, columns, start = to_bits(in0), to_bits(in1.T), to_bits(dst)
    last = in0.shape[1] if last is None else last
    return from_bits(
        [
            [dot(r, c, start[i][j], fidelity, wide, wormhole, first, last) for j, c in enumerate(columns)]
            for i, r in enumerate(rows)
        ]
    )


def elements(
    op: str, a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, fidelity: str, wide: bool, wormhole: bool
) -> torch.Tensor:
    """Dst after the unit's add, sub or mul of two matrices, onto `start`."""
    result = []
    for row_a, row_b, row_d in zip(to_bits(a), to_bits(b), to_bits(start), strict=True):
        result.append([])
        for x, y, dst in zip(row_a, row_b, row_d, strict=True):
            if op == "mul":
                for phase in range(PHASES[fidelity]):
                    sign, exponent, magnitude = product(x, y, phase)
                    term = (sign, exponent, magnitude << 13) if exponent > 0 else (0, 0, 0)
                    dst = add_to_dst([term], dst, wide, wormhole)
            else:
                terms = []
                for bits, flip in ((x, 0), (y, int(op == "sub"))):
                    sign, exponent, fraction = split(bits)
                    terms.append((sign ^ flip, exponent, 0x400 | (fraction >> 13) if exponent else 0))
                largest = max(exponent for _, exponent, _ in terms)
                total = 0
                for sign, exponent, magnitude in terms:
                    aligned = rounded(magnitude, largest - exponent) if largest - exponent < 12 else 0
                    total += -aligned if sign else aligned
                dst = add_to_dst([(int(total < 0), largest, abs(total) << 13)], dst, wide, wormhole)
            result[-1].append(dst)
    return from_bits(result)


def flushed(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() < 2.0**-126, torch.zeros_like(x), x)


def matmul_in_blocks(
    in0: torch.Tensor, in1: torch.Tensor, fidelity: str, wide: bool, wormhole: bool, block: int,
    packer_l1_acc: bool, out: str, bias: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """The kernel with K blocks, as a sequence of what it does, for finite numbers; block is a number of elements."""
    ranges = [(k, min(k + block, in0.shape[1])) for k in range(0, in0.shape[1], block)]
    zero = torch.zeros(in0.shape[0], in1.shape[1])
    accumulates = packer_l1_acc and len(ranges) > (2 if bias is None else 1)
    fmt = "fp32" if wide else "bf16" if accumulates else out
    in_l1, dst = zero, zero
    for i, (first, last) in enumerate(ranges):
        is_last = i == len(ranges) - 1
        # With a bias, accumulation in L1 never reloads.
        reloads = not accumulates or (is_last and bias is None)
        starts_from = in_l1 if reloads else zero
        dst = product_of(in0, in1, starts_from, fidelity, wide, wormhole, first, last)
        packed = pack_output(dst, fmt, wide)
        if not accumulates or i == 0:
            in_l1 = packed
        elif wide:
            in_l1 = flushed(flushed(in_l1) + flushed(packed))
        else:
            in_l1 = quantize(in_l1 + packed, "bf16")
    if bias is not None:
        dst = elements("add", in_l1, bias.expand(zero.shape), zero, "LoFi", wide, False)
    return pack_output(dst, out, wide)
