# SPDX-License-Identifier: Apache-2.0
"""Every family of models against transformers' own logits (make_family_folders.py), whole and from a KV cache."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from places import DATA
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models import families
from tt_transformers_v2.models.decoder import each_layer, final_hidden, forward, head_matrix, logits_of
from tt_transformers_v2.models.decoding import phased_layer, segments
from tt_transformers_v2.models.families import FAMILIES, Family
from tt_transformers_v2.models.huggingface import SafetensorsWeights, huggingface_spec
from tt_transformers_v2.models.layer_spec import AttentionSpec
from tt_transformers_v2.models.rope import rope_tables
from tt_transformers_v2.models.weights import every_tensor, tensor_shape

FOLDERS = sorted(path for path in (DATA / "families").iterdir())
NAMES = [folder.name for folder in FOLDERS]


def expected(folder: Path) -> dict[str, Any]:
    with np.load(folder / "expected.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def changed(folder: str, tmp_path: Path, **values: Any) -> Path:
    """A copy of a family's folder with other values in its config.json; None with a dash before takes a key away."""
    copy = Path(shutil.copytree(DATA / "families" / folder, tmp_path / folder, dirs_exist_ok=True))
    config = json.loads((copy / "config.json").read_text()) | values
    (copy / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))
    return copy


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_logits_are_those_of_transformers_within_windows_and_beyond(folder: Path) -> None:
    weights, wanted = SafetensorsWeights(folder), expected(folder)
    assert float(wanted["logits"].abs().max()) > 1, "or the tolerance would say nothing"
    for logits in (wanted["logits"], wanted["short"]):
        found = forward(ReferenceOps(), weights, wanted["ids"][None, : len(logits)])[0]
        assert error(found, logits) < 1e-4


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_decoding_from_the_cache_gives_the_same(folder: Path) -> None:
    weights, wanted = SafetensorsWeights(folder), expected(folder)
    spec, ops, ids = weights.spec, ReferenceOps(), wanted["ids"][None]
    parts = segments(ids.shape[1], prefill=20, chunk=12, block=10)
    tables = rope_tables(spec, torch.arange(ids.shape[1]))
    x = ops.embed(ids, weights.tensor("embedding"))
    for layer in each_layer(weights):
        x = phased_layer(ops, spec, layer, x, tables, parts)
    found = logits_of(ops, spec, head_matrix(ops, weights), final_hidden(ops, spec, weights, x))[0]
    assert error(found, wanted["logits"]) < 1e-4


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_every_tensor_has_the_promised_form(folder: Path) -> None:
    weights = SafetensorsWeights(folder)
    for name, layer in every_tensor(weights.spec):
        tensor = weights.tensor(name, layer)
        assert tensor.shape == tensor_shape(weights.spec, name, layer), name
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous()


def test_each_entry_of_the_table_has_a_folder() -> None:
    kinds = {json.loads((folder / "config.json").read_text())["model_type"] for folder in FOLDERS}
    elsewhere = {json.loads(path.read_text())["model_type"] for path in DATA.glob("hf_*/config.json")}
    # Mistral 3 is Gemma 3's way to hold a tower, around the decoders of mistral and ministral3.
    assert kinds | elsewhere | {"gemma3_text", "mistral3"} == set(FAMILIES)


def test_layers_differ_where_they_should() -> None:
    def attention(name: str) -> list[AttentionSpec]:
        spec = huggingface_spec(DATA / "families" / name)
        return [spec.layer(i).attention for i in range(spec.num_layers)]

    assert [own.window for own in attention("gemma3")] == [8, None, 8]
    assert [own.rotary.theta for own in attention("gemma3") if own.rotary] == [1e4, 1e6, 1e4]
    assert [own.rotary is None for own in attention("smollm3")] == [False, True, False]
    assert [own.rotary is None for own in attention("exaone4")] == [False, False, True]
    assert [own.window for own in attention("qwen2_mixed")] == [None, None, 8]
    moe = huggingface_spec(DATA / "families" / "qwen3_moe")
    assert [moe.layer(i).experts is None for i in range(3)] == [False, True, False]
    sparse = huggingface_spec(DATA / "families" / "qwen3_moe_sparse")
    assert [sparse.layer(i).experts is None for i in range(2)] == [True, False]


