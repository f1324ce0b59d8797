# SPDX-License-Identifier: Apache-2.0
"""The class and the band of a prediction: what takes it out of the calibrated range, and what forbids a number."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from perf_cases import CALIBRATION, calibration_data, make_device, make_model

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.measured_points import measured_points
from tt_transformers_v2.config.model_shapes import described_spec
from tt_transformers_v2.hardware.enums import Prefill, Sampling
from tt_transformers_v2.perf import Calibration, predict
from tt_transformers_v2.perf.confidence import ConfidenceRules
from tt_transformers_v2.perf.nearest import same_model


def prediction(device="N150", model="Llama-3.1-8B", *, calibration=CALIBRATION, prompt=128, batch=1, **split):
    hw = make_device(device, **{k: v for k, v in split.items() if k in ("tensor_parallel", "data_parallel")})
    return predict(hw, make_model(model), calibration, prompt_length=prompt, batch=batch)


def test_what_was_fitted_is_calibrated():
    found = prediction()
    assert found.decode.kind == found.prefill.kind == "calibrated"
    assert found.decode.reasons == ()
    assert str(found.decode) == "calibrated, ±12 %"


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"device": "P150"}, "Blackhole"),
        ({"device": "T3K", "model": "Llama-3.2-3B"}, "fused"),
        ({"prompt": 131072}, "65536 tokens"),
        ({"batch": 64}, "32 users"),
        ({"calibration": CALIBRATION.replace(sampling=Sampling.device), "device": "T3K"}, "sampling"),
        ({"calibration": CALIBRATION.replace(readers_per_bank=2)}, "reader"),
    ],
)
def test_what_lies_outside_is_extrapolated_with_a_wider_band_and_says_why(case, reason):
    found = prediction(**case)
    assert found.decode.kind == "extrapolated"
    assert found.decode.band > prediction().decode.band
    assert any(reason in each for each in found.decode.reasons)


def test_another_family_is_extrapolated():
    spec = dataclasses.replace(make_model("Llama-3.1-8B"), _metadata={"name": "Qwen2.5-7B", "family": "qwen2.5"})
    found = predict(make_device("N150"), spec, CALIBRATION, prompt_length=128)
    assert found.decode.kind == "extrapolated"
    assert "family" in found.decode.reasons[0]


def test_a_switch_of_prefill_leaves_the_class_of_decode_alone():
    found = prediction(calibration=CALIBRATION.replace(prefill=Prefill.traced))
    assert found.decode.kind == "calibrated"
    assert found.prefill.kind == "extrapolated"


def test_no_number_is_given_where_nothing_is_known():
    hw = make_device("T3K")
    hw.parallelism.tensor_parallel_size, hw.parallelism.pipeline_parallel_size = 4, 2
    found = predict(hw, make_model("Llama-3.1-8B"), CALIBRATION, prompt_length=128)
    assert not found.supported
    assert "pipeline" in found.decode.reasons[0]
    with pytest.raises(ConfigError, match="no prediction: pipeline"):
        _ = found.speed
    too_wide = prediction(calibration=CALIBRATION.replace(sampling=Sampling.device))
    assert "128256" in too_wide.decode.reasons[0]
    heads = predict(make_device("T3K"), make_28_heads(), CALIBRATION, prompt_length=128)
    assert "28 attention heads cannot be split over 8 chips" in heads.decode.reasons[0]


@pytest.mark.parametrize(("head_dim", "supported"), [(48, False), (64, True), (80, False), (96, True), (100, False)])
def test_no_number_is_given_for_heads_that_no_card_runs(head_dim, supported):
    model = dataclasses.replace(make_model("Llama-3.1-8B"), head_dim=head_dim)
    found = predict(make_device("N150"), model, CALIBRATION, prompt_length=128)
    assert found.supported == supported
    assert [f"model.head_dim={head_dim} cannot run on a card" in why for why in found.decode.reasons] == [True] * (
        not supported
    )


def make_28_heads():
    return dataclasses.replace(make_model("Llama-3.1-8B"), num_heads=28, num_kv_heads=4)


POINTS = measured_points(prediction("N150").points)


def test_the_nearest_row_is_the_same_configuration_where_there_is_one():
    row = prediction("N300").nearest(POINTS, "accuracy", described_spec)
    assert (row.model, row.device, row.batch, row.seq, row.mode) == ("Llama-3.1-8B", "N300", 1, 128, "accuracy")
    assert row.flag == ""
    users = prediction("T3K", batch=16).nearest(POINTS, "performance", described_spec)
    assert (users.device, users.batch) == ("T3K", 32)


@pytest.mark.parametrize(
    ("row", "name", "same"),
    [
        ("Llama-3.1-8B", "Llama-3.1-8B-Instruct", True),
        ("llama-3.1-8b", "Llama-3.1-8B", True),
        ("Llama-3.1-8", "Llama-3.1-8B-Instruct", False),
    ],
)
def test_rows_leave_instruct_out(row, name, same):
    assert same_model(row, name) is same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("points"), "must have the keys"),
        (lambda c: c["band"].pop("decode"), "band must have exactly"),
        (lambda c: c["band"].update(decode=-1), "percentage"),
        (lambda c: c["beyond"].update(moon={"decode": 1, "prefill": 1, "why": ""}), "beyond has no key"),
        (lambda c: c["beyond"]["family"].pop("why"), "beyond.family must have"),
    ],
)
def test_a_broken_confidence_section_is_refused(change, message):
    data = copy.deepcopy(calibration_data())
    change(data["confidence"])
    with pytest.raises(ConfigError, match=message):
        ConfidenceRules.from_dict(Calibration.from_dict(data).confidence)
