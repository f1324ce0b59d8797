# SPDX-License-Identifier: Apache-2.0
"""formats.py against arrays made by ttnn itself, and against the rules written once more in plain integers."""

import os
import struct
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from places import DATA
from tt_transformers_v2.numerics import FORMATS, pack_tiles, quantize, unpack_tiles
from tt_transformers_v2.numerics.formats import MAGNITUDE_BITS, TILE_BYTES, decode_blocks

GOLDEN = DATA / "golden"
PACKING = sorted((GOLDEN / "host_packing").glob("*.npz"))
TTNN_NAMES = {"bfp8": "bfloat8_b", "bfp4": "bfloat4_b"}


def bits(x: torch.Tensor) -> np.ndarray:
    return x.contiguous().numpy().view(np.uint32)


def from_bits(values: object) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.uint32).view(np.float32))


# ---- the rules once more, slow and plain ----


def plain_block(block: list[int], width: int) -> tuple[int, list[tuple[int, int]]]:
    """16 float32 bit patterns -> shared exponent, and (sign, magnitude) of each."""
    shared = max((v >> 23) & 0xFF for v in block)
    numbers = []
    for v in block:
        e = (v >> 23) & 0xFF
        significand = (v & 0x7FFFFF) | 0x800000 if e else 0
        aligned = significand >> (shared - e)
        q = min(round(Fraction(aligned, 1 << (24 - width))), (1 << width) - 1)  # round() is half to even
        numbers.append((v >> 31 if q else 0, q))
    return shared, numbers


def plain_value(shared: int, sign: int, q: int, width: int) -> int:
    """float32 bits of (-1)^sign * q * 2^(shared - 127 - (width - 1))."""
    if q == 0:
        return 0
    if shared == 255:  # no float32: the exponent field of the normalised number is kept
        lead = q.bit_length() - 1
        return sign << 31 | (255 - (width - 1 - lead)) << 23 | ((q << (23 - lead)) & 0x7FFFFF)
    value = float((-1) ** sign * q * Fraction(2) ** (shared - 127 - (width - 1)))
    return struct.unpack("<I", struct.pack("<f", value))[0]


def plain_bf16(v: int) -> int:
    if v & 0x7FFFFFFF > 0x7F800000:
        return 0x7FC0
    return round(Fraction(v, 1 << 16))


def plain_tile(matrix: np.ndarray, width: int) -> bytes:
    """32x32 float32 bit patterns -> the bytes of one tile."""
    exponents, numbers = [], []
    for face_row in (0, 16):
        for face_column in (0, 16):
            for row in range(16):
                block = matrix[face_row + row, face_column : face_column + 16].tolist()
                shared, coded = plain_block(block, width)
                exponents.append(shared)
                numbers += [sign << width | q for sign, q in coded]
    each = 8 // (width + 1)
    packed = [sum(n << (i * (width + 1)) for i, n in enumerate(numbers[at : at + each])) for at in range(0, 1024, each)]
    return bytes(exponents + packed)


# ---- golden ----


def test_every_golden_array_of_the_host() -> None:
    compared = 0
    for path in PACKING:
        data = np.load(path)
        x = torch.from_numpy(data["x_bits"].view(np.float32))
        for fmt, name in TTNN_NAMES.items():
            tiles = pack_tiles(x, fmt)
            np.testing.assert_array_equal(tiles.numpy().reshape(-1), data[f"{name}_tile_bytes"], str(path))
            np.testing.assert_array_equal(bits(quantize(x, fmt)), data[f"{name}_value_bits"], str(path))
            unpacked = unpack_tiles(tiles, (64, 64), fmt)
            np.testing.assert_array_equal(bits(unpacked), data[f"{name}_value_bits"], str(path))
            compared += 2
        np.testing.assert_array_equal(bits(quantize(x, "bf16")) >> 16, data["bfloat16_bits"], str(path))
        assert not np.any(bits(quantize(x, "bf16")) & 0xFFFF)
        compared += 1
    assert compared == 15 * 5


def test_weights_of_the_golden_matmul_in_three_block_formats() -> None:
    data = np.load(GOLDEN / "matrix_unit" / "wh_matmul_K128.npz")
    weights = torch.from_numpy(data["in1_f32"])
    for fmt in ("bfp8", "bfp4", "bfp2"):
        tiles = pack_tiles(weights, fmt).reshape(4, 2, -1).transpose(0, 1)
        np.testing.assert_array_equal(tiles.numpy(), data[f"in1_{fmt}_tiles"])
        np.testing.assert_array_equal(bits(quantize(weights, fmt)) >> 16, data[f"in1_{fmt}_decoded_bf16"])


# ---- plain integers ----

