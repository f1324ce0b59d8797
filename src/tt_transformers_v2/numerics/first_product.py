# SPDX-License-Identifier: Apache-2.0
"""Computes one small product, so that the matrix unit's kernel is compiled for the arrays that every product has.

A program that ends when its standard input does, as that is held by the process it works for.
"""

import os
import sys
import threading

import torch

from tt_transformers_v2.numerics.matrix_unit import matmul

# The exit code then.
ENDED = 3


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(ENDED)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    one = torch.ones(32, 32)
    matmul(one, one, math_fidelity="LoFi", fp32_dest_acc_en=False)
