# SPDX-License-Identifier: Apache-2.0
"""Which matrices of a model are calibrated, and that the others stay as a card rounds them by itself."""

import pytest
import torch
from quantizing import quantized, resolved

from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware.op_table import MATRICES
from tt_transformers_v2.models.huggingface import SafetensorsWeights

CHOSEN = 'quantize.calibrated={ff2: "0, 2", wqkv: 1}'
CALIBRATED = {(0, "w2"), (2, "w2"), (1, "wqkv")}


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_matrices_that_are_not_named_stay_as_packing_rounds_them(tiny_model, tmp_path):
    section = quantized(tiny_model, tmp_path / "out", tmp_path, CHOSEN)
    assert {(row["layer"], row["matrix"]) for row in section["matrices"] if row["asked"]} == CALIBRATED
    assert (section["calibrated_matrices"], section["nearest_matrices"], section["left_at_nearest"]) == (3, 12, 12)
    assert [(row["layer"], row["matrices"]) for row in section["layers"]] == [(0, 1), (1, 1), (2, 1)]
    assert all(row["calibrated"] == row["nearest"] > 0 for row in section["matrices"] if not row["asked"])
    found, source = SafetensorsWeights(tmp_path / "out"), SafetensorsWeights(tiny_model)
    ops = EmulatedOps(resolved(tiny_model).hardware, "fast").for_heads(source.spec)
    for layer in range(3):
        for name in ("wqkv", "wo", "w1", "w3", "w2"):
            read = [
                ops.sums(torch.eye(tensor.shape[0]), ops.matrix(tensor, MATRICES[name]), MATRICES[name], wide=True)
                for tensor in (found.tensor(name, layer), source.tensor(name, layer))
            ]
            assert torch.equal(read[0], found.tensor(name, layer))
            assert torch.equal(*read) != ((layer, name) in CALIBRATED)


def test_all_sites_named_is_the_same_as_none_named(tiny_model, tmp_path):
    every = "quantize.calibrated={ff1_ff3: all, ff2: 0..2, wqkv: all, wo: all}"
    quantized(tiny_model, tmp_path / "one", tmp_path)
    quantized(tiny_model, tmp_path / "two", tmp_path, every)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_what_a_matrix_sees_is_the_models_own_where_asked(tiny_model, tmp_path):
    """Then it is rounded alike whatever becomes of the others."""
    rounded = {}
    for name, lines in {
        "all": ["quantize.inputs=original"],
        "chosen": ["quantize.inputs=original", CHOSEN],
        "seen": [CHOSEN],
    }.items():
        quantized(tiny_model, tmp_path / name, tmp_path, *lines)
        rounded[name] = SafetensorsWeights(tmp_path / name)
    for layer, name in CALIBRATED:
        assert torch.equal(rounded["chosen"].tensor(name, layer), rounded["all"].tensor(name, layer))
        assert not torch.equal(rounded["chosen"].tensor(name, layer), rounded["seen"].tensor(name, layer))


def test_a_text_is_calibrated_on_behind_what_is_skipped(tiny_model, tmp_path):
    section = quantized(tiny_model, tmp_path / "out", tmp_path, "quantize.skip=100")
    assert section["text"].endswith("after 100 tokens")
    with pytest.raises(ConfigError, match="was begun with"):
        quantized(tiny_model, tmp_path / "out", tmp_path, "quantize.skip=101")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["quantize.calibrated={ff3: all}"], r"quantize.calibrated has no site 'ff3'(?s:.)*ff"),
        (["quantize.calibrated={lm_head: all}"], "quantize.calibrated has no site 'lm_head'"),
        (["quantize.calibrated={}"], "quantize.calibrated is empty"),
        (["quantize.calibrated={ff2: 3}"], "quantize.calibrated.ff2: there is no layer 3"),
        (["quantize.calibrated={ff2: x}"], "quantize.calibrated.ff2: cannot read 'x'"),
        (
            [CHOSEN, "layers=[{select: 2, precision: {ff2: BF16}}]"],
            "quantize.calibrated.ff2 names layer 2, whose ff2 is in no block format",
        ),
        (["quantize.inputs=own"], "'own' is not a LayerInputs"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(tiny_model, tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        quantized(tiny_model, tmp_path / "out", tmp_path, *overrides)
    assert not (tmp_path / "out").exists()