def test_a_family_of_known_kinds_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = changed("olmo3", tmp_path, model_type="newcomer", architectures=["NewcomerForCausalLM"])
    with pytest.raises(ConfigError, match="model_type newcomer is not supported"):
        huggingface_spec(folder)
    entry: Family = dataclasses.replace(FAMILIES["olmo3"], name="newcomer", classes=("NewcomerForCausalLM",))
    monkeypatch.setitem(families.FAMILIES, "newcomer", entry)  # type: ignore[arg-type]
    wanted = expected(folder)
    found = forward(ReferenceOps(), SafetensorsWeights(folder), wanted["ids"][None])[0]
    assert error(found, wanted["logits"]) < 1e-4


def test_parameters_are_those_of_the_files() -> None:
    for folder in FOLDERS:
        spec = huggingface_spec(folder)
        tensors = [at for at in every_tensor(spec) if not (spec.tie_embeddings and at[0] == "lm_head")]
        assert spec.num_parameters == sum(int(np.prod(tensor_shape(spec, *at))) for at in tensors), folder
        assert (spec.active_parameters < spec.num_parameters) == any(kind.experts for kind in spec.layer_counts)


# ---- what a folder may leave out ----


def test_model_type_alone_or_architectures_alone_are_enough(tmp_path: Path) -> None:
    stated = huggingface_spec(DATA / "families" / "granite")
    assert huggingface_spec(changed("granite", tmp_path, architectures="absent")) == stated
    assert huggingface_spec(changed("granite", tmp_path, model_type="absent")) == stated


def test_a_tower_is_left_out_and_the_result_says_so() -> None:
    weights = SafetensorsWeights(DATA / "families" / "gemma3_tower")
    assert weights.basis == "real weights: gemma3_tower, safetensors, without its tower"


def test_names_of_newer_files_with_a_tower(tmp_path: Path) -> None:
    folder = changed("gemma3_tower", tmp_path)
    rename(folder, lambda name: f"model.{name}".replace("language_model.model.", "language_model."))
    wanted = expected(folder)
    assert error(forward(ReferenceOps(), SafetensorsWeights(folder), wanted["ids"][None])[0], wanted["logits"]) < 1e-4


