# SPDX-License-Identifier: Apache-2.0
"""What ttnn 0.81.1 computed on Tenstorrent's simulator, and how far a result is from another."""

from pathlib import Path

import numpy as np
import torch

from tt_transformers_v2.numerics import quantize

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "vector_unit"


def golden(name):
    """Arrays of bf16 bits, as float32 tensors without their leading dimensions of 1."""
    with np.load(GOLDEN / f"wormhole_{name}.npz") as arrays:
        return {
            key: torch.from_numpy(arrays[key].view(np.int16)).view(torch.bfloat16).to(torch.float32).squeeze()
            for key in arrays
        }


def error(x, exact):
    """Root of the mean square, relative to that of the exact."""
    return float((x.double() - exact).norm() / exact.norm())


def normal(*shape, seed=1, scale=1.0):
    return quantize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale, "bf16")
