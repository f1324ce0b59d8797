# SPDX-License-Identifier: Apache-2.0
"""Units that figures are printed in, and the one that everything on a chip is stored and multiplied in."""

GIB = 1 << 30
TILE = 32  # rows and columns of a tile (tt-metal tech_reports/tensor_layouts)
