# SPDX-License-Identifier: Apache-2.0
"""A model that is measured in no time and can run on a card."""

import json
import shutil

from tokenizers import Tokenizer, models, pre_tokenizers

from places import DATA

LLAMA = DATA / "hf_llama"


def write_tiny_model(folder):
    """Fills a folder with a Llama of two layers and 256 tokens, and a tokenizer whose tokens are bytes."""
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
