# SPDX-License-Identifier: Apache-2.0
"""Packing onto partial results in one step, as the kernel does, has the bits of the two that state it."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch

from tt_transformers_v2.numerics.blocks import l1_add
from tt_transformers_v2.numerics.exact_float import onto_bf16, onto_fp32
from tt_transformers_v2.numerics.formats import bits_array
from tt_transformers_v2.numerics.packer import pack_output

SPECIAL = (0x00000000, 0x80000000, 0x00010000, 0x807F0000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC10000, 0x7F7F0000)


def anything(seed: int, upper_half: bool) -> torch.Tensor:
    """Random bits, and every pair of special values in two tensors of seeds 0 and 1."""
    random = torch.Generator().manual_seed(seed)
    bits = torch.randint(-(2**31), 2**31, (5000,), generator=random, dtype=torch.int64)
    near = torch.randint(0x3F700000, 0x3F900000, (5000,), generator=random, dtype=torch.int64)
    special = torch.tensor(SPECIAL, dtype=torch.int64)
    pairs = special.repeat(9) if seed else special.repeat_interleave(9)
    found = torch.cat([bits, near, pairs]) & (0xFFFF0000 if upper_half else 0xFFFFFFFF)
    return torch.where(found >= 2**31, found - 2**32, found).to(torch.int32).view(torch.float32)


@pytest.mark.parametrize("wide", [False, True])
def test_one_pass_has_the_bits_of_packing_and_then_adding(wide: bool) -> None:
    partials, dst = anything(0, not wide), anything(1, not wide)
    fmt = "fp32" if wide else "bf16"
    expected = l1_add(partials, pack_output(dst, fmt, wide), fmt)
    onto = numba.vectorize(["uint32(uint32, uint32)"])((onto_fp32 if wide else onto_bf16).py_func)
    with np.errstate(all="ignore"):
        found = onto(bits_array(partials), bits_array(dst))
    assert (found == bits_array(expected)).all()
