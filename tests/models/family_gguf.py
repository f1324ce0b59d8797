# SPDX-License-Identifier: Apache-2.0
"""Writes small GGUF files of the families in tests/data/families, from their stored tensors, as llama.cpp names them.

It knows nothing of the package: names, orders of rows, sums and keys are written down here once more.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

KINDS = gguf.GGMLQuantizationType
# model_type: (architecture, whether rows of q and k are permuted)
ARCHITECTURES = {
    "llama": ("llama", True),
    "mistral": ("llama", True),
    "mixtral": ("llama", True),
    "ministral3": ("mistral3", True),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
    "qwen3_moe": ("qwen3moe", False),
    "phi3": ("phi3", False),
    "gemma2": ("gemma2", False),
    "gemma3_text": ("gemma3", False),
    "smollm3": ("smollm3", True),
    "granite": ("granite", True),
    "gpt_oss": ("gpt-oss", False),
}
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.sinks": "attn_sinks",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp",
}
_GEMMA = {"pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}
_AFTER = {"post_attention_layernorm": "post_attention_norm"}
_EXPERTS = {"w1": "gate", "w3": "up", "w2": "down", "gate_proj": "gate", "up_proj": "up", "down_proj": "down"}


def rope_of(config: dict[str, Any], kind: str = "full_attention") -> dict[str, Any]:
    """The rotary parameters of layers with full attention, or of those with a window."""
    rope = config["rope_parameters"]
    return rope.get(kind, {}) if "full_attention" in rope else (rope if kind == "full_attention" else {})


def metadata(config: dict[str, Any], architecture: str) -> dict[str, Any]:
    """Keys after the architecture, as llama.cpp's converter writes them."""
    heads, rope = config["num_attention_heads"], rope_of(config)
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    keys: dict[str, Any] = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.freq_base": float(rope["rope_theta"]),
        "vocab_size": config["vocab_size"],
    }
    if architecture in ("llama", "granite", "smollm3", "mistral3"):
        keys["rope.dimension_count"] = head_dim
    if rope.get("rope_type") in ("linear", "yarn"):
        keys |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": float(rope["factor"])}
    if rope.get("rope_type") == "yarn":
        keys["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
        for key in ("beta_fast", "beta_slow"):
            if key in rope:
                keys[f"rope.scaling.yarn_{key}"] = float(rope[key])
    if architecture == "mistral3":
        keys["attention.temperature_scale"] = rope["llama_4_scaling_beta"]
        if "mscale_all_dim" in rope:
            keys["rope.scaling.yarn_log_multiplier"] = float(rope["mscale_all_dim"])
    if architecture == "phi3":
        keys["attention.sliding_window"] = config["sliding_window"] or 0
        keys["rope.dimension_count"] = int(rope.get("partial_rotary_factor", 1.0) * head_dim)
        original, context = rope["original_max_position_embeddings"], config["max_position_embeddings"]
        keys["rope.scaling.original_context_length"] = original
        if "long_factor" in rope:
            factor = math.sqrt(1 + math.log(context / original) / math.log(original))
            keys["rope.scaling.attn_factor"] = factor
    if architecture.startswith("gemma"):
        keys["attention.sliding_window"] = config["sliding_window"]
        sliding = [kind == "sliding_attention" for kind in config["layer_types"]]
        keys["attention.sliding_window_pattern"] = sliding
        keys["attention.scale"] = config["query_pre_attn_scalar"] ** -0.5
        for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
            if config.get(cap):
                keys[cap] = config[cap]
        if "rope_theta" in rope_of(config, "sliding_attention"):
            keys["rope.freq_base_swa"] = float(rope_of(config, "sliding_attention")["rope_theta"])
    if architecture == "granite":
        keys |= {
            "attention.scale": config["attention_multiplier"],
            "embedding_scale": config["embedding_multiplier"],
            "residual_scale": config["residual_multiplier"],
            "logit_scale": config["logits_scaling"],
        }
    experts = config.get("num_local_experts") or config.get("num_experts")
    if experts:
        keys |= {"expert_count": experts, "expert_used_count": config["num_experts_per_tok"]}
        keys["expert_feed_forward_length"] = config.get("moe_intermediate_size") or config["intermediate_size"]
    if architecture == "gpt-oss":
        keys["attention.sliding_window"] = config["sliding_window"]
    return keys


def permuted(x: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of q's and k's rows."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def packed(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """ggml's MXFP4 rows of published blocks [..., n, 16] and scales [..., n]: a block's scale, then 16 bytes whose
    lower halves are its first 16 values and whose upper ones the others."""
    values = np.stack((blocks & 15, blocks >> 4), axis=-1).reshape(*blocks.shape[:-1], 32)
    joined = values[..., :16] | (values[..., 16:] << 4)
    return np.concatenate((scales[..., None], joined), axis=-1).reshape(*blocks.shape[:-2], -1)


def tensors(folder: Path, config: dict[str, Any], architecture: str, turned: bool) -> dict[str, np.ndarray]:
    """The tensors of a folder by GGUF name; uint8 ones are MXFP4."""
    names = _NAMES | (_AFTER if architecture == "gpt-oss" else {})
    names |= _AFTER | _GEMMA if architecture.startswith("gemma") else {}
    stored = load_file(folder / "model.safetensors")
    found: dict[str, np.ndarray] = {}
    experts: dict[str, dict[int, np.ndarray]] = {}
    for name, tensor in stored.items():
        x = tensor.numpy() if tensor.dtype == torch.uint8 else tensor.float().numpy()
        name = name.removeprefix("model.")
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            x = x + 1
        if not name.startswith("layers."):
            whole = {"embed_tokens.weight": "token_embd", "norm.weight": "output_norm", "lm_head.weight": "output"}
            found[f"{whole[name]}.weight"] = x
            continue
        _, layer, rest = name.split(".", 2)
        at = f"blk.{layer}."
        if turned and ("q_proj" in rest or "k_proj" in rest):
            x = permuted(x, config["num_attention_heads" if "q_proj" in rest else "num_key_value_heads"])
        if ".experts." in rest:
            own = rest.split(".experts.")[1]
            if own[0].isdigit():  # one tensor for each expert
                number, part, _ = own.split(".")
                experts.setdefault(f"{at}ffn_{_EXPERTS[part]}_exps.weight", {})[int(number)] = x
            else:
                found |= fused_experts(at, own, x, stored, name)
            continue
        if rest == "self_attn.sinks":
            rest += ".weight"
        own, kind = rest.rsplit(".", 1)
        found[f"{at}{names[own]}.{kind}"] = x
    return found | {name: np.stack([each[i] for i in range(len(each))]) for name, each in experts.items()}


def fused_experts(at: str, own: str, x: np.ndarray, stored: dict[str, Any], name: str) -> dict[str, np.ndarray]:
    """gpt-oss's experts: outputs of gate and up take turns, and weights are [experts, in, out] or MXFP4."""
    if own.endswith("_scales"):
        return {}
    kind = "bias" if own.endswith("_bias") else "weight"
    if own.endswith("_blocks"):
        scales = stored[f"model.{name}".replace("_blocks", "_scales")].numpy()
        rows = [packed(x[:, i::2], scales[:, i::2]) for i in (0, 1)]
        whole = packed(x, scales)
    else:
        x = x if kind == "bias" else x.swapaxes(1, 2)
        rows, whole = [x[:, 0::2], x[:, 1::2]], x
    if own.startswith("down"):
        return {f"{at}ffn_down_exps.{kind}": whole}
    return {f"{at}ffn_gate_exps.{kind}": rows[0], f"{at}ffn_up_exps.{kind}": rows[1]}


def write_family(
    path: Path,
    folder: Path,
    *,
    kind: KINDS = KINDS.F32,
    keys: dict[str, Any] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    left_out: tuple[str, ...] = (),
    raw: dict[str, tuple[np.ndarray, KINDS]] | None = None,
    tokenizer: dict[str, Any] | None = None,
) -> Path:
    """A GGUF file of a folder's model, its matrices stored as `kind`; `keys` (None takes one away) and `extra` tensors
    go before the converter's own; `raw` are rows of blocks; `tokenizer` are values after tokenizer.ggml."""
    config = json.loads((folder / "config.json").read_text())
    architecture, turned = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (metadata(config, architecture) | (keys or {})).items():
        if value is not None:
            add(writer, f"{architecture}.{key}", value)
    for key, value in (tokenizer or {}).items():
        add(writer, f"tokenizer.ggml.{key}", value)
    rope = rope_of(config)
    every = tensors(folder, config, architecture, turned)
    for length in ("long", "short"):
        if f"{length}_factor" in rope:
            every[f"rope_factors_{length}.weight"] = np.array(rope[f"{length}_factor"])
    for name, x in (every | (extra or {})).items():
        if name in left_out or name in (raw or {}):
            continue
        if x.dtype == np.uint8:
            writer.add_tensor(name, x, raw_dtype=KINDS.MXFP4)
        elif x.ndim == 1 or not name.endswith(".weight") or "norm" in name or "ffn_gate_inp" in name:
            writer.add_tensor(name, np.ascontiguousarray(x, dtype=np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(x), kind), raw_dtype=kind)
    for name, (blocks, own) in (raw or {}).items():
        writer.add_tensor(name, blocks, raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """A value in the type that its Python type stands for."""
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)
