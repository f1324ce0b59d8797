# SPDX-License-Identifier: Apache-2.0
"""The matmuls with experts, one chip's: as many experts as tokens touch, in one sparse matmul (ttnn.sparse_matmul).

In decode it multiplies the one tile of rows that holds all users by every touched expert, and reads those experts. In
prefill each touched expert gets its share of the tokens, in whole tiles. Checked against the rows of SparseMatmul in
conf/measurements/op_rows_2026.csv, which no constant was fitted to (tests/perf/test_expert_ops.py); no measured speed
of a whole model with experts has checked the rest.
"""

from __future__ import annotations

from ..hardware.enums import DataFormat, MathFidelity
from ..hardware.op_table import DECODE, ModelOp
from ..models.layer_spec import ExpertsSpec
from .ops import Op, matmul_op, padded


def touched_experts(experts: ExpertsSpec, tokens: int) -> float:
    """How many experts `tokens` tokens are expected to use, each choosing top_k of count evenly and independently.

    E (1 - (1 - k / E) ** tokens): an expert is left alone where no token chooses it. Real routers prefer some experts,
    so that fewer are touched.
    """
    return float(experts.count * (1 - (1 - experts.top_k / experts.count) ** tokens))


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
    touched = touched_experts(experts, tokens)
    rows = padded(tokens if phase == DECODE else tokens * experts.top_k / touched)
    one = matmul_op(
        op, shape, phase=phase, weights=weights, fidelity=fidelity, rows=rows, banks=0, in_dram=in_dram, fused=True
    )
    return one._replace(
        weight_bytes=one.weight_bytes * touched, tiles=one.tiles * touched, flops=one.flops * touched, block=0
    )
