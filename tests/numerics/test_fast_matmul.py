# SPDX-License-Identifier: Apache-2.0
"""The packer bit for bit, the fast matmul within the deviation it documents, against the golden matmul."""

import numpy as np
import pytest
import torch
from source_parts import src_a_parts, src_b_parts

from places import DATA
from tt_transformers_v2.numerics.fast_matmul import COLUMNS, ROWS, matmul, prepare_in1
from tt_transformers_v2.numerics.formats import quantize, unpack_tiles
from tt_transformers_v2.numerics.matrix_unit import matmul as exact_matmul
from tt_transformers_v2.numerics.packer import pack_output

GOLDEN = np.load(DATA / "golden" / "matrix_unit" / "wh_matmul_K128.npz")
FIDELITIES = ("LoFi", "HiFi2", "HiFi3", "HiFi4")
CASES = [(w, f, d) for w in ("bf16", "bfp8", "bfp4") for f in FIDELITIES for d in ("fp32", "bf16")]


def from_bf16(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((values.astype(np.uint32) << 16).view(np.float32))


def weights(name: str) -> torch.Tensor:
    return from_bf16(GOLDEN["in1_bf16" if name == "bf16" else f"in1_{name}_decoded_bf16"])


def bits(x: torch.Tensor) -> np.ndarray:
    return x.contiguous().numpy().view(np.uint32)


def from_bits(values: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.uint32).view(np.float32))


# ---- packer ----


def test_packer_equals_every_golden_result() -> None:
    compared = 0
    for weight, fidelity, mode in CASES:
        case = f"{weight}_{fidelity}_{mode}"
        dst = torch.from_numpy(GOLDEN[f"dst_{case}"].view(np.float32))
        wide = mode == "fp32"
        np.testing.assert_array_equal(bits(pack_output(dst, "bf16", wide)) >> 16, GOLDEN[f"bf16_{case}"])
        for out in ("bfp8", "bfp4"):
            expected = unpack_tiles(torch.from_numpy(GOLDEN[f"{out}_{case}"]), (32, 64), out)
            np.testing.assert_array_equal(bits(pack_output(dst, out, wide)), bits(expected))
        compared += 3
    assert compared == 72


def test_packer_specials() -> None:
    special = from_bits([0x7FC12345, 0xFF800001, 0x80000000, 0x007FFFFF, 0x3F808000, 0xBF808000, 0x7F7FFFFF])
    expected = [0x7F80, 0xFF80, 0, 0, 0x3F81, 0xBF81, 0x7F80]
    assert (bits(pack_output(special, "bf16", True)) >> 16).tolist() == expected
    copied = from_bits([0x7FC10000, 0x80000000, 0x007F0000, 0x3F810000])
    assert (bits(pack_output(copied, "bf16", False)) >> 16).tolist() == [0x7F80, 0, 0, 0x3F81]
    assert pack_output(special, "fp32", True) is special
    # NaN has become infinity before numbers share an exponent.
    assert bits(pack_output(from_bits([0x7FB97B8E, 0x3F800000]), "bfp8", True)).tolist() == [0x7F800000, 0]
    # bfp8 rounds half away from zero; bfp4 cuts bfp8's upper three bits off.
    x = torch.tensor([1.0, 1.015625 / 64, -31 / 64, 1 / 64, -1 / 64])
    assert pack_output(x, "bfp4", True).tolist() == [1.0, 0.0, -0.25, 0.0, 0.0]
    assert pack_output(torch.tensor([1.0, -2.5 / 64]), "bfp8", True).tolist() == [1.0, -3 / 64]


def test_packer_ragged_rows() -> None:
    x = torch.randn(5, 3, 20)
    for out in ("bfp8", "bfp4"):
        padded = pack_output(torch.nn.functional.pad(x, (0, 12)), out, True)[..., :20]
        torch.testing.assert_close(pack_output(x, out, True), padded, rtol=0, atol=0)


# ---- matmul against the exact unit ----


@pytest.mark.parametrize(("weight", "fidelity", "mode"), CASES)
def test_deviation_from_the_exact_unit(weight: str, fidelity: str, mode: str) -> None:
    in0, in1 = from_bf16(GOLDEN["in0_bf16"]), weights(weight)
    exact = torch.from_numpy(GOLDEN[f"dst_{weight}_{fidelity}_{mode}"].view(np.float32)).double()
    wide = mode == "fp32"
    fast = matmul(in0, in1, math_fidelity=fidelity, fp32_dest_acc_en=wide, out="fp32").double()
    assert ((fast - exact).norm() / exact.norm()).item() < (3.5e-4 if wide else 3e-3)
    if not wide:
        assert (fast == exact).double().mean().item() > 0.7
        # The size of the whole is right too: ties away from zero let a bf16 Dst grow.
        assert abs((fast * exact).sum() / (exact * exact).sum() - 1).item() < 5e-4
    packed = torch.from_numpy(GOLDEN[f"bf16_{weight}_{fidelity}_{mode}"].astype(np.int32) << 16).view(torch.float32)
    result = matmul(in0, in1, math_fidelity=fidelity, fp32_dest_acc_en=wide)
    # A difference of 3e-4 mostly disappears in a step of bf16 (2^-8), sometimes it decides.
    assert (result == packed).double().mean().item() > (0.8 if wide else 0.7)


