# SPDX-License-Identifier: Apache-2.0
"""Number formats: what the host makes of a float32 tensor when it builds a device tensor, bit for bit.

Rules (checked against arrays made by ttnn 0.81.1 itself, `tests/data/golden/host_packing`):

- `fp32`: as it is.
- `bf16`: round to nearest even, subnormals kept, every NaN becomes 0x7FC0.
- `bfp8`, `bfp4`, `bfp2` (ttnn: bfloat8_b, bfloat4_b, bfloat2_b): 16 consecutive numbers of the last dimension
  share one 8-bit exponent E, the largest of theirs, and keep a sign and w = 7, 3 or 1 bits each.
  The 24-bit significand (with its hidden one) is shifted right by E - e, dropping what falls off (no sticky bit),
  then rounded half to even to w bits; what would need w + 1 bits is cut to the largest w can hold, so E never
  grows. Zeros and subnormals become 0, and 0 has no sign. Infinity and NaN are not special: their exponent is 255,
  so they turn their finite neighbours into 0. A number is worth (-1)^sign * q * 2^(E - 127 - (w - 1)).

Tiles are 32x32, four faces of 16x16 (top left, top right, bottom left, bottom right), each row-major. A tile of a
block format holds 64 exponents first, one per row of a face, then the numbers in the same order: sign above
magnitude, the lower bits of a byte first. Sizes are in `TILE_BYTES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tt_transformers_v2.common.units import TILE
from tt_transformers_v2.numerics.compiled import helper, kernel, run_split
from tt_transformers_v2.numerics.instructions import add32, bits_of, float_of, shr32

FORMATS = ("fp32", "bf16", "bfp8", "bfp4", "bfp2")
MAGNITUDE_BITS = {"bfp8": 7, "bfp4": 3, "bfp2": 1}
TILE_BYTES = {"fp32": 4096, "bf16": 2048, "bfp8": 1088, "bfp4": 576, "bfp2": 320}
BLOCK = 16

# How many numbers of a flat tensor one step handles: the codes in between stay in the first-level cache.
_STRIDE = 2048

_ZERO, _ONE = np.uint32(0), np.uint32(1)
_EXPONENT, _FRACTION, _HIDDEN = np.uint32(0x7F800000), np.uint32(0x7FFFFF), np.uint32(0x800000)
_MINUS_127 = np.uint32((1 << 32) - (127 << 23))  # added modulo 2**32, takes the bias off an exponent field
_HALF_SMALLEST = np.uint32(0x00400000)  # 2**-127


def quantize(x: torch.Tensor, fmt: str) -> torch.Tensor:
    """The values of `x` as the device sees them after the host has converted them to `fmt`.

    Args:
        x: float32 or bfloat16 CPU tensor [..., n], at least one dimension, contiguous or not. Blocks run along the
            last dimension; where 16 does not divide n the last block counts as filled up with zeros.
        fmt: one of `FORMATS`.

    Returns:
        A new contiguous float32 tensor of the same shape.

    Raises:
        ValueError: `x` has another dtype, no dimension or is not on the CPU; or `fmt` is unknown.
    """
    _check_format(fmt)
    source = as_float32(x, "x")
    if source.dim() == 0:
        raise ValueError("x must have at least one dimension: blocks run along the last one")
    if source.numel() == 0 or fmt == "fp32":
        return source.clone()
    if fmt == "bf16":
        out = torch.empty_like(source)
        flat_in, flat_out = bits_array(source).reshape(-1), bits_array(out).reshape(-1)
        run_split(lambda lo, hi: _round_bf16(flat_in, flat_out, lo, hi), flat_in.size, flat_in.size)
        return out
    width = MAGNITUDE_BITS[fmt]
    padded = _pad_last(source, BLOCK)
    out = torch.empty_like(padded)
    flat, values = bits_array(padded).reshape(-1), out.numpy().reshape(-1)
    blocks = flat.size // BLOCK
    run_split(lambda lo, hi: _quantize_blocks(flat, values, width, lo, hi), blocks, flat.size)
    return out if out.shape == source.shape else out[..., : source.shape[-1]].contiguous()


def decode_blocks(codes: torch.Tensor, exponents: torch.Tensor, fmt: str) -> torch.Tensor:
    """Values of block-format numbers that are held one per byte.

    Args:
        codes: uint8 tensor [..., 16 m], sign above the magnitude bits of `fmt`.
        exponents: uint8 tensor [..., m], the shared exponents.
        fmt: "bfp8", "bfp4" or "bfp2".

    Returns:
        float32 tensor in the shape of `codes`. An exponent of 255 gives the infinities and NaNs ttnn gives.

    Raises:
        ValueError: the sizes do not fit together or `fmt` is not a block format.
    """
    if fmt not in MAGNITUDE_BITS:
        raise ValueError(f"fmt must be one of {', '.join(MAGNITUDE_BITS)}, not {fmt!r}")
    if codes.numel() != BLOCK * exponents.numel():
        raise ValueError(
            f"codes has {codes.numel()} numbers and exponents {exponents.numel()}; expected 16 codes per exponent"
        )
    width = MAGNITUDE_BITS[fmt]
    out = torch.empty(codes.shape, dtype=torch.float32)
    c, e, v = codes.numpy().reshape(-1), exponents.numpy().reshape(-1), out.numpy().reshape(-1)
    run_split(lambda lo, hi: _decode(c, e, v, width, lo, hi), e.size, c.size)
    return out


def pack_tiles(x: torch.Tensor, fmt: str) -> torch.Tensor:
    """The bytes of the device tensor the host makes of a matrix.

    Args:
        x: float32 or bfloat16 CPU tensor [rows, columns], not empty; filled up with zeros to whole tiles.
        fmt: one of `FORMATS`.

    Returns:
        uint8 tensor [tiles, TILE_BYTES[fmt]], tiles in row-major order; 16- and 32-bit numbers little-endian.

    Raises:
        ValueError: `x` has another dtype or is not a non-empty matrix on the CPU; or `fmt` is unknown.
    """
    _check_format(fmt)
    source = as_float32(x, "x")
    if source.dim() != 2 or source.numel() == 0:
        raise ValueError(f"x must be a non-empty matrix [rows, columns], not of shape {tuple(x.shape)}")
    rows, columns = (-(-size // TILE) for size in source.shape)
    padded = _pad_last(source, TILE)
    if padded.shape[0] % TILE:
        padded = torch.nn.functional.pad(padded, (0, 0, 0, -padded.shape[0] % TILE))
    if fmt in MAGNITUDE_BITS:
        tiles = torch.empty((rows * columns, TILE_BYTES[fmt]), dtype=torch.uint8)
        raw, width, bits = tiles.numpy(), MAGNITUDE_BITS[fmt], bits_array(padded)
        run_split(
            lambda lo, hi: _pack_rows(bits, raw, raw.view(np.uint32), raw.view(np.uint64), width, lo, hi),
            rows,
            bits.size,
        )
        return tiles
    numbers = bits_array(padded) if fmt == "fp32" else bits_array(quantize(padded, "bf16")) >> np.uint32(16)
    faces = numbers.astype(np.uint32 if fmt == "fp32" else np.uint16).reshape(rows, 2, 16, columns, 2, 16)
    ordered = np.ascontiguousarray(faces.transpose(0, 3, 1, 4, 2, 5)).reshape(rows * columns, TILE * TILE)
    return torch.from_numpy(ordered.view(np.uint8))


def unpack_tiles(tiles: torch.Tensor, shape: tuple[int, int], fmt: str) -> torch.Tensor:
    """The matrix held by tile bytes; the opposite of `pack_tiles`.

    Args:
        tiles: uint8 CPU tensor [tiles, TILE_BYTES[fmt]], tiles in row-major order.
        shape: (rows, columns) of the matrix; the rest of the last tiles is dropped.
        fmt: one of `FORMATS`.

    Returns:
        float32 tensor of `shape`.

    Raises:
        ValueError: `tiles` is not uint8, or its shape does not fit `shape` and `fmt`; or `fmt` is unknown.
    """
    _check_format(fmt)
    if tiles.dtype != torch.uint8 or tiles.device.type != "cpu":
        raise ValueError(f"tiles must be a uint8 CPU tensor, not {tiles.dtype} on {tiles.device}")
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (rows, columns), both at least 1, not {tuple(shape)}")
    rows, columns = (-(-size // TILE) for size in shape)
    if tuple(tiles.shape) != (rows * columns, TILE_BYTES[fmt]):
        raise ValueError(
            f"tiles must have shape [{rows * columns}, {TILE_BYTES[fmt]}] for a matrix of {tuple(shape)} "
            f"in {fmt}, not {list(tiles.shape)}"
        )
    raw = tiles.contiguous().numpy()
    if fmt in MAGNITUDE_BITS:
        out = torch.empty((rows * TILE, columns * TILE), dtype=torch.float32)
        values, width = out.numpy(), MAGNITUDE_BITS[fmt]
        # A view as uint32 wants aligned bytes, which a slice of a larger tensor need not have.
        words = (raw if raw.ctypes.data % 4 == 0 else raw.copy()).view(np.uint32)
        run_split(lambda lo, hi: _unpack_rows(raw, words, values, width, lo, hi), rows, out.numel())
    else:
        # Copies of the bytes are taken as arrays of numbers, so alignment does not matter here.
        numbers = np.frombuffer(raw.tobytes(), np.uint32 if fmt == "fp32" else np.uint16)
        ordered = numbers.reshape(rows, columns, 2, 2, 16, 16).transpose(0, 2, 4, 1, 3, 5)
        wide = ordered.reshape(rows * TILE, columns * TILE).astype(np.uint32)
        out = torch.from_numpy((wide if fmt == "fp32" else wide << np.uint32(16)).view(np.float32))
    return out if tuple(out.shape) == tuple(shape) else out[: shape[0], : shape[1]].contiguous()


def common_batch(first: torch.Size, second: torch.Size) -> torch.Size:
    """The batch dimensions of a product of matrices of these shapes; torch's own function loads sympy.

    Raises ValueError where they do not broadcast.
    """
    return torch.Size(np.broadcast_shapes(first[:-2], second[:-2]))


def as_float32(x: torch.Tensor, name: str) -> torch.Tensor:
    """`x` as a contiguous float32 tensor without gradient (itself where it is one); `name` is for the error.

    Raises:
        ValueError: `x` is neither float32 nor bfloat16, or not on the CPU.
    """
    if x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"{name} must be float32 or bfloat16, not {x.dtype}")
    if x.device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU, not on {x.device}")
    return x.detach().to(torch.float32).contiguous()


def bits_array(x: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The bits of a contiguous float32 tensor as a uint32 array that shares its memory."""
    return x.numpy().view(np.uint32)


