# SPDX-License-Identifier: Apache-2.0
"""How much Dst holds, the registers that a core's matrix and vector units write to."""

from __future__ import annotations

DST_TILES, DST_TILES_FP32 = 8, 4  # tiles in half-sync mode (tt-metal tech_reports/matrix_engine)


def dst_tiles(fp32_dest_acc_en: bool) -> int:
    """Tiles that Dst holds in half-sync mode."""
    return DST_TILES_FP32 if fp32_dest_acc_en else DST_TILES