def test_fp32_dst_uses_the_parts_of_each_fidelity() -> None:
    in0, in1 = from_bf16(GOLDEN["in0_bf16"]), torch.from_numpy(GOLDEN["in1_f32"])
    (b_high, b_low), (a_high, a_low) = src_b_parts(in0), src_a_parts(in1)
    terms = [b_high @ a_high, b_high @ a_low, b_low @ a_high, b_low @ a_low]
    for phases, fidelity in enumerate(FIDELITIES, 1):
        fast = matmul(in0, in1, math_fidelity=fidelity, fp32_dest_acc_en=True, out="fp32")
        torch.testing.assert_close(fast, sum(terms[:phases]), rtol=1e-5, atol=1e-6)


# ---- the bf16 accumulator, step by step ----


def plain_bf16_dst(in0: torch.Tensor, in1: torch.Tensor, phases: int) -> torch.Tensor:
    """The same steps with whole matrices; exact where the sums of eight products are."""
    (b_high, b_low), (a_high, a_low) = src_b_parts(in0), src_a_parts(in1)
    dst = torch.zeros(in0.shape[0], in1.shape[1], dtype=torch.float64)
    for k in range(0, in0.shape[1], 32):
        for phase in range(phases):
            b, a = (b_high, b_low)[phase // 2].double(), (a_high, a_low)[phase % 2].double()
            for half in (k, k + 16):
                groups = [b[:, c : c + 8] @ a[c : c + 8] for c in (half, half + 8)]
                largest = torch.stack([*groups, dst]).abs().amax(0)
                grid = torch.exp2(torch.floor(torch.log2(largest.clamp(min=1e-30))) - 10)
                total = dst + sum(torch.round(g / grid) * grid for g in groups)
                ulp = torch.exp2(torch.floor(torch.log2(total.abs().clamp(min=1e-30))) - 7)
                dst = torch.sign(total) * torch.floor(total.abs() / ulp + 0.5) * ulp
    return dst.float()


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize("shape", [(5, 64, 7), (ROWS + 3, 96, COLUMNS + 5), (1, 32, 2 * COLUMNS)])
def test_bf16_dst_follows_the_order_of_the_unit(fidelity: str, shape: tuple[int, int, int]) -> None:
    rows, depth, columns = shape
    random = torch.Generator().manual_seed(3)
    # Integers of nine bits use both parts of both operands, and every sum of eight products is exact.
    in0 = torch.randint(-255, 256, (rows, depth), generator=random).float()
    in1 = torch.randint(-255, 256, (depth, columns), generator=random).float()
    fast = matmul(in0, in1, math_fidelity=fidelity, fp32_dest_acc_en=False, out="fp32")
    expected = plain_bf16_dst(in0, in1, FIDELITIES.index(fidelity) + 1)
    torch.testing.assert_close(fast, expected, rtol=0, atol=0)


# ---- shapes and preparation ----


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_prepared_batched_and_ragged_agree(wide: bool, fidelity: str) -> None:
    random = torch.Generator().manual_seed(4)
    in0 = torch.randn(2, 3, 9, 50, generator=random)
    one, many = torch.randn(50, 21, generator=random), torch.randn(2, 1, 50, 21, generator=random)
    options = {"math_fidelity": fidelity, "fp32_dest_acc_en": wide, "out": "fp32"}
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if wide else {"rtol": 0, "atol": 0}
    shared, batched = matmul(in0, one, **options), matmul(in0, many, **options)
    assert shared.shape == batched.shape == (2, 3, 9, 21)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(shared[i, j], matmul(in0[i, j], one, **options), **tolerance)
            torch.testing.assert_close(batched[i, j], matmul(in0[i, j], many[i, 0], **options), **tolerance)
    prepared = prepare_in1(one, fidelity)
    assert prepared.shape == (50, 21)
    for _ in range(2):
        torch.testing.assert_close(matmul(in0, prepared, **options), shared, rtol=0, atol=0)
    turned = matmul(in0.transpose(-1, -2).contiguous().transpose(-1, -2), one.T.contiguous().T, **options)
    torch.testing.assert_close(turned, shared, rtol=0, atol=0)


@pytest.mark.parametrize("wide", [True, False])
def test_nothing_times_something(wide: bool) -> None:
    options = {"math_fidelity": "HiFi3", "fp32_dest_acc_en": wide}
    assert matmul(torch.zeros(2, 0, 8), torch.zeros(8, 3), **options).shape == (2, 0, 3)
    assert matmul(torch.zeros(2, 4, 0), torch.zeros(0, 3), **options).tolist() == torch.zeros(2, 4, 3).tolist()


def test_output_formats_and_types() -> None:
    in0, in1 = torch.randn(4, 32), quantize(torch.randn(32, 32), "bfp4")
    for out in ("bf16", "bfp8", "bfp4", "fp32"):
        result = matmul(in0.bfloat16(), in1, math_fidelity="HiFi2", fp32_dest_acc_en=True, out=out)
        assert result.dtype == torch.float32
        assert result.shape == (4, 32)
    # bfp4 weights fit phase 0: LoFi and HiFi2 agree bit for bit.
    low, high = (matmul(in0, in1, math_fidelity=f, fp32_dest_acc_en=False, out="fp32") for f in ("LoFi", "HiFi2"))
    torch.testing.assert_close(low, high, rtol=0, atol=0)


def test_infinite_operands_never_give_nan() -> None:
    in0 = torch.zeros(2, 32)
    in0[0, 0], in0[1, 1] = float("inf"), float("nan")
    in1 = torch.ones(32, 4)
    in1[0] = 0
    for wide in (True, False):
        result = matmul(in0, in1, math_fidelity="HiFi4", fp32_dest_acc_en=wide)
        assert result[0].tolist() == [0.0] * 4
        assert not torch.isnan(result).any()


def test_mistakes_name_the_argument() -> None:
    in0, in1 = torch.zeros(4, 8), torch.zeros(8, 2)
    options = {"math_fidelity": "HiFi2", "fp32_dest_acc_en": True}
    with pytest.raises(ValueError, match="math_fidelity must be one of"):
        matmul(in0, in1, math_fidelity="HiFi9", fp32_dest_acc_en=True)
    with pytest.raises(ValueError, match="out must be one of bf16, fp32, bfp8, bfp4, not 'bfp2'"):
        matmul(in0, in1, out="bfp2", **options)
    with pytest.raises(ValueError, match="in1 was prepared for LoFi, not for HiFi2"):
        matmul(in0, prepare_in1(in1, "LoFi"), **options)
    with pytest.raises(ValueError, match=r"in0 \[4, 8\] and in1 \[7, 2\] do not agree in K"):
        matmul(in0, in1[:7], **options)
    with pytest.raises(ValueError, match="batch dimensions"):
        matmul(torch.zeros(2, 4, 8), torch.zeros(3, 8, 2), **options)
    with pytest.raises(ValueError, match="in0 must have shape"):
        matmul(in0[0], in1, **options)
    with pytest.raises(ValueError, match="in1 must have shape"):
        matmul(in0, in1[0], **options)
    with pytest.raises(ValueError, match="in0 must be float32 or bfloat16"):
        matmul(in0.half(), in1, **options)
    with pytest.raises(ValueError, match="in1 must be float32 or bfloat16"):
        matmul(in0, in1.double(), **options)
    with pytest.raises(ValueError, match="dst must be a float32"):
        pack_output(in0.bfloat16(), "bf16", True)


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("fidelity", ["LoFi", "HiFi2", "HiFi4"])
def test_blocks_that_the_packer_adds_in_l1_follow_the_exact_unit(fidelity: str, block: int) -> None:
    """Much nearer to it than one block is, whose Dst is rounded while it is large."""
    random = torch.Generator().manual_seed(3)
    x, w = quantize(torch.randn(64, 512, generator=random), "bf16"), torch.randn(512, 96, generator=random) * 0.02
    w = quantize(w, "bfp8")
    how = {"math_fidelity": fidelity, "fp32_dest_acc_en": False, "packer_l1_acc": True}
    exact = exact_matmul(x, w, in0_block_w=block, **how)
    blocks, one = (matmul(x, w, in0_block_w=tiles, **how) for tiles in (block, None))
    deviation, of_one = ((y - exact).square().mean().sqrt() / exact.square().mean().sqrt() for y in (blocks, one))
    assert deviation < 4e-3
    assert of_one > 2 * deviation


def test_blocks_that_are_not_added_in_l1_are_one() -> None:
    x, w = quantize(torch.randn(32, 128), "bf16"), quantize(torch.randn(128, 32), "bfp8")
    how = {"math_fidelity": "HiFi2", "fp32_dest_acc_en": False}
    for block, in_l1 in ((1, False), (2, True), (4, True)):  # from three blocks on
        assert torch.equal(matmul(x, w, in0_block_w=block, packer_l1_acc=in_l1, **how), matmul(x, w, **how))
    with pytest.raises(ValueError, match="must divide the 4 tiles of K, but 3 does not"):
        matmul(x, w, in0_block_w=3, **how)