any_bits = st.integers(0, 2**32 - 1)
# Exponents close to each other and significands close to ties, where rounding decides.
near_ties = st.builds(
    lambda sign, e, high, low: sign << 31 | e << 23 | high << 13 | low,
    st.integers(0, 1),
    st.integers(118, 130),
    st.integers(0, 1023),
    st.sampled_from([0, 1, 0x0FFF, 0x1000, 0x1001, 0x1FFF]),
)
edges = st.builds(
    lambda sign, e, m: sign << 31 | e << 23 | m,
    st.integers(0, 1),
    st.sampled_from([0, 1, 2, 3, 6, 7, 8, 253, 254, 255]),
    st.sampled_from([0, 1, 0x3FFFFF, 0x400000, 0x7F0000, 0x7FFFFF]),
)
blocks = st.one_of(*(st.lists(kind, min_size=16, max_size=16) for kind in (any_bits, near_ties, edges)))


@settings(max_examples=300, deadline=None)
@given(block=blocks, fmt=st.sampled_from(sorted(MAGNITUDE_BITS)))
def test_blocks_equal_the_plain_rules(block: list[int], fmt: str) -> None:
    width = MAGNITUDE_BITS[fmt]
    shared, numbers = plain_block(block, width)
    expected = [plain_value(shared, sign, q, width) for sign, q in numbers]
    assert bits(quantize(from_bits(block), fmt)).tolist() == expected
    codes = torch.tensor([sign << width | q for sign, q in numbers], dtype=torch.uint8)
    decoded = decode_blocks(codes, torch.tensor([shared], dtype=torch.uint8), fmt)
    assert bits(decoded).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0, 4, 255]), fmt=st.sampled_from(sorted(MAGNITUDE_BITS)))
def test_tile_bytes_equal_the_plain_rules(seed: int, spread: int, fmt: str) -> None:
    random = np.random.default_rng(seed)
    matrix = random.integers(0, 2**32, (32, 32), dtype=np.uint32)
    if spread < 255:
        exponents = random.integers(127 - spread, 128, (32, 32), dtype=np.uint32)
        matrix = (matrix & np.uint32(0x807FFFFF)) | (exponents << np.uint32(23))
    tiles = pack_tiles(torch.from_numpy(matrix.view(np.float32)), fmt)
    assert tiles.numpy().tobytes() == plain_tile(matrix, MAGNITUDE_BITS[fmt])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(any_bits, near_ties, edges), min_size=1, max_size=40))
def test_bf16_equals_the_plain_rule(values: list[int]) -> None:
    assert (bits(quantize(from_bits(values), "bf16")) >> 16).tolist() == [plain_bf16(v) for v in values]


def test_special_values_one_by_one() -> None:
    special = from_bits([0x80000000, 0x00000001, 0x7F800000, 0xFF800000, 0xFFFFFFFF, 0x7F7FFFFF])
    assert (bits(quantize(special, "bf16")) >> 16).tolist() == [0x8000, 0, 0x7F80, 0xFF80, 0x7FC0, 0x7F80]
    assert bits(quantize(from_bits([0x80000000] * 16), "bfp8")).tolist() == [0] * 16
    assert bits(quantize(special, "fp32")).tolist() == bits(special).tolist()
    # The dropped bit decides: rounding the exact quotient would give 2/64 above and below alike.
    sticky = from_bits([0x3F800000, 0x3CC00001])
    assert quantize(sticky, "bfp8").tolist() == [1.0, 2 / 64]
    assert quantize(from_bits([0x3F800000, 0x3D200001]), "bfp8").tolist() == [1.0, 2 / 64]
    # 127.5/64 saturates instead of raising the exponent.
    assert quantize(torch.tensor([255 / 128]), "bfp8").item() == 127 / 64


