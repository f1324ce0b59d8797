# SPDX-License-Identifier: Apache-2.0
"""Hugging Face folders: tiny models against the logits of Hugging Face's own code, and folders that are broken."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_decoder import logits
from safetensors.torch import load_file, save_file

from places import DATA
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models.huggingface import SafetensorsWeights, huggingface_spec
from tt_transformers_v2.models.spec import ModelSpec, RopeScaling
from tt_transformers_v2.models.weights import GLOBAL_TENSORS, tensor_names, tensor_shape

MODELS = sorted(path.name for path in DATA.glob("hf_*"))
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 256,
}
_numbers = itertools.count()


def config(tmp_path: Path, **changes: Any) -> Path:
    folder = tmp_path / f"model{next(_numbers)}"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA | changes))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole, unsharded model to break."""
    return Path(shutil.copytree(DATA / "hf_llama_linear", tmp_path / "model"))


def test_every_family_is_here() -> None:
    assert len(MODELS) == 8


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_hugging_face(name: str) -> None:
    weights = SafetensorsWeights(DATA / name)
    expected = load_file(DATA / name / "expected.safetensors")
    found = logits(weights, expected["ids"])
    assert float(expected["logits"].abs().max()) > 1, "or the tolerance would say nothing"
    torch.testing.assert_close(found, expected["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_tensors_have_the_promised_form(name: str) -> None:
    weights = SafetensorsWeights(DATA / name)
    places: list[tuple[str, int | None]] = [(tensor, 1) for tensor in tensor_names(weights.spec)]
    for tensor, layer in places + [(tensor, None) for tensor in GLOBAL_TENSORS]:
        values = weights.tensor(tensor, layer)
        assert values.shape == tensor_shape(weights.spec, tensor, layer), tensor
        assert values.dtype == torch.float32
        assert values.is_contiguous()
    assert weights.basis == f"real weights: {name}, safetensors"
    assert not weights.synthetic


def test_specs_say_what_the_configs_say() -> None:
    specs = {name.removeprefix("hf_"): huggingface_spec(DATA / name) for name in MODELS}
    assert specs["llama"].rope_scaling == RopeScaling("llama3", 8.0, 32, 1.0, 4.0)
    assert specs["llama"].rope_theta == 5e5
    assert specs["llama_linear"].rope_scaling == RopeScaling("linear", 4.0)
    assert specs["llama_linear"].tie_embeddings
    assert specs["llama_sharded"].head_dim == 32
    assert specs["mistral"].sliding_window == 8
    assert specs["qwen2"].qkv_bias
    assert specs["qwen2"].rope_scaling == RopeScaling("yarn", 4.0, 64)
    assert specs["qwen3"].qk_norm
    assert specs["phi3_long"].rope_scaling == specs["phi3_short"].rope_scaling
    assert specs["phi3_long"].rope_scaling is not None
    assert specs["phi3_long"].rope_scaling.factor == 8.0
    assert [specs[name].family for name in ("llama", "mistral", "qwen2", "qwen3", "phi3_long")] == [
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "phi3",
    ]


def test_family_and_name(tmp_path: Path) -> None:
    assert huggingface_spec(config(tmp_path, vocab_size=128256)).family == "llama-3"
    cached = tmp_path / "models--some--Llama-9-B" / "snapshots" / "0123"
    shutil.copytree(config(tmp_path), cached)
    assert huggingface_spec(cached).name == "Llama-9-B"


def test_defaults_are_those_of_the_config_classes(tmp_path: Path) -> None:
    assert huggingface_spec(config(tmp_path)) == ModelSpec.uniform(
        256, 64, 2, 4, 96, norm_eps=1e-6, rope_theta=10000.0, max_context=2048
    )
    qwen3 = huggingface_spec(
        config(tmp_path, architectures=["Qwen3ForCausalLM"], num_key_value_heads=2, sliding_window=16)
    )
    assert (qwen3.head_dim, qwen3.sliding_window) == (128, None)
    mistral = config(tmp_path, architectures=["MistralForCausalLM"], num_key_value_heads=2)
    assert huggingface_spec(mistral).sliding_window == 4096
    mistral = config(tmp_path, architectures=["MistralForCausalLM"], num_key_value_heads=2, sliding_window=None)
    assert huggingface_spec(mistral).sliding_window is None


@pytest.mark.parametrize("scaling", ["su", "longrope", "yarn"])
def test_phi3s_older_names_of_longrope(scaling: str, tmp_path: Path) -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [2] * 8}
    spec = huggingface_spec(
        config(
            tmp_path,
            architectures=["Phi3ForCausalLM"],
            rope_scaling={"type": scaling, **factors},
            max_position_embeddings=131072,
        )
    )
    expected = RopeScaling("longrope", 32.0, 4096, short_factor=(1.0,) * 8, long_factor=(2.0,) * 8)
    assert spec.rope_scaling == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM is not supported. Supported: llama"),
        ({"architectures": None}, "neither model_type nor architectures"),
        ({"partial_rotary_factor": 0.75}, "partial_rotary_factor = 0.75"),
        ({"architectures": ["Phi3ForCausalLM"], "partial_rotary_factor": 0.7}, "rotates 11 dimensions"),
        ({"attention_bias": "yes"}, "attention_bias must be true or false"),
        ({"architectures": ["Phi3ForCausalLM"], "attention_bias": True}, "attention_bias = true is not supported"),
        ({"hidden_act": "gelu_new"}, "hidden_act = gelu_new"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic' is not supported"),
        ({"rope_scaling": {"type": "linear"}}, "factor is missing"),
        ({"rope_scaling": {"type": "yarn", "factor": 4, "truncate": 3}}, "truncate must be true or false"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "by kind of layer"),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}, "list of 8"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types differ"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "64"}, "hidden_size must be a positive whole number"),
        ({"hidden_size": 2**40}, "hidden_size must be a positive whole number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive number"),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"num_key_value_heads": 3}, "config.json: model.num_heads (4) must be a multiple"),
    ],
)
def test_what_cannot_be_computed_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        huggingface_spec(config(tmp_path, **changes))
    assert said in str(caught.value)


