# SPDX-License-Identifier: Apache-2.0
"""MXFP4, the format that gpt-oss's experts are published in."""

from __future__ import annotations

import torch
from torch import Tensor

# E2M1: a sign and one of eight magnitudes (OCP Microscaling Formats specification 1.0, 2023, table 7).
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_BIAS = 127  # of E8M0, the scale of a block of 32 values


def dequantised(blocks: Tensor, scales: Tensor) -> Tensor:
    """float32 [..., rows, blocks * 32] of `blocks` uint8 [..., rows, blocks, 16], `scales` uint8 [..., rows, blocks].

    A byte holds two values, the first in its lower half. Every value is exact in float32, but for a scale of 0 (2 to
    the power of -127), whose smallest values are subnormal, and 255, which is NaN in the standard and infinite here as
    in transformers.
    """
    table = torch.tensor([*_MAGNITUDES, *(-value for value in _MAGNITUDES)])
    values = torch.stack((table[(blocks & 15).long()], table[(blocks >> 4).long()]), dim=-1).flatten(-2)
    return torch.ldexp(values, scales.to(torch.int32)[..., None] - _BIAS).flatten(-2)
