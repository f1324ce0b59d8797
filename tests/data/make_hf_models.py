# SPDX-License-Identifier: Apache-2.0
"""Writes the tiny random models beside this file, with the logits Hugging Face's own code gives for them.

Run it only to add a family; it needs torch and transformers (5.23.0 made the files here), which the project
does not depend on:  python tests/data/make_hf_models.py

Each folder hf_<name>/ then holds config.json, the weights as safetensors and expected.safetensors
(`ids` int64 [1, T], `logits` float32 [1, T, vocab]).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).parent
SHAPE: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [1.0 + 1.5 * i for i in range(8)],
}
# name: architecture, what differs from SHAPE, tokens, stored type, largest shard, whether to write the config
# in the spelling used before transformers 5.
MODELS: dict[str, tuple[str, dict[str, Any], int, torch.dtype, str, bool]] = {
    "llama": ("Llama", {"rope_parameters": LLAMA3 | {"rope_theta": 5e5}}, 48, torch.bfloat16, "1GB", False),
    "llama_linear": (
        "Llama",
        {
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
            "tie_word_embeddings": True,
        },
        24,
        torch.float16,
        "1GB",
        True,
    ),
    "llama_sharded": ("Llama", {"head_dim": 32}, 16, torch.bfloat16, "60KB", True),
    "mistral": (
        "Mistral",
        {"vocab_size": 128, "intermediate_size": 32, "head_dim": 24, "sliding_window": 8},
        24,
        torch.float32,
        "1GB",
        True,
    ),
    "qwen2": (
        "Qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "rope_theta": 1e6,
            },
            "tie_word_embeddings": True,
        },
        48,
        torch.bfloat16,
        "1GB",
        False,
    ),
    "qwen3": (
        "Qwen3",
        {"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        32,
        torch.bfloat16,
        "1GB",
        False,
    ),
    "phi3_short": (
        "Phi3",
        {"rope_parameters": LONG | {"rope_theta": 1e4}, "original_max_position_embeddings": 32},
        32,
        torch.bfloat16,
        "1GB",
        True,
    ),
    "phi3_long": (
        "Phi3",
        {"rope_parameters": LONG | {"rope_theta": 1e4}, "original_max_position_embeddings": 32},
        48,
        torch.bfloat16,
        "1GB",
        False,
    ),
}


def old_spelling(config: dict[str, Any]) -> None:
    """Turn `rope_parameters` into `rope_theta` and `rope_scaling` with its key `type`."""
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta", 10000.0)
    kind = rope.pop("rope_type")
    rope.pop("partial_rotary_factor", None)
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}


def main() -> None:
    """Write every folder anew."""
    for number, (name, description) in enumerate(MODELS.items()):
        family, changes, tokens, dtype, shard, old = description
        folder = HERE / f"hf_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(number)
        config = getattr(transformers, f"{family}Config")(**(SHAPE | changes))
        config._attn_implementation = "eager"
        model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
        with torch.no_grad():
            for key, values in model.named_parameters():
                # Far from the initial zeros, ones and 0.02, so that a forgotten bias or norm shows.
                values.normal_(1.0 if "norm" in key else 0.0, 0.3 if values.ndim == 1 else 0.12)
                values.copy_(values.to(dtype))
            # Before the model itself becomes `dtype`, which would round its rotary frequencies as well.
            ids = torch.randint(0, config.vocab_size, (1, tokens))
            logits = model(ids).logits.contiguous()
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        (folder / "generation_config.json").unlink(missing_ok=True)
        path = folder / "config.json"
        stored = json.loads(path.read_text())
        if old:
            old_spelling(stored)
        path.write_text(json.dumps(stored, indent=2) + "\n")
        save_file({"ids": ids, "logits": logits}, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
