# SPDX-License-Identifier: Apache-2.0
"""A folder with a random Llama of three layers, in bfloat16, and a tokenizer whose tokens are bytes."""

import json

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from tt_transformers_v2.models.huggingface_config import FolderConfig
from tt_transformers_v2.models.stored_tensors import StoredTensors
from tt_transformers_v2.models.weights import SyntheticWeights, every_tensor

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def write_model(folder, change=lambda tensors: None):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    config = FolderConfig(folder)
    names, source = StoredTensors(config, ()), SyntheticWeights(config.spec, 3)
    tensors, at = {}, 0
    for name, layer in every_tensor(config.spec):
        if name == "lm_head":
            continue
        at = 0
        for piece in names.pieces(name, layer):
            x = source.tensor(name, layer)
            own = x if x.ndim == 1 or name == "embedding" else x[:, at : at + piece.rows].T
            at += piece.rows
            tensors[piece.name] = own.to(torch.bfloat16).contiguous()
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
