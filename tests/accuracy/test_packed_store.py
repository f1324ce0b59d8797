# SPDX-License-Identifier: Apache-2.0
"""Weights kept on disk as a device stores them: the same bits, of the same files only, and never too many."""

import json
import os
import shutil

import pytest
import torch

from places import DATA
from tt_transformers_v2.accuracy import packed_store
from tt_transformers_v2.accuracy.packed_store import PackedStore
from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.common import checkout
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.models.open_model import open_weights
from tt_transformers_v2.run.runner import run

LLAMA = DATA / "hf_llama"


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "outputs_dir", lambda: tmp_path / "outputs")
    return tmp_path / "outputs"


@pytest.fixture
def model(tmp_path):
    """A copy of the model, whose files may be changed."""
    shutil.copytree(LLAMA, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def rounded(monkeypatch):
    """How often a matrix was rounded to its format."""
    calls, packed = [], EmulatedOps._packed
    monkeypatch.setattr(EmulatedOps, "_packed", lambda *given: (calls.append(1), packed(*given))[1])
    return calls


def accuracy(folder, model, *overrides, device="n150"):
    base = ["task=accuracy", f"device={device}", "precision=performance", "model=hf", f"model.path={model}"]
    checked = check_overrides([*base, "workload.tokens=40", "workload.window=24", *overrides])
    found = run(resolve(compose(checked), checked.typed), folder, show_progress=False)
    return json.dumps(found["accuracy"], sort_keys=True)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_a_second_run_rounds_no_layer_and_finds_the_same_figures(tmp_path, outputs, rounded, numerics):
    how = f"backend.numerics={numerics}"
    plain = accuracy(tmp_path / "0", LLAMA, how, "cache.weights_gib=0")
    assert not (outputs / "cache" / "weights").exists()
    first, before = accuracy(tmp_path / "1", LLAMA, how), len(rounded)
    second = accuracy(tmp_path / "2", LLAMA, how)
    assert len(rounded) == before + 1  # the LM head's, which the reference reads as well
    assert plain == first == second


def test_another_device_and_another_fidelity_use_the_same_files(tmp_path, outputs, rounded):
    accuracy(tmp_path / "0", LLAMA)
    before, files = len(rounded), set(outputs.glob("cache/weights/*/*"))
    accuracy(tmp_path / "1", LLAMA, "compute.mlp.math_fidelity=HiFi4", device="n300")
    assert len(rounded) == before + 1
    assert set(outputs.glob("cache/weights/*/*")) == files


def test_another_format_has_files_of_its_own(tmp_path, outputs):
    accuracy(tmp_path / "0", LLAMA)
    one = {path.name for path in outputs.glob("cache/weights/*/*.w1.*")}
    accuracy(tmp_path / "1", LLAMA, "precision.mlp_weights=BF16")
    assert {path.name for path in outputs.glob("cache/weights/*/*.w1.*")} == one | {
        name.replace("bfp4", "bf16") for name in one
    }


@pytest.mark.parametrize("change", ["date", "code"])
def test_nothing_is_found_that_could_be_out_of_date(tmp_path, outputs, model, rounded, monkeypatch, change):
    accuracy(tmp_path / "0", model)
    made = len(rounded)
    if change == "date":
        for path in model.glob("*.safetensors"):
            os.utime(path, ns=(1, 1))
    else:
        monkeypatch.setattr(packed_store, "code_version", lambda: "another")
    accuracy(tmp_path / "1", model)
    assert len(rounded) == 2 * made


@pytest.mark.parametrize("what", ["cut", "changed", "emptied"])
def test_a_damaged_file_is_made_again(tmp_path, outputs, rounded, what):
    expected = accuracy(tmp_path / "0", LLAMA)
    path = min(outputs.glob("cache/weights/*/*.w1.*"))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes({"cut": content[:-40], "changed": content, "emptied": b""}[what])
    before = len(rounded)
    assert accuracy(tmp_path / "1", LLAMA) == expected
    assert len(rounded) == before + 2


def test_a_model_that_needs_more_than_the_room_keeps_nothing(tmp_path, outputs):
    spec = open_weights(None, path=str(LLAMA))[0].spec
    room = 2 * spec.num_parameters / 2**30
    accuracy(tmp_path / "0", LLAMA, f"cache.weights_gib={room * 0.999}")
    assert not (outputs / "cache" / "weights").exists()
    accuracy(tmp_path / "1", LLAMA, f"cache.weights_gib={room * 1.001}")
    files = list(outputs.glob("cache/weights/*/*"))
    assert files
    assert sum(path.stat().st_size for path in files) <= room * 1.001 * 2**30


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path, outputs, capsys):
    outputs.mkdir()
    (outputs / "cache").write_text("in the way")
    accuracy(tmp_path / "0", LLAMA)
    assert capsys.readouterr().err.count("warning: packed weights are not cached") == 1


def test_values_are_kept_to_the_bit(tmp_path):
    weights, _ = open_weights(None, path=str(LLAMA))
    matrix = torch.tensor([[1.0, -0.0], [2.0**-130, float("inf")]]).bfloat16()
    PackedStore(tmp_path, 1 << 20, weights, []).add("0.w1.bf16", matrix.float())
    found = PackedStore(tmp_path, 1 << 20, weights, []).get("0.w1.bf16")
    assert found is not None
    assert torch.equal(found.view(torch.int16), matrix.view(torch.int16))


EDITS = [
    {"rms_norm_eps": 0.5},
    {"rope_theta": 50.0},
    {"hidden_act": "gelu_pytorch_tanh"},
    {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32},
]


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edited_config_of_the_same_weights_is_another_model(tmp_path, outputs, model, edit):
    accuracy(tmp_path / "0", model)
    config = model / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | edit))
    found = accuracy(tmp_path / "1", model)
    assert found == accuracy(tmp_path / "2", model, "cache.weights_gib=0", "cache.reference_gib=0")


def test_any_room_may_be_given(tmp_path, outputs):
    accuracy(tmp_path / "0", LLAMA, "cache.weights_gib=1e308", "cache.reference_gib=1e308")
