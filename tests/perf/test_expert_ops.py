# SPDX-License-Identifier: Apache-2.0
"""Matmuls with experts: how many are touched, what is read of them, and the rows that nothing was fitted to."""

from __future__ import annotations

import csv
import dataclasses
import random

import pytest
from perf_cases import make_device

from places import ROOT
from tt_transformers_v2.calibrate.measured_rows import load_calibration
from tt_transformers_v2.hardware.enums import DataFormat, MathFidelity
from tt_transformers_v2.hardware.op_table import DECODE, EXPERT_MATRICES, PREFILL
from tt_transformers_v2.models.layer_spec import ExpertsSpec, MlpSpec
from tt_transformers_v2.perf.expert_ops import experts_op, products, touched_experts
from tt_transformers_v2.perf.timing import timer

FF1 = EXPERT_MATRICES["experts.w1"]
OF_32 = ExpertsSpec(32, 4, MlpSpec(2880))


@pytest.mark.parametrize(("tokens", "touched"), [(0, 0.0), (1, 4.0), (2, 7.5)])
def test_experts_touched_by_few_tokens(tokens, touched):
    assert touched_experts(OF_32, tokens) == pytest.approx(touched)


def test_tokens_that_choose_at_random_touch_as_many_experts_as_the_formula_says():
    draw = random.Random(0)
    trials = [len({e for _ in range(16) for e in draw.sample(range(32), 4)}) for _ in range(4000)]
    assert touched_experts(OF_32, 16) == pytest.approx(sum(trials) / len(trials), rel=0.01)


def test_all_experts_are_touched_where_each_token_uses_all():
    assert touched_experts(dataclasses.replace(OF_32, top_k=32), 1) == 32


def test_a_tile_of_tokens_shares_what_it_reads_and_the_next_tile_reads_anew():
    assert products(OF_32, 1) == pytest.approx(4)
    assert products(OF_32, 32) == touched_experts(OF_32, 32) < 32
    assert products(OF_32, 33) == pytest.approx(products(OF_32, 32) + 4)
    assert products(OF_32, 1024) == pytest.approx(32 * products(OF_32, 32))


def op(inputs, outputs, tokens=1, *, phase=DECODE, weights=DataFormat.BFP8, experts=OF_32, in_dram=True):
    return experts_op(
        FF1,
        (inputs, outputs),
        experts,
        phase=phase,
        weights=weights,
        fidelity=MathFidelity.LoFi,
        tokens=tokens,
        in_dram=in_dram,
    )


def test_bytes_tiles_and_flops_are_those_of_the_experts_touched():
    one = op(2880, 2880)
    assert one.weight_bytes == 4 * 90 * 90 * 1088
    assert one.tiles == 4 * 90 * 90
    assert one.flops == 4 * 2 * 32 * 2880 * 2880
    assert op(2880, 2880, in_dram=False).bytes == 0
    assert op(2880, 2880, 64, phase=PREFILL).weight_bytes == pytest.approx(2 * op(2880, 2880, 32).weight_bytes)


def rows():
    with (ROOT / "conf/measurements/op_rows_2026.csv").open(encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["op"] == "SparseMatmul"]


# Experts that one chip's matmul touches, and its inputs and outputs, as the rows' shapes say it.
SEEN = {
    "4 of 32 x 32x2880x2880": (4, 2880, 2880),
    "4 of 8 (1 active of 8 per chip) x 32x2880x2880": (1, 2880, 2880),
    "4 of 256 x 32x256x2048": (4, 256, 2048),
}


def test_sparse_matmuls_of_published_profiles_that_nothing_was_fitted_to():
    own = make_device("P150")
    asked = timer(own, load_calibration("tt_metal_2026").of(own.spec.chip.arch), "sparse")
    ratios = []
    for row in rows():
        touched, inputs, outputs = SEEN[row["shapes"]]
        weights = DataFormat[row["in_dtypes"].split("x")[1]]
        each = op(inputs, outputs, weights=weights, experts=ExpertsSpec(64, touched, MlpSpec(outputs)))
        ratios.append(asked.time(each, DECODE).us / float(row["kernel_us"]))
    assert len(ratios) == 4
    large, small = sorted(ratios)[1:], min(ratios)
    assert all(0.75 < ratio < 1.05 for ratio in large)
    assert 0.3 < small < 0.75  # 2048 tiles: a fixed cost is missing
