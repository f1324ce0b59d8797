# SPDX-License-Identifier: Apache-2.0
"""GGUF files of every architecture: the model and tensors of the family's folder, and nothing of a file dropped."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from family_gguf import KINDS, tensors, write_family
from safetensors.torch import load_file, save_file

from places import DATA
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models.decoder import forward
from tt_transformers_v2.models.gguf_architectures import ARCHITECTURES
from tt_transformers_v2.models.gguf_weights import GgufWeights, gguf_spec
from tt_transformers_v2.models.huggingface import SafetensorsWeights
from tt_transformers_v2.models.weights import embedding_rows, every_tensor

FAMILIES = DATA / "families"
# What a GGUF file can say whole: transformers' own logits are the measure.
WHOLE = (
    "gemma2", "gemma3", "granite", "llama_biases", "ministral3", "mixtral", "phi4_mini", "qwen3_base", "qwen3_moe"
)  # fmt: skip
# Folders made to say what an architecture takes for granted: the folder's own loading is the measure.
GRANTED: dict[str, dict[str, Any]] = {
    "gpt_oss": {"swiglu_limit": 7.0},
    "gpt_oss_mxfp4": {"swiglu_limit": 7.0},
    "qwen2_mixed": {"use_sliding_window": False, "layer_types": None},
    "qwen3_moe_sparse": {"norm_topk_prob": True},
}


def changed(folder: str, tmp_path: Path, **values: Any) -> Path:
    """A copy of a family's folder with other values in its config.json."""
    copy = Path(shutil.copytree(FAMILIES / folder, tmp_path / folder, dirs_exist_ok=True))
    config = json.loads((copy / "config.json").read_text()) | values
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def same(file: Path, folder: Path) -> None:
    found, wanted = GgufWeights(file), SafetensorsWeights(folder)
    assert found.spec == wanted.spec
    assert found.spec.family == wanted.spec.family
    for name, layer in every_tensor(wanted.spec):
        assert torch.equal(found.tensor(name, layer), wanted.tensor(name, layer)), (name, layer)
    ids = torch.tensor([3, 0, 3, wanted.spec.vocab_size - 1])
    for source in (found, wanted):
        assert torch.equal(embedding_rows(source, ids), wanted.tensor("embedding")[ids])


def logits(weights: Any, ids: torch.Tensor) -> torch.Tensor:
    return forward(ReferenceOps(), weights, ids[None])[0]


@pytest.mark.parametrize("name", WHOLE)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    file = write_family(tmp_path / "model.gguf", FAMILIES / name)
    same(file, FAMILIES / name)
    with np.load(FAMILIES / name / "expected.npz") as arrays:
        ids, wanted = torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["logits"])
    found = logits(GgufWeights(file), ids)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4


@pytest.mark.parametrize("name", GRANTED)
def test_a_file_is_the_folder_that_says_what_its_architecture_takes_for_granted(name: str, tmp_path: Path) -> None:
    folder = changed(name, tmp_path, **GRANTED[name])
    same(write_family(tmp_path / "model.gguf", folder), folder)


@pytest.mark.parametrize("name", ["hf_qwen2", "hf_qwen3"])
def test_smaller_folders(name: str, tmp_path: Path) -> None:
    same(write_family(tmp_path / "model.gguf", DATA / name), DATA / name)


def test_every_fourth_layer_of_smollm3_does_not_rotate(tmp_path: Path) -> None:
    folder = changed("smollm3", tmp_path, num_hidden_layers=5, layer_types=None, no_rope_layers=[1, 1, 1, 0, 1])
    stored = load_file(folder / "model.safetensors")
    for name in [name for name in stored if name.startswith("model.layers.")]:
        for layer in (3, 4):
            if name.startswith(f"model.layers.{layer - 3}."):
                stored[name.replace(f".{layer - 3}.", f".{layer}.", 1)] = stored[name].clone()
    save_file(stored, folder / "model.safetensors")
    file = write_family(tmp_path / "model.gguf", folder)
    same(file, folder)
    assert [gguf_spec(file).layer(i).attention.rotary is None for i in range(5)] == [False, False, False, True, False]


