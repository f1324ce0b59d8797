# SPDX-License-Identifier: Apache-2.0
import shutil

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from places import DATA

LLAMA = DATA / "hf_llama"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a Llama of two layers and 256 tokens, and a tokenizer whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("tiny")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(LLAMA / name, folder / name)
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    """Caches of measurements go under the test's own folder."""
    from tt_transformers_v2.search import subject

    monkeypatch.setattr(subject, "outputs_dir", lambda: tmp_path / "outputs")
    return tmp_path / "outputs"