def _check_format(fmt: str) -> None:
    if fmt not in FORMATS:
        raise ValueError(f"fmt must be one of {', '.join(FORMATS)}, not {fmt!r}")


def _pad_last(x: torch.Tensor, multiple: int) -> torch.Tensor:
    missing = -x.shape[-1] % multiple
    return torch.nn.functional.pad(x, (0, missing)) if missing else x


# ---- compiled ----


@kernel
def _round_bf16(bits, out, lo, hi):  # type: ignore[no-untyped-def]
    for i in range(lo, hi):
        v = bits[i]
        odd = np.uint32(shr32(v, np.uint32(16)) & _ONE)
        rounded = np.uint32(add32(add32(v, np.uint32(0x7FFF)), odd) & np.uint32(0xFFFF0000))
        nan = np.uint32(v & np.uint32(0x7FFFFFFF)) > _EXPONENT
        out[i] = np.uint32(0x7FC00000) if nan else rounded


@helper
def _encode_row(bits, codes, exponents, width):  # type: ignore[no-untyped-def]
    """uint32 float bits [16 n] -> uint8 codes [16 n] and shared exponents [n]; straight-line for the vectoriser."""
    drop, half = np.uint32(24 - width), np.uint32((1 << (23 - width)) - 1)
    top, sign_at = np.uint32((1 << width) - 1), np.uint32(31 - width)
    sign = np.uint32(1 << width)
    for b in range(exponents.size):
        o = b * 16
        largest = _ZERO
        for k in range(16):
            largest = max(largest, np.uint32(bits[o + k] & _EXPONENT))
        for k in range(16):
            v = bits[o + k]
            e = np.uint32(v & _EXPONENT)
            m = np.uint32(np.uint32(v & _FRACTION) | _HIDDEN) if e != _ZERO else _ZERO
            # A significand has 24 bits: shifting by 24 already leaves nothing. What falls off is forgotten.
            t = shr32(m, min(shr32(np.uint32(largest - e), np.uint32(23)), np.uint32(24)))
            q = min(shr32(add32(add32(t, half), np.uint32(shr32(t, drop) & _ONE)), drop), top)
            s = np.uint32(shr32(v, sign_at) & sign) if q != _ZERO else _ZERO
            codes[o + k] = np.uint8(np.uint32(q | s))
        exponents[b] = np.uint8(shr32(largest, np.uint32(23)))


