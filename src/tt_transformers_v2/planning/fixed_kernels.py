# SPDX-License-Identifier: Apache-2.0
"""Kernel settings of the ops that have no op group: fixed here, so that no default of ttnn's decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..hardware.enums import MathFidelity
from ..hardware.schema import ComputeConfig

# Products and sums of bfloat16 tensors in the highest fidelity, 16-bit Dst. For rotary embedding they are what ttnn
# takes by itself (tt-metal rotary_embedding_llama.cpp); the caches' ops move values and multiply none, so that only
# the width of Dst counts.
_EXACT = ComputeConfig(
    math_fidelity=MathFidelity.HiFi4, fp32_dest_acc_en=False, packer_l1_acc=False, math_approx_mode=False
)
# A choice of experts is all or nothing, so shares are summed in 32 bits; tt-metal's gpt-oss demo does so too
# (models/demos/gpt_oss/tt/topk.py@00b0fa3f, there in HiFi3).
_ROUTER = dataclasses.replace(_EXACT, fp32_dest_acc_en=True)
FIXED_KERNELS: Mapping[str, ComputeConfig] = dict.fromkeys(
    ("rope", "fill_cache", "update_cache", "reduce_scatter"), _EXACT
) | dict.fromkeys(("router softmax", "router sum"), _ROUTER)
