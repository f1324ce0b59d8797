# SPDX-License-Identifier: Apache-2.0
"""What is compiled while the first product is waited for is what a run then uses."""

import torch

from places import DATA
from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.backends.emulated.first_uses import use_later_kernels
from tt_transformers_v2.config.auto_config import AutoHardwareConfig
from tt_transformers_v2.models.decoder import forward
from tt_transformers_v2.models.open_model import open_weights
from tt_transformers_v2.numerics import elementwise, flash_attention, typecast, vector_unit

LATER = (flash_attention._weights, vector_unit._silu, typecast._to_bfp8, elementwise._rotate)


def test_a_run_compiles_no_other_form_of_these_kernels():
    use_later_kernels()
    before = [set(kernel.signatures) for kernel in LATER]
    source, _ = open_weights(None, path=str(DATA / "hf_llama"))
    forward(
        EmulatedOps(AutoHardwareConfig.from_device("N150", "performance"), "exact"),
        source,
        torch.arange(12).reshape(1, 12),
    )
    assert all(before)
    assert [set(kernel.signatures) for kernel in LATER] == before
