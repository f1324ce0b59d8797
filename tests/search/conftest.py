# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from places import DATA

LLAMA = DATA / "hf_llama"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a Llama of two layers and 256 tokens, and a tokenizer whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copy(LLAMA / "model.safetensors", folder)
    config = json.loads((LLAMA / "config.json").read_text())
    # The same matrices as half as many heads, of whole tiles: others cannot run on a card, and have no speed.
    heads = {"num_attention_heads": config["num_attention_heads"] // 2, "head_dim": 2 * config["head_dim"]}
    heads["num_key_value_heads"] = config["num_key_value_heads"] // 2
    (folder / "config.json").write_text(json.dumps(config | heads))
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