@helper
def _decode_row(codes, exponents, values, width):  # type: ignore[no-untyped-def]
    """uint8 codes [16 n] and shared exponents [n] -> float32 values [16 n]."""
    mask, to_sign = np.uint8((1 << width) - 1), np.uint32(31 - width)
    sign = np.uint32(1 << width)
    unit = np.float32(1.0 / (1 << (width - 1)))
    for b in range(exponents.size):
        o = b * 16
        e = np.uint32(exponents[b])
        scale = float_of(np.uint32(e << np.uint32(23)) if e != _ZERO else _HALF_SMALLEST)
        move = add32(np.uint32(e << np.uint32(23)), _MINUS_127)
        if e >= np.uint32(width):
            # Every result is a normal number: add to the exponent field, which is right for E = 255 as well.
            for k in range(16):
                c = codes[o + k]
                q = np.uint8(c & mask)
                s = np.uint32(np.uint32(np.uint32(c) & sign) << to_sign)
                field = add32(bits_of(np.float32(q) * unit), move)
                values[o + k] = float_of(np.uint32(field | s) if q != np.uint8(0) else _ZERO)
        else:
            for k in range(16):
                c = codes[o + k]
                q = np.uint8(c & mask)
                v = np.float32(q) * unit * scale
                values[o + k] = -v if (np.uint32(c) & sign) != 0 and q != np.uint8(0) else v