def test_every_architecture_is_written_here() -> None:
    folders = [FAMILIES / name for name in (*WHOLE, *GRANTED, "smollm3")] + [DATA / "hf_qwen2", DATA / "hf_qwen3"]
    kinds = {json.loads((folder / "config.json").read_text())["model_type"] for folder in folders}
    own = {entry.family for entry in ARCHITECTURES.values()} | {"mixtral"}
    assert own == kinds


def test_mxfp4_is_dequantised_as_published(tmp_path: Path) -> None:
    folder = changed("gpt_oss_mxfp4", tmp_path, swiglu_limit=7.0)
    file = write_family(tmp_path / "gpt-MXFP4.gguf", folder)
    stored = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}
    assert stored["blk.0.ffn_gate_exps.weight"] == "MXFP4"
    assert GgufWeights(file).spec.name == "gpt"
    same(file, folder)


def dequantised_types() -> list[str]:
    """The types that gguf reads, found out on one block of each."""
    found = []
    for kind, (_, size) in gguf.constants.GGML_QUANT_SIZES.items():
        with contextlib.suppress(NotImplementedError):
            gguf.quants.dequantize(np.zeros((1, size), np.uint8), kind)
            found.append(kind.name)
    return sorted(found)


@pytest.mark.parametrize("name", dequantised_types())
def test_blocks_of_every_type_that_gguf_dequantises(name: str, tmp_path: Path) -> None:
    """Random blocks: gguf quantises to few of the types that it reads."""
    kind = KINDS[name]
    block, size = gguf.constants.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(1).integers(0, 256, (32, 256 // block * size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        wanted = gguf.quants.dequantize(raw, kind)
    folder = changed("qwen3_base", tmp_path, intermediate_size=256)
    stored = load_file(folder / "model.safetensors")
    for key in [key for key in stored if ".mlp." in key]:
        stored[key] = torch.zeros((32, 256) if "down" in key else (256, 32))
    save_file(stored, folder / "model.safetensors")
    file = write_family(tmp_path / "model.gguf", folder, raw={"blk.0.ffn_down.weight": (raw, kind)})
    assert np.array_equal(GgufWeights(file).tensor("w2", 0).T.numpy(), wanted, equal_nan=True)


# ---- nothing is dropped ----

LLAMA = "llama_biases"


@pytest.mark.parametrize(
    ("folder", "tensor", "shape"),
    [
        ("qwen3_base", "blk.1.attn_output.bias", 32),
        ("qwen3_base", "blk.1.ffn_up.bias", 32),
        ("qwen3_base", "blk.0.attn_rel_b.weight", 32),
        (LLAMA, "blk.0.attn_q_norm.weight", 16),
        (LLAMA, "blk.0.attn_q.input_scale", 1),
        ("gemma3", "blk.0.attn_sinks.weight", 4),
        ("mixtral", "blk.0.ffn_gate_shexp.weight", 32),
    ],
)
def test_a_tensor_that_would_be_left_unread_is_named(folder: str, tensor: str, shape: int, tmp_path: Path) -> None:
    file = write_family(tmp_path / "model.gguf", FAMILIES / folder, extra={tensor: np.ones(shape)})
    with pytest.raises(ConfigError) as caught:
        GgufWeights(file)
    assert f"model.gguf: tensor '{tensor}'" in caught.value.message
    assert "would be left unread" in caught.value.message
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("bias", ["attn_output", "ffn_gate", "ffn_down"])
def test_biases_are_read_where_all_are_there_and_missed_where_one_is_not(bias: str, tmp_path: Path) -> None:
    spec = gguf_spec(write_family(tmp_path / "whole.gguf", FAMILIES / LLAMA))
    assert (spec.layer(0).attention.output_bias, spec.layer(0).mlp.bias) == (True, True)
    file = write_family(tmp_path / "model.gguf", FAMILIES / LLAMA, left_out=(f"blk.1.{bias}.bias",))
    with pytest.raises(ConfigError, match=rf"'blk\.1\.{bias}\.bias' is missing"):
        GgufWeights(file)


def test_scales_of_nvfp4_multiply(tmp_path: Path) -> None:
    plain = GgufWeights(write_family(tmp_path / "plain.gguf", FAMILIES / "mixtral"))
    shares = np.array([0.5, 2.0, 4.0, 0.25])
    extra = {"blk.0.attn_v.scale": np.array([8.0]), "blk.1.ffn_down_exps.scale": shares}
    scaled = GgufWeights(write_family(tmp_path / "scaled.gguf", FAMILIES / "mixtral", extra=extra))
    kv = 32
    assert torch.equal(scaled.tensor("wqkv", 0)[:, -kv:], plain.tensor("wqkv", 0)[:, -kv:] * 8)
    assert torch.equal(scaled.tensor("wqkv", 0)[:, :-kv], plain.tensor("wqkv", 0)[:, :-kv])
    for number, share in enumerate(shares):
        name = f"expert{number}.w2"
        assert torch.equal(scaled.tensor(name, 1), plain.tensor(name, 1) * share)
    wrong = write_family(tmp_path / "wrong.gguf", FAMILIES / "mixtral", extra={"blk.0.attn_v.scale": np.ones(3)})
    with pytest.raises(ConfigError, match=r"'blk\.0\.attn_v\.scale' is \[3\], but the model needs \[1\]"):
        GgufWeights(wrong)


def test_yarn_has_every_number_of_the_file(tmp_path: Path) -> None:
    keys = {
        "rope.scaling.yarn_beta_fast": 16.0,
        "rope.scaling.yarn_beta_slow": 2.0,
        "rope.scaling.yarn_log_multiplier": 0.5,
    }
    spec = gguf_spec(write_family(tmp_path / "model.gguf", FAMILIES / "ministral3", keys=keys))
    scaling = spec.rotaries[0].scaling
    assert scaling is not None
    assert (scaling.beta_fast, scaling.beta_slow) == (16.0, 2.0)
    log = float(np.log(8.0))
    assert scaling.attention_factor == pytest.approx((0.1 * log + 1) / (0.05 * log + 1))
    twice = gguf_spec(
        write_family(tmp_path / "twice.gguf", FAMILIES / "ministral3", keys=keys | {"rope.scaling.attn_factor": 2.0})
    )
    assert twice.rotaries[0].scaling.attention_factor == pytest.approx(2 * scaling.attention_factor)
    stated = gguf_spec(
        write_family(tmp_path / "stated.gguf", FAMILIES / "ministral3", keys={"rope.scaling.yarn_attn_factor": 1.5})
    )
    assert stated.rotaries[0].scaling.attention_factor == 1.5


@pytest.mark.parametrize(
    ("folder", "keys", "said"),
    [
        (LLAMA, {"rope.scaling.attn_factor": 1.5}, "llama.rope.scaling.attn_factor = 1.5 is not supported"),
        (LLAMA, {"rope.scaling.yarn_beta_fast": 16.0}, "llama.rope.scaling.yarn_beta_fast = 16.0"),
        (LLAMA, {"rope.scaling.yarn_log_multiplier": 0.5}, "llama.rope.scaling.yarn_log_multiplier = 0.5"),
        (LLAMA, {"rope.scaling.type": "longrope"}, "rope scaling 'longrope' is not supported"),
        (LLAMA, {"attention.sliding_window": 8}, "llama.attention.sliding_window = 8"),
        (LLAMA, {"attention.causal": False}, "llama.attention.causal = False"),
        (LLAMA, {"attention.scale": 0.5}, "llama.attention.scale = 0.5"),
        (LLAMA, {"logit_scale": 0.5}, "llama.logit_scale = 0.5"),
        (LLAMA, {"attention.value_length": 8}, "attention.value_length is 8, but heads have 16"),
        (LLAMA, {"attention.temperature_scale": 0.5}, "llama.attention.temperature_scale = 0.5"),
        (LLAMA, {"attention.layer_norm_rms_epsilon": None}, "llama.attention.layer_norm_rms_epsilon is missing"),
        (LLAMA, {"new_key": 3}, "llama.new_key = 3"),
        (LLAMA, {"block_count": 2000}, "block_count is 2000, but it has"),
        ("qwen3_moe", {"expert_gating_func": 2}, "qwen3moe.expert_gating_func = 2"),
        ("qwen3_moe", {"expert_weights_scale": 2.5}, "qwen3moe.expert_weights_scale = 2.5"),
        ("qwen3_moe", {"expert_count": 6}, "expert_count is 6, but 'blk.0.ffn_gate_inp.weight' is [5, 32]"),
        ("qwen3_moe", {"expert_used_count": 6}, "num_experts_per_tok 6 is more than"),
        ("qwen3_base", {"expert_count": 4}, "a qwen3 with experts is not supported"),
        ("granite", {"rope.scaling.finetuned": False}, "granite.rope.scaling.finetuned = False"),
        ("phi4_mini", {"rope.dimension_count": 10}, "'rope_factors_long.weight' must have 5 numbers"),
        ("gemma3", {"attention.sliding_window_pattern": [True]}, "sliding_window_pattern must be of 3 layers"),
    ],
)
def test_keys_that_would_change_values_are_refused(
    folder: str, keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        gguf_spec(write_family(tmp_path / "model.gguf", FAMILIES / folder, keys=keys))
    assert said in caught.value.message
    assert "model.gguf" in caught.value.message
    assert len(str(caught.value).splitlines()) <= 2


def test_keys_that_change_nothing_are_taken(tmp_path: Path) -> None:
    keys = {
        "attention.causal": True,
        "logit_scale": 1.0,
        "expert_count": 0,
        "pooling_type": 2,
        "rope.scaling.type": "none",
    }
    file = write_family(tmp_path / "model.gguf", FAMILIES / LLAMA, keys=keys)
    same(file, FAMILIES / LLAMA)


def test_gemmas_scale_is_that_of_its_size_where_the_file_has_none(tmp_path: Path) -> None:
    file = write_family(tmp_path / "model.gguf", FAMILIES / "gemma3", keys={"attention.scale": None})
    assert gguf_spec(file).layer(0).attention.scale == 16**-0.5
    none = {"attention.sliding_window": None, "attention.sliding_window_pattern": None}
    spec = gguf_spec(write_family(tmp_path / "full.gguf", FAMILIES / "gemma3", keys=none))
    assert [spec.layer(i).attention.window for i in range(3)] == [None] * 3
    keys = {"attention.sliding_window_pattern": 2, "rope.freq_base_swa": None}
    spec = gguf_spec(write_family(tmp_path / "number.gguf", FAMILIES / "gemma3", keys=keys))
    assert spec == gguf_spec(write_family(tmp_path / "listed.gguf", FAMILIES / "gemma3"))


def test_a_part_of_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tt_transformers_v2.models.gguf_file import read_gguf

    file = write_family(tmp_path / "model-00001-of-00002.gguf", FAMILIES / LLAMA)
    monkeypatch.setitem(read_gguf(file).metadata, "split.count", 2)
    with pytest.raises(ConfigError, match="one of 2 parts"):
        GgufWeights(file)


def test_experts_whose_gate_and_up_are_one_tensor(tmp_path: Path) -> None:
    folder = FAMILIES / "mixtral"
    config = json.loads((folder / "config.json").read_text())
    every = tensors(folder, config, "llama", True)
    names = [(f"blk.{i}.ffn_gate_exps.weight", f"blk.{i}.ffn_up_exps.weight") for i in range(2)]
    fused = {gate.replace("gate", "gate_up"): np.concatenate((every[gate], every[up]), axis=1) for gate, up in names}
    left_out = tuple(name for pair in names for name in pair)
    same(write_family(tmp_path / "model.gguf", folder, extra=fused, left_out=left_out), folder)
