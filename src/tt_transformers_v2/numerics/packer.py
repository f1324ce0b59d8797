# SPDX-License-Identifier: Apache-2.0
"""What the device's packer makes of Dst, the matrix unit's accumulator, when it writes a result.

The packer does not round as the host does (`formats.py`):

- to bf16: half away from zero, not half to even; NaN becomes infinity of the same sign; a subnormal number and -0
  become +0. A bf16 Dst is copied, with the same special cases.
- to bfp8: Dst is first cut to its upper 16 bits and rounded to 6 bits of mantissa, then 16 numbers share the
  largest exponent, each rounded half away from zero and kept below 128. bfp4 is the upper 3 of bfp8's 7 bits, cut
  off. This is the packer's default way, through its own bfp8.

Source: the public Tensix ISA documentation (packers) and ttsim 1.10.0; checked against its golden arrays for Wormhole
and Blackhole, with 0 differences.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tt_transformers_v2.numerics.compiled import kernel, run_split
from tt_transformers_v2.numerics.formats import BLOCK, as_float32, bits_array, decode_blocks
from tt_transformers_v2.numerics.instructions import add32, shr32

OUTPUTS = ("bf16", "fp32", "bfp8", "bfp4")


def check_output(out: str) -> None:
    """Raises ValueError unless `out` is one of `OUTPUTS`."""
    if out not in OUTPUTS:
        raise ValueError(f"out must be one of {', '.join(OUTPUTS)}, not {out!r}")


def pack_output(dst: torch.Tensor, out: str, fp32_dest_acc_en: bool) -> torch.Tensor:
    """The values that the packer writes of an accumulator.

    Args:
        dst: float32 CPU tensor [..., n]. Blocks of 16 run along the last dimension; a ragged last block counts as
            filled up with zeros.
        out: one of `OUTPUTS`.
        fp32_dest_acc_en: whether Dst holds float32; if not, `dst` holds bf16 values and bf16 output is a copy.

    Returns:
        A float32 tensor of the same shape; `dst` itself for "fp32", whose bits the packer leaves alone.

    Raises:
        ValueError: `dst` is not float32 on the CPU or has no dimension; or `out` is unknown.
    """
    check_output(out)
    if dst.dtype != torch.float32 or dst.dim() == 0:
        raise ValueError(f"dst must be a float32 tensor with a last dimension, not {dst.dtype} {list(dst.shape)}")
    source = as_float32(dst, "dst")
    if out == "fp32" or source.numel() == 0:
        return dst
    if out == "bf16":
        result = torch.empty_like(source)
        bits, written = bits_array(source).reshape(-1), bits_array(result).reshape(-1)
        add = np.uint32(0x8000 if fp32_dest_acc_en else 0)
        run_split(lambda lo, hi: _to_bf16(bits, written, add, lo, hi), bits.size, bits.size)
        return result
    less = np.uint32(0 if out == "bfp8" else 4)
    return through_blocks(source, out, lambda *arrays: _to_blocks(*arrays[:3], less, *arrays[3:]))


def through_blocks(source: torch.Tensor, fmt: str, encode: Callable[..., object]) -> torch.Tensor:
    """The values of `source`, float32 [..., n], after a compiled kernel has put them into blocks of 16.

    `encode` is called as encode(bits, codes, exponents, lo, hi): uint32 float bits -> uint8 codes and shared exponents
    of the blocks lo..hi.
    """
    n = source.shape[-1]
    if n % BLOCK:
        source = torch.nn.functional.pad(source, (0, -n % BLOCK))
    codes = torch.empty(source.shape, dtype=torch.uint8)
    exponents = torch.empty(source.numel() // BLOCK, dtype=torch.uint8)
    bits, c, e = bits_array(source).reshape(-1), codes.numpy().reshape(-1), exponents.numpy()
    run_split(lambda lo, hi: encode(bits, c, e, lo, hi), e.size, c.size)
    values = decode_blocks(codes, exponents, fmt)
    return values if n % BLOCK == 0 else values[..., :n].contiguous()


@kernel
def _to_bf16(bits, out, add, lo, hi):  # type: ignore[no-untyped-def]
    infinity, zero = np.uint32(0x7F800000), np.uint32(0)
    for i in range(lo, hi):
        v = bits[i]
        nan = np.uint32(v & np.uint32(0x7FFFFFFF)) > infinity
        kept = np.uint32(v & np.uint32(0xFF800000)) if nan else v
        normal = np.uint32(v & infinity) != zero
        out[i] = np.uint32(add32(kept, add) & np.uint32(0xFFFF0000)) if normal else zero


@kernel
def _to_blocks(bits, codes, exponents, less, lo, hi):  # type: ignore[no-untyped-def]
    """uint32 float bits [16 n] -> uint8 codes, sign above 7 - less magnitude bits, and shared exponents [n]."""
    infinity, zero = np.uint32(0x7F800000), np.uint32(0)
    rounded = np.empty(16, np.uint32)
    sign_at = np.uint32(np.uint32(8) + less)
    sign = np.uint32(np.uint32(0x80) >> less)
    for b in range(lo, hi):
        o = b * 16
        largest = zero
        for k in range(16):
            v = bits[o + k]
            nan = np.uint32(v & np.uint32(0x7FFFFFFF)) > infinity
            kept = np.uint32(v & np.uint32(0xFF800000)) if nan else v
            # Upper 16 bits, of which the lowest is rounded away: 6 bits of mantissa remain.
            r = np.uint32(add32(shr32(kept, np.uint32(16)), np.uint32(1)) & np.uint32(0xFFFE))
            r = r if np.uint32(v & infinity) != zero else zero
            rounded[k] = r
            largest = max(largest, np.uint32(r & np.uint32(0x7F80)))
        for k in range(16):
            r = rounded[k]
            e = np.uint32(r & np.uint32(0x7F80))
            m = np.uint32(np.uint32(r & np.uint32(0x7F)) | np.uint32(0x80)) if e != zero else zero
            s = min(shr32(np.uint32(largest - e), np.uint32(7)), np.uint32(8))
            q = min(shr32(add32(m, np.uint32(np.uint32(1) << s)), add32(s, np.uint32(1))), np.uint32(127))
            q = shr32(q if s < np.uint32(8) else zero, less)
            codes[o + k] = np.uint8(np.uint32(q | (np.uint32(shr32(r, sign_at) & sign) if q != zero else zero)))
        exponents[b] = np.uint8(shr32(largest, np.uint32(7)))
