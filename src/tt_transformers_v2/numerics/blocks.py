# SPDX-License-Identifier: Apache-2.0
"""The matmul kernel around the matrix unit: blocks of K, partial results in L1, bias.

A long K is worked off in blocks of `in0_block_w` tiles. Between blocks the accumulator leaves Dst:

- Partials are fp32 with an fp32 Dst; otherwise bf16 if the packer accumulates, else the output format.
- The packer accumulates in L1 (`packer_l1_acc`) from three blocks on, with a bias from two. Each block then starts
  from Dst = 0 and is added to the partials while being packed. Without a bias the last block instead reloads the sum
  into Dst and goes on from there; with one, all blocks are added in L1.
- Otherwise Dst is packed to the partials after each block, reloaded, and accumulated upon.
- Bias: Dst is packed to the partials (which the unit reads as tf32 where they are fp32) and added to the bias as one
  more step of the unit, then packed to the output.

Packing into L1: fp32 is an IEEE sum, to nearest even, subnormal numbers taken and given as zero, NaN as 0x7FC00000;
bf16 is the exact sum rounded to nearest even, NaN in the partials read as infinity.

Source: bmm_large_block_zm_fused_bias_activation.cpp of the ttnn 0.81.1 wheel; ttsim 1.10.0 and its golden arrays for
the packer. Whether the host turns accumulation on is tt-metal's `packer_l1_acc_en` (matmul program factories).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tt_transformers_v2.numerics.compiled import run_split
from tt_transformers_v2.numerics.exact_integer import ADD, eltwise
from tt_transformers_v2.numerics.formats import bits_array, quantize
from tt_transformers_v2.numerics.packer import pack_output

# Adds the products of K from..to to Dst, float32 bits [batches, M, N]; of the first blocks of a K, so many, Dst is
# packed onto partial results in L1.
Accumulate = Callable[["np.ndarray[Any, np.dtype[np.uint32]]", int, int, int, int], None]


def run_blocks(
    accumulate: Accumulate,
    dst: torch.Tensor,
    depth: int,
    block: int,
    *,
    wide: bool,
    packer_l1_acc: bool,
    out: str,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Dst at the end of a matmul, before the output is packed.

    Args:
        accumulate: the matrix unit on these operands.
        dst: float32 tensor [..., M, N], contiguous, what Dst holds at the start; overwritten.
        depth: K, a number of elements. block: K of one block, a multiple of 32.
        wide: fp32 Dst. out: output format, or "dst".
        packer_l1_acc: whether the packer may accumulate.
        bias: float32 tensor that broadcasts to dst, or None.

    Returns:
        float32 tensor of the shape of `dst`.
    """
    blocks = max(1, -(-depth // block))
    in_l1 = packer_l1_acc and (blocks > 2 or (bias is not None and blocks > 1))
    partials = "fp32" if wide else "bf16" if in_l1 or out == "dst" else out
    added = blocks - (1 if bias is None else 0) if in_l1 else 0
    if added:
        accumulate(_cells(dst), 0, depth, block, added)
    else:
        for i in range(blocks):
            accumulate(_cells(dst), i * block, min(depth, (i + 1) * block), 0, 0)
            if i + 1 < blocks:
                dst = pack_output(dst, partials, wide)
    if bias is None:
        return dst
    if not added:
        dst = pack_output(dst, partials, wide)
    rows = bias.expand(dst.shape).contiguous()
    left, right = _cells(dst).reshape(-1), _cells(rows).reshape(-1)
    result = torch.zeros_like(dst)
    sums = _cells(result).reshape(-1)
    # Wormhole's sum of -1 cannot occur: a sum of two operands is a multiple of 2^13.
    run_split(lambda lo, hi: eltwise(left, right, sums, ADD, 1, wide, False, lo, hi), sums.size, sums.size)
    return result


def l1_add(partials: torch.Tensor, packed: torch.Tensor, fmt: str) -> torch.Tensor:
    """What the packer leaves in L1 when it adds to what is there.

    Args:
        partials: float32 tensor, values in L1. packed: same shape, values being packed.
        fmt: "fp32" or "bf16", the format of both.

    Returns:
        float32 tensor of the same shape.

    Raises:
        ValueError: another format; the packer's accumulation of block formats is not known.
    """
    if fmt == "bf16":
        there = torch.where(partials.isnan(), torch.copysign(torch.full_like(partials, torch.inf), partials), partials)
        # float32 holds the sum of two bf16 exactly, or so nearly that rounding again finds the same bf16.
        return quantize(there + packed, "bf16")
    if fmt != "fp32":
        raise ValueError(f"fmt must be fp32 or bf16, not {fmt!r}")
    total = _flush(_flush(partials) + _flush(packed))
    total[total.isnan()] = torch.nan
    return total


def _flush(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() < torch.finfo(torch.float32).tiny, torch.copysign(torch.zeros_like(x), x), x)


def _cells(x: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return bits_array(x)
