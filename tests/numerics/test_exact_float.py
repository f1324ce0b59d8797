# SPDX-License-Identifier: Apache-2.0
"""The vector way against the integer way and against plain Python, over all scales and at the borders of its range."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_matrix_unit import elements, matmul_in_blocks, product_of

from tt_transformers_v2.numerics import exact_float, exact_integer
from tt_transformers_v2.numerics.accumulation import octets_of
from tt_transformers_v2.numerics.formats import quantize
from tt_transformers_v2.numerics.matrix_unit import eltwise, matmul

FIDELITIES = ("LoFi", "HiFi2", "HiFi3", "HiFi4")
BOTH = pytest.mark.parametrize("wide", [True, False])


def bits(x: torch.Tensor) -> np.ndarray:
    return x.contiguous().numpy().view(np.uint32)


def numbers(random: np.random.Generator, shape: tuple[int, ...], low: int, high: int, upper: bool) -> np.ndarray:
    """float32 bits with exponents from low to high, many of few significant bits (ties), some zero."""
    fraction = random.integers(0, 1 << 23, shape, dtype=np.uint32)
    fraction &= (0x7FFFFF << random.integers(0, 24, shape)).astype(np.uint32)
    exponent = random.integers(low, high + 1, shape, dtype=np.uint32)
    sign = random.integers(0, 2, shape, dtype=np.uint32)
    x = (sign << 31) | (exponent << 23) | fraction
    x[random.random(shape) < 0.05] &= np.uint32(0x80000000)
    return x & np.uint32(0xFFFF0000) if upper else x


def both_ways(
    in0: np.ndarray, in1: np.ndarray, dst: np.ndarray, phases: int, wide: bool, wormhole: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dst of the vector way, of the integer way, and which numbers the former left over."""
    rows, columns, depth = dst.shape[0], dst.shape[1], in0.shape[1]
    index, fast, sure = np.zeros(1, np.int64), dst[None].copy(), dst[None].copy()
    panels = -(-columns // exact_float.PANEL)
    left_over, chosen = np.zeros((1, rows, panels), np.uint8), np.ones((1, rows, panels), np.uint8)
    how: Any = (phases, wide, wormhole, 0)
    where: Any = (index, index, fast, left_over, 0, depth, 0, 0)
    exact_float.accumulate(
        octets_of(in0[None]), octets_of(in1[None]), *where, *how, exact_float.tasks(1, rows, columns)
    )
    operands: Any = (in0[None], 0, in1[None], 0, index, index)
    exact_integer.accumulate(*operands, sure, chosen, np.arange(rows), exact_float.PANEL, 0, depth, *how, rows)
    return fast[0], sure[0], np.repeat(left_over[0], exact_float.PANEL, axis=1)[:, :columns].astype(bool)


@BOTH
@pytest.mark.parametrize("phases", [1, 2, 3, 4])
def test_equals_the_integer_way_on_all_scales(phases: int, wide: bool) -> None:
    random = np.random.default_rng(phases)
    done, cancelled = 0, 0
    for center_a, center_b in [(127, 127), (60, 60), (60, 85), (90, 90), (20, 130), (130, 20), (140, 140), (40, 92)]:
        for spread in (1, 6, 20, 45):
            in0 = numbers(random, (12, 96), max(center_b - spread, 0), center_b + spread, True)
            in1 = numbers(random, (96, 40), max(center_a - spread, 0), center_a + spread, False)
            # Halves that cancel bring Dst down to few bits, and to Wormhole's sum of -1.
            in0[6:, 32:64], in1[32:64] = in0[6:, :32] ^ np.uint32(0x80000000), in1[:32]
            top = center_a + center_b - 127
            dst = numbers(random, (12, 40), max(top - 12, 0), min(max(top + 12, 1), 254), not wide)
            for wormhole in (True, False):
                fast, sure, left_over = both_ways(in0, in1, dst, phases, wide, wormhole)
                np.testing.assert_array_equal(fast[~left_over], sure[~left_over])
                done += int((~left_over).sum())
                cancelled += int((sure[6:] == 0).sum())
    assert done > 18_000, "the vector way must have done most of it"


@BOTH
@pytest.mark.parametrize("phases", [1, 4])
def test_borders_of_the_range(phases: int, wide: bool) -> None:
    """One step within each limit the vector way does it all, and rightly; one step beyond it leaves it all."""
    random = np.random.default_rng(7)
    top = exact_float.TOP_PRODUCT
    for a, b, d, inside in [
        (exact_float.TOP_A, 60, 1, True),
        (exact_float.TOP_A + 1, 60, 1, False),
        (20, exact_float.TOP_B, 1, True),
        (20, exact_float.TOP_B + 1, 1, False),
        (top - 140, 140, exact_float.TOP_DST, True),
        (top - 140, 141, exact_float.TOP_DST, False),
        (100, 140, exact_float.TOP_DST + 1, False),
        (255, 100, 1, False),
        (100, 255, 1, False),
        (1, 1, 1, True),
        (1, 1, 255, False),
    ]:
        for spread in (0, 3):
            in0 = numbers(random, (4, 512), max(b - spread, 0), b, True)
            in1 = numbers(random, (512, 20), max(a - spread, 0), a, False)
            dst = numbers(random, (4, 20), max(d - 3, 0), d, not wide)
            in0[:, 0], in1[0] = (b << 23) | 0x7F0000, (a << 23) | 0x7FE000
            dst[:, 0] = d << 23
            fast, sure, left_over = both_ways(in0, in1, dst, phases, wide, True)
            assert left_over.all() != inside
            assert left_over.any() != inside
            np.testing.assert_array_equal(fast, sure if inside else dst)


@BOTH
@pytest.mark.parametrize("wider", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_zeros_count_as_nothing_at_the_border_of_narrow_exponents(wider: tuple[int, int], wide: bool) -> None:
    """Groups of a zero and numbers as far below the largest as narrow ones may be, or one step further, beside groups
    of nothing but zeros; the largest product is far above 1, and Dst far below."""
    random = np.random.default_rng(9)
    far_a, far_b = (exact_float.NARROW + more for more in wider)
    for _ in range(20):
        in0, in1 = numbers(random, (8, 32), 135, 135, True), numbers(random, (32, 24), 140, 140, False)
        in0[:, 8:16] -= np.where(in0[:, 8:16] << 1, np.uint32(far_b << 23), np.uint32(0))
        in1[8:24] -= np.where(in1[8:24] << 1, np.uint32(far_a << 23), np.uint32(0))
        in0[random.random(in0.shape) < 0.6] = 0
        in1[random.random(in1.shape) < 0.6] = 0
        in0[:, :8], in1[:, :8] = 0, 0
        in0[0, 31] = in1[31, 0] = 0x3F800000
        dst = numbers(random, (8, 24), 10, 60, not wide)
        fast, sure, left_over = both_ways(in0, in1, dst, 4, wide, True)
        assert not left_over.any()
        np.testing.assert_array_equal(fast, sure)


@BOTH
@pytest.mark.parametrize("phases", [1, 2, 3, 4])
@pytest.mark.parametrize("around", [127, 139, 150, 163, 175, 190])
def test_small_exponents(around: int, phases: int, wide: bool) -> None:
    """Groups whose exponent passes 0 from phase to phase, and sums that vanish: eA + eB around 127 to 190."""
    random = np.random.default_rng(around)
    for half in (3, around // 2, around - 3):
        in0 = numbers(random, (10, 64), max(half - 3, 0), half + 3, True)
        in1 = numbers(random, (64, 24), max(around - half - 3, 0), around - half + 3, False)
        in0[5:, 16:32], in1[16:32] = in0[5:, :16] ^ np.uint32(0x80000000), in1[:16]
        dst = numbers(random, (10, 24), 0, 40, not wide)
        fast, sure, left_over = both_ways(in0, in1, dst, phases, wide, True)
        assert not left_over.any()
        np.testing.assert_array_equal(fast, sure)


def test_largest_sums_stay_in_range() -> None:
    """All products at the upper limit and of one sign, over a long K."""
    for wide in (True, False):
        for sign in (0, 0x80000000):
            in0 = np.full((2, 4096), (140 << 23) | 0x7F0000, np.uint32)
            in1 = np.full((4096, 3), ((exact_float.TOP_PRODUCT - 140) << 23) | 0x7FE000 | sign, np.uint32)
            dst = np.full((2, 3), (exact_float.TOP_DST << 23) | 0x7F0000 | sign, np.uint32)
            fast, sure, left_over = both_ways(in0, in1, dst, 4, wide, True)
            assert not left_over.any()
            np.testing.assert_array_equal(fast, sure)


def test_one_wild_number_leaves_the_others_alone() -> None:
    random = np.random.default_rng(8)
    in0, in1 = numbers(random, (70, 64), 120, 130, True), numbers(random, (64, 300), 120, 130, False)
    in0[66, 40], in1[10, 290] = 0x7F800000, 0x7FC10000
    fast, sure, left_over = both_ways(in0, in1, np.zeros((70, 300), np.uint32), 2, True, True)
    expected = np.zeros((70, 300), bool)
    expected[66], expected[:, 256:] = True, True
    np.testing.assert_array_equal(left_over, expected)
    np.testing.assert_array_equal(fast[~expected], sure[~expected])
    result = matmul(
        torch.from_numpy(in0.view(np.float32)), torch.from_numpy((in1 & np.uint32(0xFFFF0000)).view(np.float32)),
        math_fidelity="HiFi2", fp32_dest_acc_en=True, out="dst",
    )  # fmt: skip
    upper = both_ways(in0, in1 & np.uint32(0xFFFF0000), np.zeros((70, 300), np.uint32), 2, True, True)[1]
    np.testing.assert_array_equal(bits(result), upper)


# ---- against plain Python ----


@st.composite
def matrices(draw: st.DrawFn, shape: tuple[int, int], upper: bool) -> torch.Tensor:
    """Any bit patterns: all exponents, or those near one of them."""
    size = shape[0] * shape[1]
    raw = np.frombuffer(draw(st.binary(min_size=4 * size, max_size=4 * size)), np.uint32).reshape(shape).copy()
    width = draw(st.sampled_from([256, 32, 4]))
    if width < 256:
        base = draw(st.integers(0, 255))
        exponent = np.minimum(base + ((raw >> 23) & 255) % width, 255).astype(np.uint32)
        raw = (raw & np.uint32(0x807FFFFF)) | (exponent << np.uint32(23))
    raw &= np.uint32(0xFFFF0000 if upper else 0xFFFFFFFF)
    # Zeros that end a row or a column leave single products.
    if draw(st.booleans()):
        raw[-1:, :] = 0
    return torch.from_numpy(raw.view(np.float32))


@settings(max_examples=500, deadline=None)
@given(data=st.data(), fidelity=st.sampled_from(FIDELITIES), wide=st.booleans(), wormhole=st.booleans())
def test_equals_plain_python_on_any_bits(data: st.DataObject, fidelity: str, wide: bool, wormhole: bool) -> None:
    upper = data.draw(st.booleans())
    depth = data.draw(st.sampled_from([32, 33, 64]))
    in0, in1 = data.draw(matrices((2, depth), upper)), data.draw(matrices((depth, 3), upper))
    start = data.draw(matrices((2, 3), not wide))
    result = matmul(
        in0, in1, math_fidelity=fidelity, fp32_dest_acc_en=wide, arch="wormhole" if wormhole else "blackhole",
        out="dst", weight_format="bf16" if upper else "fp32", initial_dst=start,
    )  # fmt: skip
    expected = product_of(in0, in1, start, fidelity, wide, wormhole)
    np.testing.assert_array_equal(bits(result), bits(expected))


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(), op=st.sampled_from(["add", "sub", "mul"]), fidelity=st.sampled_from(FIDELITIES), wide=st.booleans(),
    wormhole=st.booleans(), onto=st.booleans(),
)  # fmt: skip
def test_eltwise_equals_plain_python(
    data: st.DataObject, op: str, fidelity: str, wide: bool, wormhole: bool, onto: bool
) -> None:
    a, b = data.draw(matrices((4, 5), False)), data.draw(matrices((4, 5), False))
    start = data.draw(matrices((4, 5), not wide)) if onto else torch.zeros(4, 5)
    result = eltwise(
        op, a, b, math_fidelity=fidelity, fp32_dest_acc_en=wide, arch="wormhole" if wormhole else "blackhole",
        out="dst", initial_dst=start if onto else None,
    )  # fmt: skip
    np.testing.assert_array_equal(bits(result), bits(elements(op, a, b, start, fidelity, wide, wormhole)))


@BOTH
@pytest.mark.parametrize("packer_l1_acc", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_blocks_equal_plain_python(packer_l1_acc: bool, with_bias: bool, wide: bool) -> None:
    random = torch.Generator().manual_seed(9)
    in0 = (torch.randn(3, 128, generator=random) * torch.exp(3 * torch.randn(128, generator=random))).bfloat16().float()
    in1 = torch.randn(128, 18, generator=random).bfloat16().float()
    bias = torch.randn(18, generator=random).bfloat16().float() if with_bias else None
    seen: dict[str, set[bytes]] = {"bf16": set(), "bfp8": set(), "fp32": set()}
    for block in (1, 2, 4):
        for out, results in seen.items():
            result = matmul(
                in0, in1, math_fidelity="HiFi2", fp32_dest_acc_en=wide, in0_block_w=block,
                packer_l1_acc=packer_l1_acc, out=out, bias=bias,
            )  # fmt: skip
            expected = matmul_in_blocks(in0, in1, "HiFi2", wide, True, 32 * block, packer_l1_acc, out, bias)
            np.testing.assert_array_equal(bits(result), bits(expected))
            results.add(bits(result).tobytes())
    # Dst packed to its own format and reloaded is the same Dst; sums in L1 and block formats leave their mark.
    if packer_l1_acc:
        # A bias wants tf32, which hides differences of fp32 sums.
        assert len(seen["fp32"]) > 1 or (wide and with_bias)
    elif wide:
        assert len(seen["fp32"]) == 1
    else:
        assert len(seen["bf16"]) == 1
        assert len(seen["bfp8"]) > 1
    whole = matmul(in0, in1, math_fidelity="HiFi2", fp32_dest_acc_en=wide, bias=bias)
    assert bits(whole).tobytes() in seen["bf16"]


def test_bias_in_other_shapes() -> None:
    random = torch.Generator().manual_seed(10)
    in0 = torch.randn(2, 3, 40, generator=random).bfloat16()
    in1, bias = torch.randn(40, 6, generator=random).bfloat16(), torch.randn(3, 6, generator=random).bfloat16()
    options = {"math_fidelity": "HiFi4", "fp32_dest_acc_en": True}
    result = matmul(in0, in1, bias=bias, **options)
    dst = matmul(in0, in1, out="dst", **options)
    np.testing.assert_array_equal(bits(result), bits(eltwise("add", dst, bias, **options)))


def test_bfp4_weights_need_one_phase_of_in1() -> None:
    random = torch.Generator().manual_seed(11)
    in0 = torch.randn(20, 64, generator=random).bfloat16()
    in1 = quantize(torch.randn(64, 48, generator=random), "bfp4")
    one, two = (
        matmul(in0, in1, math_fidelity=f, fp32_dest_acc_en=True, weight_format="bfp4") for f in ("LoFi", "HiFi2")
    )
    np.testing.assert_array_equal(bits(one), bits(two))