@kernel
def _quantize_blocks(bits, values, width, lo, hi):  # type: ignore[no-untyped-def]
    codes, exponents = np.empty(_STRIDE, np.uint8), np.empty(_STRIDE // 16, np.uint8)
    for first in range(lo, hi, _STRIDE // 16):
        n = min(_STRIDE // 16, hi - first)
        begin, end = first * 16, (first + n) * 16
        _encode_row(bits[begin:end], codes[: n * 16], exponents[:n], width)
        _decode_row(codes[: n * 16], exponents[:n], values[begin:end], width)


@kernel
def _decode(codes, exponents, values, width, lo, hi):  # type: ignore[no-untyped-def]
    _decode_row(codes[lo * 16 : hi * 16], exponents[lo:hi], values[lo * 16 : hi * 16], width)


@kernel
def _pack_rows(bits, tiles, words, longs, width, lo, hi):  # type: ignore[no-untyped-def]
    """Rows of tiles lo..hi of a matrix [32 rows, 32 columns] -> tile bytes (also seen as 32- and 64-bit words).

    The matrix is read row by row as it lies in memory; the tiles of one row of tiles stay in the second-level
    cache while they are filled.
    """
    columns = bits.shape[1]
    across = columns // 32
    codes, exponents = np.empty(columns, np.uint8), np.empty(columns // 16, np.uint8)
    pairs, fours, eights = codes.view(np.uint16), codes.view(np.uint32), codes.view(np.uint64)
    tight = np.empty(columns // 2, np.uint8)  # the row's codes, two or four to a byte
    tight_words, tight_longs = tight.view(np.uint32), tight.view(np.uint64)
    for tile_row in range(lo, hi):
        for r in range(32):
            _encode_row(bits[tile_row * 32 + r], codes, exponents, width)
            if width == 3:
                for i in range(columns // 2):
                    v = pairs[i]
                    tight[i] = np.uint8(np.uint16(v | np.uint16(v >> np.uint16(4))))
            elif width == 1:
                for i in range(columns // 4):
                    v = fours[i]
                    v = np.uint32(v | shr32(v, np.uint32(6)))
                    tight[i] = np.uint8(np.uint32(v | shr32(v, np.uint32(12))))
            for block in range(2 * across):
                tile = tile_row * across + block // 2
                j = ((r // 16) * 2 + block % 2) * 16 + r % 16
                tiles[tile, j] = exponents[block]
                if width == 7:
                    longs[tile, 8 + 2 * j] = eights[2 * block]
                    longs[tile, 9 + 2 * j] = eights[2 * block + 1]
                elif width == 3:
                    longs[tile, 8 + j] = tight_longs[block]
                else:
                    words[tile, 16 + j] = tight_words[block]


@kernel
def _unpack_rows(tiles, words, values, width, lo, hi):  # type: ignore[no-untyped-def]
    """The opposite of `_pack_rows`, into float32 values [32 rows, 32 columns]."""
    columns = values.shape[1]
    across, per_block, to_byte = columns // 32, (width + 1) // 2, 8 // (width + 1)
    codes, exponents = np.empty(columns, np.uint8), np.empty(columns // 16, np.uint8)
    tight = np.empty(columns, np.uint8)
    row_words = tight.view(np.uint32)
    mask = np.uint8((1 << (width + 1)) - 1)
    for tile_row in range(lo, hi):
        for r in range(32):
            for block in range(2 * across):
                tile = tile_row * across + block // 2
                j = ((r // 16) * 2 + block % 2) * 16 + r % 16
                exponents[block] = tiles[tile, j]
                for i in range(per_block):
                    row_words[block * per_block + i] = words[tile, 16 + j * per_block + i]
            for i in range(columns // to_byte):
                v = tight[i]
                for p in range(to_byte):
                    codes[i * to_byte + p] = np.uint8(np.uint8(v >> np.uint8(p * (width + 1))) & mask)
            _decode_row(codes, exponents, values[tile_row * 32 + r], width)
