# SPDX-License-Identifier: Apache-2.0
"""The exact matrix unit against every golden array of ttsim: 0 differing bits, and none left out."""

import numpy as np
import pytest
import torch

from places import DATA
from tt_transformers_v2.numerics import exact_float
from tt_transformers_v2.numerics.blocks import l1_add
from tt_transformers_v2.numerics.formats import quantize, unpack_tiles
from tt_transformers_v2.numerics.matrix_unit import PreparedIn1, eltwise, matmul, pack, prepare_in1

GOLDEN = DATA / "golden" / "matrix_unit"
ARCHS = {"wormhole": "wh", "blackhole": "bh"}
FIDELITIES = ("LoFi", "HiFi2", "HiFi3", "HiFi4")
WEIGHTS = ("bf16", "bfp8", "bfp4")
MODES = {"fp32": True, "bf16": False}


def golden(arch: str, name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"wh_{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    if arch == "blackhole":
        with np.load(GOLDEN / f"bh_{name}.npz") as file:
            own = {key: file[key] for key in file.files if key != "same_as_wormhole"}
            assert sorted([*own, *file["same_as_wormhole"]]) == sorted(arrays)
        arrays.update(own)
    return arrays


def tensor(x: np.ndarray) -> torch.Tensor:
    wide = x.astype(np.uint32) << 16 if x.dtype == np.uint16 else x
    return torch.from_numpy(wide.view(np.float32).copy())


def bits(x: torch.Tensor) -> np.ndarray:
    return x.contiguous().numpy().view(np.uint32)


def check(result: torch.Tensor, expected: np.ndarray, fmt: str = "dst") -> int:
    """Raises unless equal bit for bit; 1, to be counted."""
    if fmt in ("bfp8", "bfp4") or expected.dtype == np.uint8:
        tiles = torch.from_numpy(expected.reshape(-1, expected.shape[-1]))
        np.testing.assert_array_equal(bits(result), bits(unpack_tiles(tiles, tuple(result.shape), fmt)))
    elif expected.dtype == np.uint16:
        np.testing.assert_array_equal(bits(result), expected.astype(np.uint32) << 16)
    else:
        np.testing.assert_array_equal(bits(result), expected)
    return 1


def counted(arrays: dict[str, np.ndarray], *prefixes: str) -> int:
    return sum(key.startswith(prefixes) for key in arrays)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("depth", [128, 1024])
def test_matmul(arch: str, depth: int) -> None:
    arrays = golden(arch, f"matmul_K{depth}")
    in0, compared = tensor(arrays["in0_bf16"]), 0
    for weight in WEIGHTS:
        in1 = tensor(arrays["in1_bf16" if weight == "bf16" else f"in1_{weight}_decoded_bf16"])
        np.testing.assert_array_equal(bits(quantize(tensor(arrays["in1_f32"]), weight)), bits(in1))
        for fidelity in FIDELITIES:
            prepared = prepare_in1(in1, fidelity, weight_format=weight)
            for mode, wide in MODES.items():
                how = {"math_fidelity": fidelity, "fp32_dest_acc_en": wide, "arch": arch}
                dst = matmul(in0, prepared, out="dst", **how)
                compared += check(dst, arrays[f"dst_{weight}_{fidelity}_{mode}"])
                for out in WEIGHTS:
                    expected = arrays[f"{out}_{weight}_{fidelity}_{mode}"]
                    compared += check(matmul(in0, in1, out=out, weight_format=weight, **how), expected, out)
    # bfp2 weights are given too; the simulator's unit refuses them, so there are no results with them.
    assert compared == counted(arrays, "dst_", "bf16_", "bfp8_", "bfp4_") == 96
    assert counted(arrays, "in") + compared == len(arrays)


@pytest.mark.parametrize("arch", ARCHS)
def test_fp32_operands(arch: str) -> None:
    arrays = golden(arch, "matmul_fp32in_K128")
    in0, in1, compared = tensor(arrays["in0_f32"]), tensor(arrays["in1_f32"]), 0
    for fidelity in FIDELITIES:
        how = {"math_fidelity": fidelity, "fp32_dest_acc_en": True, "arch": arch, "out": "dst"}
        compared += check(matmul(in0, in1, weight_format="fp32", **how), arrays[f"dst_tf32_{fidelity}_fp32"])
    assert compared + 2 == len(arrays) == 6


@pytest.mark.parametrize("arch", ARCHS)
def test_edges_with_initial_dst(arch: str) -> None:
    arrays = golden(arch, "edge")
    compared = 0
    for key in [k for k in arrays if k.startswith("dst_")]:
        case, rest = key.removeprefix("dst_").split("_D0")
        start, fidelity, mode = rest.split("_")
        in0, in1 = tensor(arrays[f"{case}_in0_bf16"]), tensor(arrays[f"{case}_in1_bf16"])
        how = {"math_fidelity": fidelity, "fp32_dest_acc_en": MODES[mode], "arch": arch}
        dst = matmul(in0, in1, initial_dst=tensor(arrays[f"D0_{start}"]), out="dst", **how)
        compared += check(dst, arrays[key])
        for out in WEIGHTS:
            expected = arrays[key.replace("dst_", f"{out}_", 1)]
            compared += check(pack(dst, out, MODES[mode]), expected, out)
    assert compared == 9 * 3 * 4 * 2 * 4
    assert compared + counted(arrays, "D0_") + 9 * 2 == len(arrays)


@pytest.mark.parametrize("arch", ARCHS)
def test_eltwise(arch: str) -> None:
    arrays = golden(arch, "eltwise")
    compared = 0
    for key in [k for k in arrays if k.startswith("dst_")]:
        case, op, fidelity, mode = key.removeprefix("dst_").split("_")
        a, b = tensor(arrays[f"{case}_a"]), tensor(arrays[f"{case}_b"])
        how = {"math_fidelity": fidelity, "fp32_dest_acc_en": MODES[mode], "arch": arch}
        compared += check(eltwise(op, a, b, out="dst", **how), arrays[key])
        compared += check(eltwise(op, a, b, out="bf16", **how), arrays[key.replace("dst_", "bf16_", 1)])
    assert compared + 4 == len(arrays) == 52


@pytest.mark.parametrize("arch", ARCHS)
def test_pack_and_accumulation_in_l1(arch: str) -> None:
    arrays = golden(arch, "pack")
    compared, unsupported = 0, 0
    for key in arrays:
        case, _, rest = key.partition("_")
        if rest == "D" or rest.endswith("_base"):
            continue
        if rest.endswith(("_precise", "_relu")):
            # Other settings of the packer than those the matmul kernels use.
            unsupported += 1
            continue
        mode, _, kind = rest.partition("dst_")
        wide = MODES[mode]
        dst = tensor(arrays[f"{case}_D"] & np.uint32(0xFFFFFFFF if wide else 0xFFFF0000))
        if kind.startswith("l1acc"):
            fmt = kind.removeprefix("l1acc_")
            there = unpack_tiles(torch.from_numpy(arrays[f"{key}_base"][None]), (32, 32), fmt)
            compared += check(l1_add(there, pack(dst, fmt, wide), fmt), arrays[key], fmt)
        else:
            fmt = kind.removeprefix("to_").removesuffix("_via_bfp8")
            compared += check(pack(dst, fmt, wide), arrays[key], fmt)
    assert compared == 3 * (3 + 2 + 3 + 1)
    assert unsupported == 3 * 8
    assert compared + unsupported + counted({k: v for k, v in arrays.items() if k.endswith(("_D", "_base"))}, "") == 63


# ---- shapes ----


@pytest.mark.parametrize("wide", [True, False])
def test_batched_ragged_prepared_and_turned_agree(wide: bool) -> None:
    random = torch.Generator().manual_seed(4)
    in0 = torch.randn(2, 3, 9, 50, generator=random).bfloat16()
    one = torch.randn(50, 21, generator=random).bfloat16().float()
    many = torch.randn(2, 1, 50, 21, generator=random).bfloat16()
    options = {"math_fidelity": "HiFi3", "fp32_dest_acc_en": wide, "out": "dst"}
    shared, batched = matmul(in0, one, **options), matmul(in0, many, **options)
    assert shared.shape == batched.shape == (2, 3, 9, 21)
    for i in range(2):
        for j in range(3):
            np.testing.assert_array_equal(bits(shared[i, j]), bits(matmul(in0[i, j], one, **options)))
            np.testing.assert_array_equal(bits(batched[i, j]), bits(matmul(in0[i, j], many[i, 0], **options)))
    prepared = prepare_in1(one, "HiFi3")
    assert isinstance(prepared, PreparedIn1)
    assert prepared.shape == (50, 21)
    assert prepared.values.dtype == torch.bfloat16
    np.testing.assert_array_equal(bits(matmul(in0.float(), prepared, **options)), bits(shared))
    turned = matmul(in0.mT.contiguous().mT, one.T.contiguous().T, **options)
    np.testing.assert_array_equal(bits(turned), bits(shared))
    expanded = matmul(in0, many.expand(2, 3, 50, 21), **options)
    np.testing.assert_array_equal(bits(expanded), bits(batched))
    padded = matmul(torch.nn.functional.pad(in0, (0, 14)), torch.nn.functional.pad(one, (0, 0, 0, 14)), **options)
    np.testing.assert_array_equal(bits(padded), bits(shared))


@pytest.mark.parametrize("shape", [(65, 64, 129), (1, 33, 128), (130, 32, 1), (128, 40, 300)])
def test_edges_of_tasks(shape: tuple[int, int, int]) -> None:
    rows, depth, columns = shape
    random = torch.Generator().manual_seed(5)
    in0 = torch.randn(rows, depth, generator=random).bfloat16()
    in1 = torch.randn(depth, columns, generator=random).bfloat16()
    options = {"math_fidelity": "HiFi4", "fp32_dest_acc_en": True, "out": "dst"}
    whole = matmul(in0, in1, **options)
    for r in (0, rows // 2, rows - 1):
        for c in (0, columns // 2, columns - 1):
            one = matmul(in0[r : r + 1], in1[:, c : c + 1], **options)
            assert bits(one)[0, 0] == bits(whole)[r, c]


@pytest.mark.parametrize("wide", [True, False])
def test_nothing_times_something(wide: bool) -> None:
    options = {"math_fidelity": "HiFi3", "fp32_dest_acc_en": wide}
    assert matmul(torch.zeros(2, 0, 8), torch.zeros(8, 3), **options).shape == (2, 0, 3)
    assert matmul(torch.zeros(0, 4, 8), torch.zeros(0, 8, 3), **options).shape == (0, 4, 3)
    assert matmul(torch.zeros(2, 4, 0), torch.zeros(0, 3), **options).tolist() == torch.zeros(2, 4, 3).tolist()


def test_mistakes_name_the_argument() -> None:
    in0, in1, no_block = torch.zeros(4, 64), torch.zeros(64, 2), torch.tensor([[1, 2.0**-9]]).expand(64, 2)
    options = {"math_fidelity": "HiFi2", "fp32_dest_acc_en": True}
    mistakes = {
        "math_fidelity must be one of": {"math_fidelity": "HiFi9"},
        "arch must be one of": {"arch": "grayskull"},
        "out must be one of bf16, fp32, bfp8, bfp4, dst": {"out": "bfp2"},
        "weight_format must be one of": {"weight_format": "bfp2"},
        "in0_block_w must divide the 2 tiles": {"in0_block_w": 3},
        "initial_dst must be a float32 tensor": {"initial_dst": torch.zeros(4, 3)},
        r"bias \[3\] does not broadcast": {"bias": torch.zeros(3)},
        "bias must be float32 or bfloat16": {"bias": torch.zeros(2).double()},
        "bias holds values that are not bf16": {"bias": torch.full((2,), 0.1)},
        "in0 holds values that are not bf16": {"in0": in0 + 0.1},
        "in1 holds values that are not bf16": {"in1": in1 + 0.1},
        "in1 holds values that are not bfp8": {"in1": no_block, "weight_format": "bfp8"},
        "in0 must be float32": {"in0": in0.half()},
        "in0 must have at least 2": {"in0": in0[0]},
        r"in0 \[4, 64\] and in1 \[63, 2\] do not agree in K": {"in1": in1[:63]},
        "batch dimensions": {"in0": torch.zeros(2, 4, 64), "in1": torch.zeros(3, 64, 2)},
        "in1 was prepared for LoFi, not for HiFi2": {"in1": prepare_in1(in1, "LoFi")},
    }  # fmt: skip
    for message, change in mistakes.items():
        with pytest.raises(ValueError, match=message):
            matmul(**{"in0": in0, "in1": in1, **options, **change})
    with pytest.raises(ValueError, match="op must be one of add, sub, mul"):
        eltwise("div", in0, in0, **options)
    with pytest.raises(ValueError, match=r"a \[4, 64\] and b \[64, 2\] do not broadcast"):
        eltwise("add", in0, in1, **options)
    with pytest.raises(ValueError, match="fmt must be fp32 or bf16"):
        l1_add(in0, in0, "bfp8")
    with pytest.raises(ValueError, match="out must be one of"):
        pack(in0, "dst", True)


def test_values_of_every_format_are_accepted() -> None:
    random = torch.Generator().manual_seed(6)
    in0, raw = torch.ones(2, 64), torch.randn(64, 20, generator=random)
    raw[3, 4], raw[5, 6] = -0.0, float("inf")
    for weight in (*WEIGHTS, "fp32"):
        in1 = quantize(raw, weight)
        options = {"math_fidelity": "HiFi4", "fp32_dest_acc_en": True, "out": "dst"}
        direct = matmul(in0, in1, weight_format=weight, **options)
        prepared = matmul(in0, prepare_in1(in1, "HiFi4", weight_format=weight), **options)
        np.testing.assert_array_equal(bits(direct), bits(prepared))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_blocks_packed_onto_l1_do_not_depend_on_the_way_of_computing(
    monkeypatch: pytest.MonkeyPatch, wide: bool, bias: bool
) -> None:
    generator = torch.Generator().manual_seed(11)
    in0 = quantize(torch.randn(2, 9, 200, generator=generator), "bf16")
    in1 = quantize(torch.randn(200, 300, generator=generator), "bf16")
    in0[0, 3, 70] = 2.0**120  # left over in the second block of K
    in0[1, 8, 199] = 2.0**125
    in1[150, 280] = 2.0**100  # one panel of columns
    extra = quantize(torch.randn(300, generator=generator), "bf16") if bias else None

    def product() -> torch.Tensor:
        return matmul(
            in0, in1, math_fidelity="HiFi3", fp32_dest_acc_en=wide, in0_block_w=1, out="dst", bias=extra
        )  # seven blocks

    mixed = product()
    monkeypatch.setattr(exact_float, "LONGEST", 0)  # all of it in integers
    assert torch.equal(mixed.view(torch.int32), product().view(torch.int32))
