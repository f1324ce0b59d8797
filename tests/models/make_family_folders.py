# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/families: a tiny random folder per family of models, with transformers' own float32 logits.

Run it to add a family; it needs torch and transformers (5.24.0 made the folders), which the tests do not:
python tests/models/make_family_folders.py [FOLDER [NAME ...]]

FOLDER/NAME then holds config.json and model.safetensors as transformers writes them, and expected.npz: `ids` int64 [T],
`logits` float32 [T, vocab] of the whole text, and `short` of its first `SHORT` tokens, which all windows hold.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

SHORT, LONG = 6, 40
SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
SLIDING, FULL = "sliding_attention", "full_attention"
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16, "rope_theta": 1e4}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
# name: (class before "Config" and "ForCausalLM", what differs from SHAPE; None takes a key away)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("Gemma2", {"sliding_window": 8, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 5.0}),
    "gemma3": (
        "Gemma3Text:Gemma3",
        {
            "sliding_window": 8,
            "layer_types": [SLIDING, FULL, SLIDING],
            "query_pre_attn_scalar": 24,
            "rope_parameters": {
                SLIDING: {"rope_type": "default", "rope_theta": 1e4},
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            },
        },
    ),
    "smollm3": ("SmolLM3", {"head_dim": None, "no_rope_layers": [1, 0, 1], "tie_word_embeddings": True}),
    "phi4_mini": (
        "Phi3",
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "short_factor": [1.0 + 0.1 * i for i in range(3)],
                "long_factor": [1.0 + 1.5 * i for i in range(3)],
                "partial_rotary_factor": 0.75,
                "rope_theta": 1e4,
                "original_max_position_embeddings": 32,
            },
            "head_dim": None,
            "original_max_position_embeddings": 32,
            "tie_word_embeddings": True,
        },
    ),
    "ministral": ("Ministral", {"sliding_window": 8, "layer_types": [FULL, SLIDING, SLIDING]}),
    "ministral3": ("Ministral3", {"rope_parameters": YARN | {"llama_4_scaling_beta": 0.3}}),
    "granite": (
        "Granite",
        {
            "head_dim": None,
            "embedding_multiplier": 12.0,
            "logits_scaling": 0.7,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.2,
            "tie_word_embeddings": True,
            "attention_bias": True,
        },
    ),
    "olmo2": ("Olmo2", {"head_dim": None}),
    "olmo3": (
        "Olmo3",
        {
            "head_dim": None,
            "sliding_window": 8,
            "layer_types": [SLIDING, SLIDING, FULL],
            "rope_parameters": {FULL: YARN, SLIDING: {"rope_type": "default", "rope_theta": 1e4}},
        },
    ),
    "exaone4": ("Exaone4", {"sliding_window": 8, "layer_types": [SLIDING, SLIDING, FULL]}),
    "seed_oss": ("SeedOss", {"attention_out_bias": True}),
    "llama_biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen2_mixed": (
        "Qwen2",
        {"head_dim": None, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    ),
    "arcee": ("Arcee", {}),
    "glm4": ("Glm4", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
    "mixtral": ("Mixtral", {"num_hidden_layers": 2, "num_local_experts": 4, "intermediate_size": 24}),
    "qwen3_moe": (
        "Qwen3Moe",
        {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True}
        | {"mlp_only_layers": [1], "decoder_sparse_step": 1, "num_hidden_layers": 3},
    ),
    "qwen3_moe_sparse": (
        "Qwen3Moe",
        {"num_experts": 4, "num_experts_per_tok": 3, "moe_intermediate_size": 16, "norm_topk_prob": False}
        | {"decoder_sparse_step": 2, "num_hidden_layers": 2},
    ),
    "qwen2_moe": (
        "Qwen2Moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_hidden_layers": 2}
        | {"shared_expert_intermediate_size": 24, "head_dim": None},
    ),
    "olmoe": (
        "Olmoe",
        {"num_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 16, "num_hidden_layers": 2}
        | {"head_dim": None},
    ),
    "gpt_oss": (
        "GptOss",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 32, "num_hidden_layers": 2}
        | {"sliding_window": 8, "swiglu_limit": 1.0, "rope_parameters": YARN | {"truncate": False}},
    ),
}