def test_a_sparse_text_config_has_the_defaults_of_its_class(tmp_path: Path) -> None:
    """As gemma-3-4b is published, whose text_config has a handful of keys."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    text |= {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(config | {"vision_config": {}}))
    spec = huggingface_spec(tmp_path)
    assert (spec.num_heads, spec.num_kv_heads, spec.head_dim, spec.vocab_size) == (8, 4, 256, 262208)
    assert spec.tie_embeddings
    assert [i for i in range(34) if spec.layer(i).attention.window is None] == [5, 11, 17, 23, 29]
    assert {rotary.theta: rotary.scaling and rotary.scaling.factor for rotary in spec.rotaries} == {1e4: None, 1e6: 8.0}
    assert spec.num_parameters == pytest.approx(3.88e9, rel=0.005)


def test_mistral_without_max_position_embeddings(tmp_path: Path) -> None:
    folder = changed("ministral", tmp_path, model_type="mistral", architectures=["MistralForCausalLM"])
    folder = changed_again(folder, max_position_embeddings="absent", layer_types="absent")
    assert huggingface_spec(folder).max_context == 131072


def changed_again(folder: Path, **values: Any) -> Path:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))
    return folder


def rename(folder: Path, name: Any) -> None:
    stored = {name(key): tensor.clone() for key, tensor in load_file(folder / "model.safetensors").items()}
    save_file(stored, folder / "model.safetensors")


# ---- what must not be dropped ----


@pytest.mark.parametrize(
    ("folder", "values", "said"),
    [
        ("qwen3_base", {"is_causal": False}, "is_causal = false"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention = true"),
        (
            "granite",
            {"architectures": ["LlamaForCausalLM"]},
            "architectures is LlamaForCausalLM, but model_type is gra",
        ),
        ("granite", {"model_type": "llama"}, "architectures is GraniteForCausalLM, but model_type is llama"),
        ("llama_biases", {"residual_multiplier": 0.22}, "residual_multiplier = 0.22 is not supported"),
        ("llama_biases", {"logits_scaling": 8.0}, "logits_scaling = 8.0"),
        ("llama_biases", {"num_experts": 4}, "num_experts = 4"),
        ("llama_biases", {"rope_parameters": {"rope_theta": None, "rope_type": "default"}}, "rope_theta is null"),
        ("llama_biases", {"rope_parameters": {"rope_theta": 1e4, "mrope_section": [1]}}, "mrope_section is not"),
        ("llama_biases", {"rope_parameters": {"rope_theta": 1e4, "llama_4_scaling_beta": 0.1}}, "llama_4_scaling_beta"),
        ("gemma3", {"layer_types": ["sliding_attention"]}, "layer_types must list 3 layers"),
        ("gemma3", {"layer_types": ["linear_attention"] * 3}, "linear_attention, which is not supported"),
        ("gemma3", {"sliding_window": None}, "layer_types has sliding_attention, but there is no sliding window"),
        ("mixtral", {"num_experts_per_tok": 5}, "num_experts_per_tok 5 is more than num_local_experts 4"),
        ("qwen3_moe", {"mlp_only_layers": [3]}, "mlp_only_layers must list layers from 0 to 2"),
        ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step must be a positive whole number"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers must list a 0 or a 1 for each of 3 layers"),
        ("gpt_oss", {"quantization_config": {"quant_method": "awq"}}, "quantization_config = awq"),
        ("gpt_oss", {"swiglu_limit": -1.0}, "swiglu_limit must be a positive number"),
        ("olmo2", {"clip_qkv": 8.0}, "clip_qkv = 8.0"),
        ("gemma3_tower", {"text_config": None}, "text_config must be an object"),
        ("glm4", {"partial_rotary_factor": 0.1, "rope_parameters": {"rope_theta": 1e4}}, "rotates 1 dimensions"),
    ],
)
def test_keys_that_would_change_values_are_refused(
    folder: str, values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        huggingface_spec(changed(folder, tmp_path, **values))
    assert said in caught.value.message
    assert "config.json" in caught.value.message
    assert len(str(caught.value).splitlines()) <= 2


def test_keys_that_change_nothing_are_taken(tmp_path: Path) -> None:
    neutral = {"is_causal": True, "residual_multiplier": 1.0, "num_experts": 0, "clip_qkv": None, "my_note": 3}
    folder = changed("llama_biases", tmp_path, **neutral)
    assert huggingface_spec(folder) == huggingface_spec(DATA / "families" / "llama_biases")


def test_a_tensor_that_would_be_left_unread_is_named(tmp_path: Path) -> None:
    folder = changed("olmo2", tmp_path)
    stored = {key: tensor.clone() for key, tensor in load_file(folder / "model.safetensors").items()}
    path = folder / "model.safetensors"
    save_file(stored | {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}, path)
    with pytest.raises(
        ConfigError, match=r"model\.safetensors: tensor 'model\.layers\.0\.self_attn\.q_proj\.bias' would"
    ):
        SafetensorsWeights(folder)
    save_file(stored | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, path)
    SafetensorsWeights(folder)


def test_a_stored_head_goes_before_tied_embeddings(tmp_path: Path) -> None:
    """transformers 5 keeps a head that differs from the embedding, whatever tie_word_embeddings says."""
    folder = changed("qwen3_base", tmp_path)
    stored = {key: tensor.clone() for key, tensor in load_file(folder / "model.safetensors").items()}
    head = torch.randn(64, 32)
    save_file(stored | {"lm_head.weight": head}, folder / "model.safetensors")
    assert torch.equal(SafetensorsWeights(folder).tensor("lm_head"), head.T)


def test_a_vocabulary_above_the_embedding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"embed_tokens\.weight' is \[64, 32\].* needs \[65, 32\]"):
        SafetensorsWeights(changed("olmo2", tmp_path, vocab_size=65))
    with pytest.raises(ConfigError, match="tokens must be 0 to 63, not 1 to 64"):
        forward(ReferenceOps(), SafetensorsWeights(DATA / "families" / "olmo2"), torch.tensor([[1, 64]]))
