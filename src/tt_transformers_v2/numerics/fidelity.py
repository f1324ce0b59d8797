# SPDX-License-Identifier: Apache-2.0
"""What the matrix unit takes of an operand: its high and low part, one of them per phase.

A source operand is a sign, an 8-bit exponent and a 10-bit mantissa m; F = 0x400 | m. bf16 has the low three bits
0, float32 is truncated to this (tf32). The unit multiplies 5 bits of SrcA by 7 bits of SrcB at a time:

- SrcA (in1, the weights): high F >> 6, low (F >> 1) & 31; bit 0 of F is never used.
- SrcB (in0, the activations): high F >> 4, low F & 15.

Phase 0 is A high x B high, 1 A low x B high, 2 A high x B low, 3 A low x B low; LoFi runs phase 0, HiFi2 0-1,
HiFi3 0-2, HiFi4 all. Exponent 0 (zero, subnormal) is zero. Exponent 255 is an ordinary number to the unit.
Source: the public Tensix ISA documentation (MVMUL, SrcA, SrcB) and ttsim 1.10.0.

Limit: a number of exponent 255 is 2^128 or more and no float32. It is taken here with exponent 254, half its
size: its bits, its sign and the rank among its neighbours stay, and products never become NaN.
"""

from __future__ import annotations

import numpy as np
import torch

from tt_transformers_v2.numerics.compiled import kernel, run_split
from tt_transformers_v2.numerics.formats import as_float32, bits_array

PHASES = {"LoFi": 1, "HiFi2": 2, "HiFi3": 3, "HiFi4": 4}

# Which bits of a float32 remain: sign, exponent, and 9, 4, 10 or 6 bits of mantissa under the hidden one.
SRC_A, SRC_A_HIGH = 0xFFFFC000, 0xFFF80000
SRC_B, SRC_B_HIGH = 0xFFFFE000, 0xFFFE0000


def phases_of(math_fidelity: str) -> int:
    """Number of phases of "LoFi", "HiFi2", "HiFi3" or "HiFi4".

    Raises:
        ValueError: another name.
    """
    if math_fidelity not in PHASES:
        raise ValueError(f"math_fidelity must be one of {', '.join(PHASES)}, not {math_fidelity!r}")
    return PHASES[math_fidelity]


def cut(x: torch.Tensor, keep: int, name: str = "x") -> torch.Tensor:
    """`x` with only the float32 bits in `keep`, zero where the exponent is 0, exponent 255 lowered to 254.

    Args:
        x: float32 or bfloat16 CPU tensor of any shape.
        keep: one of the masks of this file.
        name: what the caller calls `x`, for the error.

    Returns:
        A new contiguous float32 tensor of the same shape.

    Raises:
        ValueError: another dtype or device.
    """
    source = as_float32(x, name)
    out = torch.empty_like(source)
    bits_in, bits_out = bits_array(source).reshape(-1), bits_array(out).reshape(-1)
    mask = np.uint32(keep)
    run_split(lambda lo, hi: _cut(bits_in, bits_out, mask, lo, hi), bits_in.size, bits_in.size)
    return out


@kernel
def _cut(bits, out, keep, lo, hi):  # type: ignore[no-untyped-def]
    exponent = np.uint32(0x7F800000)
    for i in range(lo, hi):
        v = bits[i]
        e = np.uint32(v & exponent)
        lowered = np.uint32(v ^ np.uint32(0x00800000)) if e == exponent else v
        out[i] = np.uint32(lowered & keep) if e != np.uint32(0) else np.uint32(0)