def made(name: str) -> tuple[Any, Any]:
    """The configuration and the model of a family, random, its weights values of bf16."""
    kind, changes = FAMILIES[name]
    config_name, _, model_name = kind.partition(":")
    values = SHAPE | changes
    values = {key: value for key, value in values.items() if value is not None or key.endswith("token_id")}
    config = getattr(transformers, f"{config_name}Config")(**values)
    config._attn_implementation = "eager"
    torch.manual_seed(sum(map(ord, name)))
    model = getattr(transformers, f"{model_name or config_name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            # Far from the initial zeros, ones and 0.02, so that a forgotten bias or norm shows.
            norm = "norm" in key
            centre = 0.0 if name.startswith("gemma") or not norm else 1.0
            tensor.normal_(centre, 0.3 if tensor.ndim == 1 or norm else 0.16)
            tensor.copy_(tensor.to(torch.bfloat16))
    return config, model


def expected(model: Any, vocabulary: int) -> dict[str, np.ndarray]:
    """Logits of a text, long and short."""
    ids = torch.randint(vocabulary, (1, LONG), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, short = (model(ids[:, :count]).logits[0].float().numpy() for count in (LONG, SHORT))
    return {"ids": ids[0].numpy(), "logits": logits, "short": short}


def write(folder: Path, name: str) -> None:
    """One family's folder."""
    config, model = made(name)
    found = expected(model, config.vocab_size)
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    np.savez_compressed(folder / "expected.npz", **found)


def write_tower(folder: Path) -> None:
    """Gemma 3 with a vision tower, as its 4b to 27b are published."""
    text = SHAPE | FAMILIES["gemma3"][1]
    vision = {**VISION, "vision_use_head": False}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    config._attn_implementation = "eager"
    torch.manual_seed(3)
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            tensor.normal_(0.0, 0.3 if tensor.ndim == 1 or "norm" in key else 0.16)
            tensor.copy_(tensor.to(torch.bfloat16))
    found = expected(model, text["vocab_size"])
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    np.savez_compressed(folder / "expected.npz", **found)


def write_base(folder: Path) -> None:
    """A base model, as Qwen3-Embedding is published: no head, and names without "model."."""
    config = transformers.Qwen3Config(**SHAPE | {"tie_word_embeddings": True, "num_hidden_layers": 2})
    config._attn_implementation = "eager"
    torch.manual_seed(4)
    model = transformers.Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            tensor.normal_(1.0 if "norm" in key else 0.0, 0.3 if tensor.ndim == 1 else 0.16)
            tensor.copy_(tensor.to(torch.bfloat16))
    found = expected(model, config.vocab_size)
    shutil.rmtree(folder, ignore_errors=True)
    model.model.to(torch.bfloat16).save_pretrained(folder)
    np.savez_compressed(folder / "expected.npz", **found)


def write_mxfp4(folder: Path) -> None:
    """gpt-oss with its experts in MXFP4, in the names and shapes that it is published in.

    A block of 32 values along the inputs has one scale, 2 to the power of a byte less 127; a byte holds two values, the
    first in its lower half, each a sign and one of eight magnitudes (OCP Microscaling Formats 1.0, E2M1).
    """
    magnitudes = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    config, model = made("gpt_oss")
    stored = {}
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if not key.endswith(("gate_up_proj", "down_proj")):
                continue
            experts, inputs, outputs = tensor.shape
            codes = torch.randint(16, (experts, outputs, inputs // 32, 32), generator=generator)
            scales = torch.randint(122, 126, (experts, outputs, inputs // 32), generator=generator)
            values = magnitudes[codes % 8] * torch.where(codes > 7, -1.0, 1.0) * torch.exp2(scales[..., None] - 127.0)
            tensor.copy_(values.flatten(-2).transpose(1, 2))
            stored[f"{key}_blocks"] = (codes[..., 0::2] + 16 * codes[..., 1::2]).to(torch.uint8)
            stored[f"{key}_scales"] = scales.to(torch.uint8)
    found = expected(model, config.vocab_size)
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    whole = load_file(folder / "model.safetensors")
    kept = {key: tensor.clone() for key, tensor in whole.items() if not key.endswith(("gate_up_proj", "down_proj"))}
    save_file(kept | stored, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    values = json.loads(path.read_text()) | {"quantization_config": {"quant_method": "mxfp4"}}
    path.write_text(json.dumps(values, indent=2) + "\n")
    np.savez_compressed(folder / "expected.npz", **found)


OTHERS: dict[str, Callable[[Path], None]] = {
    "gemma3_tower": write_tower,
    "qwen3_base": write_base,
    "gpt_oss_mxfp4": write_mxfp4,
}


def main() -> None:
    """Write the folders anew."""
    here = Path(__file__).parents[1] / "data" / "families"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else here
    for name in sys.argv[2:] or (*FAMILIES, *OTHERS):
        if name in OTHERS:
            OTHERS[name](target / name)
        else:
            write(target / name, name)
        print(name)


if __name__ == "__main__":
    main()
