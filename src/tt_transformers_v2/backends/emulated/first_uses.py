# SPDX-License-Identifier: Apache-2.0
"""The kernels that a run needs after its first product, on next to nothing: what is to be compiled while one waits."""

from __future__ import annotations

import torch

from ...numerics.flash_attention import flash_attention
from ...numerics.typecast import typecast
from ...numerics.vector_unit import rope, silu_product


def use_later_kernels() -> None:
    """Has the kernels of the rotary embedding, attention, the cache's conversion and silu compiled."""
    x = torch.ones(1, 1, 32, 32)
    rope(x, x[0, 0], x[0, 0])
    typecast(x, "bfp8")
    flash_attention(
        x,
        x,
        x,
        lambda q, k, out: (q @ k).contiguous(),
        math_fidelity="HiFi2",
        fp32_dest_acc_en=True,
        k_chunk=32,
        window=None,
        scale=None,
        cap=None,
        sinks=None,
        exp_approx=True,
    )
    silu_product(x[0], x[0], "bf16")
