# SPDX-License-Identifier: Apache-2.0
"""What `ttnn.typecast` makes of bf16 values on the device; it is not what the host packs (`formats.py`).

- to bfp8: 16 numbers share the largest exponent, and each is rounded once, half away from zero, to seven bits, and
  kept below 128. The host rounds half to even; the packer rounds to seven bits twice (`packer.py`).
- to bfp4: the packer's own, which cuts: toward zero, so that values shrink.
- to bf16 and fp32: nothing changes.

Source: `ttnn.typecast` of ttnn 0.81.1 on Tenstorrent's simulator (November 2026, not a card), 0 differing values
(tests/data/golden/device_typecast). Where a device fills a KV cache, this is what the cache holds.
"""

from __future__ import annotations

import numpy as np
import torch

from tt_transformers_v2.numerics.compiled import kernel
from tt_transformers_v2.numerics.formats import as_float32, quantize
from tt_transformers_v2.numerics.instructions import add32, shr32
from tt_transformers_v2.numerics.packer import pack_output, through_blocks

FORMATS = ("fp32", "bf16", "bfp8", "bfp4")


def typecast(x: torch.Tensor, fmt: str) -> torch.Tensor:
    """The values of a bf16 device tensor after `ttnn.typecast` to another format.

    Args:
        x: float32 or bfloat16 CPU tensor [..., n] of bf16 values. Blocks of 16 run along the last dimension; a ragged
            last block counts as filled up with zeros.
        fmt: "fp32", "bf16", "bfp8" or "bfp4".

    Returns:
        A float32 tensor of the same shape.

    Raises:
        ValueError: `x` has another dtype, no dimension or is not on the CPU; or `fmt` is unknown.
    """
    if fmt not in FORMATS:
        raise ValueError(f"fmt must be one of {', '.join(FORMATS)}, not {fmt!r}")
    if fmt == "bfp4":
        return pack_output(as_float32(x, "x"), fmt, False)
    if fmt != "bfp8":
        return quantize(x, fmt)
    source = as_float32(x, "x")
    if source.dim() == 0:
        raise ValueError("x must have at least one dimension: blocks run along the last one")
    return through_blocks(source, fmt, _to_bfp8)


@kernel
def _to_bfp8(bits, codes, exponents, lo, hi):  # type: ignore[no-untyped-def]
    """float32 bits [16 n] -> uint8 codes, sign above seven bits of magnitude, and shared exponents [n]."""
    exponent, zero = np.uint32(0x7F800000), np.uint32(0)
    half = np.uint32(1 << 16)  # of the last of seven bits of a 24-bit significand
    for b in range(lo, hi):
        o = b * 16
        largest = zero
        for k in range(16):
            largest = max(largest, np.uint32(bits[o + k] & exponent))
        for k in range(16):
            v = bits[o + k]
            e = np.uint32(v & exponent)
            m = np.uint32(np.uint32(v & np.uint32(0x7FFFFF)) | np.uint32(0x800000)) if e != zero else zero
            m = shr32(m, min(shr32(np.uint32(largest - e), np.uint32(23)), np.uint32(24)))
            q = min(shr32(add32(m, half), np.uint32(17)), np.uint32(127))
            codes[o + k] = np.uint8(
                np.uint32(q | (np.uint32(shr32(v, np.uint32(24)) & np.uint32(0x80)) if q != zero else zero))
            )
        exponents[b] = np.uint8(shr32(largest, np.uint32(23)))