def test_config_file_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        huggingface_spec(tmp_path)
    path = tmp_path / "config.json"
    for content in (b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"config\.json"):
            huggingface_spec(tmp_path)
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(ConfigError, match="more than 16 MB"):
        huggingface_spec(tmp_path)


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin, a pickle.*save_pretrained"):
        SafetensorsWeights(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ConfigError, match="neither"):
        SafetensorsWeights(folder)


def own_copy(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file that is written again: some versions of safetensors leave them in the mapped file."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def test_missing_and_misshapen_tensors_are_named(folder: Path) -> None:
    stored = own_copy(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    for broken, said in (
        ({key: value for key, value in stored.items() if key != name}, f"no safetensors file contains '{name}'"),
        (stored | {name: stored[name][:-1].clone()}, rf"'{name}' is \[95, 64\]"),
        (stored | {name: stored[name].to(torch.int8)}, f"'{name}' is .* in I8"),
    ):
        save_file(broken, folder / "model.safetensors")
        with pytest.raises(ConfigError, match=said):
            SafetensorsWeights(folder)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 3, "x" * 999])
def test_an_index_stays_in_its_folder(shard: Any, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(DATA / "hf_llama_sharded", tmp_path / "model"))
    path = broken / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.weight"] = shard
    path.write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"outside its folder|missing 1 of"):
        SafetensorsWeights(broken)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    broken = Path(shutil.copytree(DATA / "hf_llama_sharded", tmp_path / "model"))
    (broken / "model-00002-of-00005.safetensors").unlink()
    with pytest.raises(ConfigError, match="is missing 1 of its weight files, including model-00002-of-00005"):
        SafetensorsWeights(broken)


def test_fingerprint_sees_one_changed_number_in_small_files(folder: Path) -> None:
    before = SafetensorsWeights(folder).fingerprint
    assert SafetensorsWeights(DATA / "hf_llama_linear").fingerprint == before
    stored = own_copy(folder / "model.safetensors")
    stored["model.norm.weight"][5] += 1
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    assert SafetensorsWeights(folder).fingerprint != before


def use(folder: Path) -> None:
    """Everything that reads a folder; nothing but ConfigError may come out."""
    with contextlib.suppress(ConfigError):
        weights = SafetensorsWeights(folder)
        for name in tensor_names(weights.spec):
            assert weights.tensor(name, 1).shape == tensor_shape(weights.spec, name, 1)
        for name in GLOBAL_TENSORS:
            weights.tensor(name)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(DATA / "hf_llama_linear", tmp_path_factory.mktemp("hf") / "model"))


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_broken_safetensors_end_in_a_sentence(scratch: Path, data: st.DataObject) -> None:
    content = bytearray((DATA / "hf_llama_linear" / "model.safetensors").read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
        (scratch / "model.safetensors").write_bytes(content)
        with pytest.raises(ConfigError, match=r"model\.safetensors"):
            SafetensorsWeights(scratch)
        return
    for at in data.draw(st.lists(st.one_of(st.integers(0, 8), st.integers(0, 2500)), min_size=1, max_size=3)):
        content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
    (scratch / "model.safetensors").write_bytes(content)
    use(scratch)


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from([64, 4, 1, "yarn", "llama3", "longrope", "linear"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["type", "rope_type", "factor", "rope_theta", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_strange_configs_end_in_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "strange"
    folder.mkdir(exist_ok=True)
    name = data.draw(st.sampled_from(["hf_llama", "hf_phi3_long", "hf_qwen2", "hf_mistral"]))
    text = (DATA / name / "config.json").read_text()
    if data.draw(st.booleans()):
        values = json.loads(text)
        for key in data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=3)):
            values[key] = data.draw(JSON)
        (folder / "config.json").write_text(json.dumps(values))
    else:
        content = bytearray(text.encode())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=4))
        (folder / "config.json").write_bytes(content)
    with contextlib.suppress(ConfigError):
        assert huggingface_spec(folder).num_layers >= 1
