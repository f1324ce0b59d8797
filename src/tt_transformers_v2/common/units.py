# SPDX-License-Identifier: Apache-2.0
"""Units that figures are printed in, and the one that everything on a chip is stored and multiplied in."""

GIB = 1 << 30
TILE = 32  # rows and columns of a tile (tt-metal tech_reports/tensor_layouts)


def tiles_text(number: int) -> str:
    """`1 tile`, `2 tiles`."""
    return f"{number} tile{'s' * (number > 1)}"
