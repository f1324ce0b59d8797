# SPDX-License-Identifier: Apache-2.0
"""An operand in the two parts that the matrix unit multiplies in turn; their sum is the operand as the unit sees it."""

import torch

from tt_transformers_v2.numerics.fidelity import SRC_A, SRC_A_HIGH, SRC_B, SRC_B_HIGH, cut


def src_a_parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low part of weights (in1): 5 significant bits each."""
    high = cut(x, SRC_A_HIGH)
    return high, cut(x, SRC_A) - high


def src_b_parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low part of activations (in0): 7 and 4 significant bits."""
    high = cut(x, SRC_B_HIGH)
    return high, cut(x, SRC_B) - high
