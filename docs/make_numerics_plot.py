#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/matmul_error.svg and prints its table: python docs/make_numerics_plot.py (needs matplotlib)."""

from pathlib import Path

import matplotlib
import torch

from tt_transformers_v2.numerics import matrix_unit, quantize

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "matmul_error"
import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen first

DEPTHS = (64, 128, 256, 512, 1024, 2048, 4096)
CASES = (
    ("bf16", "LoFi"),
    ("bf16", "HiFi2"),
    ("bf16", "HiFi3"),
    ("bf16", "HiFi4"),
    ("bfp8", "LoFi"),
    ("bfp8", "HiFi2"),
    ("bfp4", "LoFi"),
)
ROWS, COLUMNS = 64, 256


def error(weight_format: str, math_fidelity: str, wide: bool, depth: int) -> float:
    """rms error over rms of the exact product of the bf16 activations and the unrounded weights."""
    generator = torch.Generator().manual_seed(depth)
    x = quantize(torch.randn(ROWS, depth, generator=generator), "bf16")
    w = torch.randn(depth, COLUMNS, generator=generator) * 0.02
    wanted = x.double() @ w.double()
    found = matrix_unit.matmul(
        x,
        quantize(w, weight_format),
        math_fidelity=math_fidelity,
        fp32_dest_acc_en=wide,
        weight_format=weight_format,
        out="dst",
    )
    return float((found.double() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


def main() -> None:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, wide in zip(axes, (True, False), strict=True):
        for weight_format, fidelity in CASES:
            errors = [error(weight_format, fidelity, wide, depth) for depth in DEPTHS]
            style = {"bf16": "-", "bfp8": "--", "bfp4": ":"}[weight_format]
            axis.plot(DEPTHS, errors, style, marker=".", label=f"{weight_format} weights, {fidelity}")
            print(f"{'fp32' if wide else 'bf16'} Dst  {weight_format:5} {fidelity:6}", *(f"{e:.1e}" for e in errors))
        axis.set(title=f"{'fp32' if wide else 'bf16'} Dst", xlabel="K", xscale="log", yscale="log")
        axis.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("rms error / rms of the exact product")
    axes[1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    target = Path(__file__).resolve().parent / "images" / "matmul_error.svg"
    figure.savefig(target, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
