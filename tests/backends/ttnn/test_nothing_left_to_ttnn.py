# SPDX-License-Identifier: Apache-2.0
"""Formats, kernel settings and program configs are ours: no default of ttnn's decides in silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tt_transformers_v2.config.device_presets import DevicePresets

Found = dict[str, Any]

# What may be left out, and why: there is nothing to choose.
NOTHING_TO_CHOOSE = {
    ("ttnn.to_memory_config", "dtype"): "moves a tensor as it is",
    ("ttnn.interleaved_to_sharded", "dtype"): "moves a tensor as it is",
}
# A mesh of one chip, a line of eight, and eight as 2 x 4: every way in which ops are divided.
SYSTEMS = {
    "one chip": DevicePresets.get_config("N150").spec,
    "a line": DevicePresets.get_config("T3K").spec,
    "two axes": dataclasses.replace(DevicePresets.get_config("T3K").spec, mesh_shape=[2, 4]),
}


@pytest.fixture(scope="module", params=list(SYSTEMS))
def found(request: pytest.FixtureRequest, run: Callable[..., Found]) -> Found:
    return run("ttnn_call_walk:implicit", SYSTEMS[request.param], run=request.param == "one chip")


def test_every_format_kernel_and_program_that_an_op_takes_is_given(found: Found) -> None:
    left = {
        (name, setting): calls
        for name, settings in found["implicit"].items()
        for setting, calls in settings.items()
        if (name, setting) not in NOTHING_TO_CHOOSE
    }
    assert left == {}


def test_no_kernel_has_ttnns_invalid_fidelity(found: Found) -> None:
    assert found["invalid"] == []


def test_all_ops_were_walked_and_none_was_refused(found: Found) -> None:
    assert found["refused"] == []
    assert {"ttnn.linear", "ttnn.rms_norm", "ttnn.add", "ttnn.embedding"} - set(found["calls"]) <= {"ttnn.rms_norm"}
    new = ("topk", "softmax", "scatter", "gelu", "clamp", "tanh", "unary_chain", "zeros_like", "concat", "ttnn.div")
    for part in ("rotary_embedding_llama", "scaled_dot_product_attention", "update_cache", "multiply", *new):
        assert any(part in name for name in found["calls"]), part
