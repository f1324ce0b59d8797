# SPDX-License-Identifier: Apache-2.0
"""The matmuls with experts, one chip's: as many experts as tokens touch, in sparse matmuls (ttnn.sparse_matmul).

A sparse matmul multiplies a tile of rows by every expert that one of its tokens uses, and reads those. In decode all
users share one tile; the tokens of a prompt come a tile after the other, and each reads its experts anew: measured TTFT
of gpt-oss-120b grows with the tokens (891 ms for 128, 6.94 s for 1024 on P300x2, tt-inference-server #3105).

Checked against the rows of SparseMatmul in conf/measurements/op_rows_2026.csv, which no constant was fitted to
(tests/perf/test_expert_ops.py). Whole models come out too fast: see `experts` in conf/calibration's confidence.
"""

from __future__ import annotations

from ..common.units import TILE
from ..hardware.enums import DataFormat, MathFidelity
from ..hardware.op_table import ModelOp
from ..models.layer_spec import ExpertsSpec
from .ops import Op, matmul_op


def touched_experts(experts: ExpertsSpec, tokens: int) -> float:
    """How many experts `tokens` tokens are expected to use, each choosing top_k of count evenly and independently.

    E (1 - (1 - k / E) ** tokens): an expert is left alone where no token chooses it. Real routers prefer some experts,
    so that fewer are touched.
    """
    return float(experts.count * (1 - (1 - experts.top_k / experts.count) ** tokens))


def products(experts: ExpertsSpec, tokens: int) -> float:
    """Expected products of a tile of rows and an expert, for `tokens` tokens in as many tiles as they fill."""
    whole, rest = divmod(tokens, TILE)
    return whole * touched_experts(experts, TILE) + (touched_experts(experts, rest) if rest else 0.0)


def experts_op(
    op: ModelOp,
    shape: tuple[int, int],
    experts: ExpertsSpec,
    *,
    phase: str,
    weights: DataFormat,
    fidelity: MathFidelity,
    tokens: int,
    in_dram: bool = True,
) -> Op:
    """The product of `tokens` tokens with their experts' matrices, each of `shape` (inputs, outputs) on a chip.

    Experts lie in one interleaved tensor, as ttnn.sparse_matmul takes them. Its blocks of K are not known here.
    """
    one = matmul_op(
        op, shape, phase=phase, weights=weights, fidelity=fidelity, rows=TILE, banks=0, in_dram=in_dram, fused=True
    )
    times = products(experts, tokens)
    return one._replace(weight_bytes=one.weight_bytes * times, tiles=one.tiles * times, flops=one.flops * times)
