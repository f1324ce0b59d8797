# SPDX-License-Identifier: Apache-2.0
"""Which measured row is shown beside a prediction."""

from __future__ import annotations

import pytest

from tt_transformers_v2.config.model_shapes import described_spec
from tt_transformers_v2.perf.measurements import MeasuredRow
from tt_transformers_v2.perf.nearest import ALIKE, shape_distance
from tt_transformers_v2.prediction.questions import ask


def row(model, device, mode="performance", tp=8, batch=1, seq=128, dp=1, flag=""):
    return MeasuredRow(model, device, tp, dp, batch, seq, mode, 100.0, 20.0, "somebody", flag)


def shown(rows, *overrides):
    answer = ask(overrides)
    return answer.prediction.nearest(rows, str(answer.experiment.config.mode), described_spec)


QWEN3_32B = ("device=t3k", "model=qwen3_32b")


def test_a_shape_like_the_models_comes_before_its_device():
    qwq, small, far = row("QwQ-32B", "T3K"), row("Llama-3.2-1B", "T3K"), row("Llama-3.1-70B", "T3K")
    assert shown([small, far, qwq], *QWEN3_32B) is qwq
    elsewhere = row("Qwen2.5-32B", "P150x4")
    assert shown([small, far, elsewhere], *QWEN3_32B) is elsewhere


def test_shapes_alike_are_told_apart_by_mode_then_device_then_name():
    accurate, there = row("QwQ-32B", "T3K", "accuracy"), row("QwQ-32B", "P150x8")
    assert shown([accurate, there], *QWEN3_32B) is there
    here, own = row("QwQ-32B", "T3K"), row("Qwen3-32B", "T3K")
    assert shown([there, here], *QWEN3_32B) is here
    assert shown([here, own], *QWEN3_32B) is own
    assert shown([row("Qwen3-32B", "P150x8"), here], *QWEN3_32B) is here


def test_rows_of_accuracy_are_compared_with_accuracy():
    fast, accurate = row("Llama-3.1-8B", "N150", tp=1), row("Llama-3.1-8B", "N300", "accuracy", tp=2)
    assert shown([fast, accurate], "device=n150", "model=llama8b", "precision=accuracy") is accurate
    assert shown([fast, accurate], "device=n150", "model=llama8b") is fast


def test_other_formats_of_performance_mode_count_as_it_and_come_after_the_workload():
    plain, many = row("Llama-3.1-8B", "T3K"), row("Llama-3.1-8B", "T3K", "ff13_bfp4", batch=32)
    assert shown([plain, many], "device=t3k", "model=llama8b", "workload.batch=32") is many
    assert shown([plain, many], "device=t3k", "model=llama8b") is plain


def test_flagged_rows_and_unknown_models_come_last():
    flagged, unknown = row("QwQ-32B", "T3K", flag="dup"), row("Nobody-32B", "T3K")
    small = row("Llama-3.2-1B", "N150", tp=1)
    assert shown([flagged, unknown, small], *QWEN3_32B) is small
    assert shown([flagged, unknown], *QWEN3_32B) is unknown
    assert shown([], *QWEN3_32B) is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Qwen3-32B", "QwQ-32B", True),
        ("Llama-3.1-70B", "Qwen2.5-72B", True),
        ("Llama-3.1-8B", "Llama-3.2-11B", True),
        ("Llama-3.1-8B", "Ministral-8B", False),
        ("Llama-3.1-8B", "Llama-3.2-3B", False),
    ],
)
def test_how_far_shapes_are_apart(one, other, alike):
    there, back = (shape_distance(described_spec(a), described_spec(b)) for a, b in ((one, other), (other, one)))
    assert there == pytest.approx(back)
    assert (there < ALIKE) is alike
