# SPDX-License-Identifier: Apache-2.0
"""Computes one small product, so that the matrix unit's kernel is compiled for the arrays that every product has."""

import torch

from tt_transformers_v2.numerics.matrix_unit import matmul

if __name__ == "__main__":
    one = torch.ones(32, 32)
    matmul(one, one, math_fidelity="LoFi", fp32_dest_acc_en=False)