# ---- shapes, layouts, types ----


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("shape", [(64, 96), (1, 1), (33, 17), (31, 100)])
def test_unpacking_gives_the_values_back(fmt: str, shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    tiles = pack_tiles(x, fmt)
    assert tiles.dtype == torch.uint8
    assert tiles.shape == (-(-shape[0] // 32) * -(-shape[1] // 32), TILE_BYTES[fmt])
    torch.testing.assert_close(unpack_tiles(tiles, shape, fmt), quantize(x, fmt), rtol=0, atol=0)
    # Values of a format stay what they are.
    again = pack_tiles(quantize(x, fmt), fmt)
    torch.testing.assert_close(again, tiles, rtol=0, atol=0)


@pytest.mark.parametrize("fmt", FORMATS)
def test_leading_shapes_strides_and_threads_make_no_difference(fmt: str) -> None:
    x = torch.randn(6, 500, 40, generator=torch.Generator().manual_seed(2))
    whole = quantize(x, fmt)
    assert whole.shape == x.shape
    torch.testing.assert_close(whole[3, 7], quantize(x[3, 7], fmt), rtol=0, atol=0)
    torch.testing.assert_close(quantize(x[..., ::2], fmt), quantize(x[..., ::2].contiguous(), fmt), rtol=0, atol=0)
    torch.testing.assert_close(quantize(x.transpose(1, 2), fmt)[0], quantize(x[0].T.clone(), fmt), rtol=0, atol=0)
    before = torch.get_num_threads()
    flat = x.reshape(3000, 40)
    tiles = pack_tiles(flat, fmt)
    try:
        torch.set_num_threads(1)
        torch.testing.assert_close(quantize(x, fmt), whole, rtol=0, atol=0)
        torch.testing.assert_close(pack_tiles(flat, fmt), tiles, rtol=0, atol=0)
    finally:
        torch.set_num_threads(before)


def test_every_bfloat16_is_taken_as_its_float32() -> None:
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    wide = from_bits(np.arange(65536, dtype=np.uint32) << 16)
    for fmt in FORMATS:
        assert bits(quantize(every, fmt)).tolist() == bits(quantize(wide, fmt)).tolist()


def test_empty_tensors_and_gradients() -> None:
    assert quantize(torch.empty(3, 0), "bfp8").shape == (3, 0)
    assert not quantize(torch.ones(4, requires_grad=True), "bfp4").requires_grad


def test_tiles_at_an_odd_address() -> None:
    tiles = pack_tiles(torch.randn(32, 32), "bfp4")
    moved = torch.zeros(577, dtype=torch.uint8)
    moved[1:] = tiles[0]
    torch.testing.assert_close(
        unpack_tiles(moved[1:][None], (32, 32), "bfp4"), unpack_tiles(tiles, (32, 32), "bfp4"), rtol=0, atol=0
    )


def test_mistakes_name_the_argument() -> None:
    x = torch.zeros(32, 32)
    for call in (quantize, pack_tiles, lambda t, f: unpack_tiles(t, (32, 32), f)):
        with pytest.raises(ValueError, match="fmt must be one of fp32, bf16, bfp8, bfp4, bfp2, not 'bfp16'"):
            call(x, "bfp16")
    for dtype in (torch.float16, torch.float64, torch.int32):
        with pytest.raises(ValueError, match="x must be float32 or bfloat16"):
            quantize(x.to(dtype), "bfp8")
    with pytest.raises(ValueError, match="x must be on the CPU"):
        quantize(torch.empty(4, 4, device="meta"), "bf16")
    with pytest.raises(ValueError, match="x must have at least one dimension"):
        quantize(torch.tensor(1.0), "bfp8")
    for shape in ((32,), (2, 32, 32), (0, 32)):
        with pytest.raises(ValueError, match="x must be a non-empty matrix"):
            pack_tiles(torch.zeros(shape), "bfp8")
    with pytest.raises(ValueError, match=r"tiles must have shape \[2, 576\].*not \[1, 576\]"):
        unpack_tiles(torch.zeros(1, 576, dtype=torch.uint8), (33, 32), "bfp4")
    with pytest.raises(ValueError, match="tiles must be a uint8"):
        unpack_tiles(x, (32, 32), "bfp4")
    with pytest.raises(ValueError, match="shape must be"):
        unpack_tiles(torch.zeros(1, 576, dtype=torch.uint8), (0, 32), "bfp4")
    with pytest.raises(ValueError, match="codes has 17"):
        decode_blocks(torch.zeros(17, dtype=torch.uint8), torch.zeros(1, dtype=torch.uint8), "bfp8")


# ---- the package ----


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        timeout=60,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, tt_transformers_v2.numerics as n; assert not {'torch', 'numba'} & set(sys.modules); "
        "print(n.FORMATS[0])"
    )
    assert run_python(code) == "fp32"


def test_nothing_breaks_where_no_cache_can_be_written() -> None:
    code = """
import numba.core.caching as caching
def refuse(*args): raise RuntimeError("cannot cache function: no locator available")
caching.CacheImpl.__init__ = refuse
import torch
from tt_transformers_v2.numerics import quantize
print(quantize(torch.tensor([1.00390625]), "bf16").item())
"""
    assert run_python(code) == "1.0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_work_too() -> None:
    code = """
import os, torch
from tt_transformers_v2.numerics import quantize
torch.set_num_threads(2)
x = torch.ones(512, 512)
quantize(x, "bf16")
child = os.fork()
if child == 0:  # torch's own OpenMP does not survive a fork, so numpy looks at the result
    os._exit(0 if quantize(x, "bf16").numpy().min() == 1.0 else 1)
print(os.waitpid(child, 0)[1])
"""
    assert run_python(code) == "0"
