# SPDX-License-Identifier: Apache-2.0
"""The families of models in Hugging Face folders: what their config.json says, and what is folded when loading.

A family that only recombines kinds of models.layer_spec is one entry here. Names of keys, defaults and tensors are
those of transformers 5.24.0 (November 2026), and so is the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

SLIDING, FULL = "sliding_attention", "full_attention"  # of layer_types

# What is so, or the key of config.json that says whether it is.
Said = bool | str


@dataclass(frozen=True)
class ExpertsKeys:
    """How a family describes and stores its experts.

    count: keys of their number, the first that is there. width: the key of an expert's width.
    normalised: whether shares are divided by their sum. every: whether each layer has experts, or mlp_only_layers and
    decoder_sparse_step say which have. shared: the key of the shared expert's width, "" for none; it has a gate.
    stored: the module that holds router and experts; names: an expert's tensors by canonical name.
    fused: all experts are one tensor, whose gate and up rows alternate (gpt-oss).
    """

    count: tuple[str, ...] = ("num_local_experts", "num_experts")
    width: str = "intermediate_size"
    router: str = "softmax_then_top_k"
    normalised: Said = True
    router_bias: bool = False
    bias: bool = False
    every: bool = True
    shared: str = ""
    stored: str = "mlp"
    router_name: str = "gate"
    names: Mapping[str, str] = MappingProxyType({"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"})
    fused: bool = False


@dataclass(frozen=True)
class Family:
    """One `model_type`.

    name: the family that model rules look at. classes: the classes that `architectures` may name.
    defaults: of the config class, where they differ from COMMON_DEFAULTS.
    norms, stored_norms: as LayerSpec.norms, and their modules where these are not Llama's.
    windows: which layers have the `sliding_window`: "none", "all", "types" (layer_types, or else all but every
        `period`-th; all where there is no period); only where use_sliding_window is true: "switched" (all), "upper"
        (layer_types, or else those from max_window_layers on), "even" (those of even number below max_window_layers),
        "unrotated" (layer_types, or else those that no_rope_layers keeps from rotating).
    rotary: which layers rotate: "all", those with a window ("windowed", where the model has any), or as no_rope_layers
        says ("listed").
    own_window_rope: layers with a window have a rotary table of their own: that key or theta, unscaled.
    partial: the share of a head that rotates where partial_rotary_factor is not given; None: heads rotate whole.
    query_beta: llama_4_scaling_beta makes queries grow with their position.
    interleaved: neighbours of a head turn together, not halves.
    scale: the key of what scores are multiplied by; "query_pre_attn_scalar" is to the power of -1/2.
    folds: canonical tensor -> the key of a multiplier; 1/ before it divides. "hidden ** 0.5" is no key.
    norm_plus_one: norms multiply by 1 + weight.
    scalings: what its older files call a kind of rope scaling, where that is not the kind's name.
    tower: of a model with a tower, the family of its text decoder where `text_config` does not say; "" elsewhere.
    """

    name: str
    classes: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    norms: Literal["before", "after", "both"] = "before"
    stored_norms: Mapping[str, str] = field(default_factory=dict)
    qk_norm: Literal["", "head", "all"] = ""
    qkv_bias: Said = False
    output_bias: Said = False
    mlp_bias: Said = False
    gated: bool = True
    activation: str = "hidden_act"
    windows: Literal["none", "all", "switched", "types", "upper", "even", "unrotated"] = "none"
    period: int | None = None
    rotary: Literal["all", "windowed", "listed"] = "all"
    own_window_rope: str = ""
    partial: float | None = None
    query_beta: bool = False
    interleaved: bool = False
    scale: str = ""
    attention_cap: str = ""
    logit_cap: str = ""
    sinks: bool = False
    limit: str = ""
    folds: Mapping[str, str] = field(default_factory=dict)
    norm_plus_one: bool = False
    experts: ExpertsKeys | None = None
    scalings: Mapping[str, str] = field(default_factory=dict)
    tower: str = ""


COMMON_DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
}
_AFTER = {"attention_post_norm": "post_attention_layernorm", "ffn_post_norm": "post_feedforward_layernorm"}
_GEMMA_NORMS = _AFTER | {"ffn_norm": "pre_feedforward_layernorm"}
_GEMMA: dict[str, Any] = {
    "norms": "both",
    "stored_norms": _GEMMA_NORMS,
    "qkv_bias": "attention_bias",
    "output_bias": "attention_bias",
    "activation": "hidden_activation",
    "windows": "types",
    "scale": "query_pre_attn_scalar",
    "attention_cap": "attn_logit_softcapping",
    "logit_cap": "final_logit_softcapping",
    "norm_plus_one": True,
    "folds": {"embedding": "hidden ** 0.5"},
}
_GEMMA_DEFAULTS = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
_LLAMA_BIASES: dict[str, Any] = {"qkv_bias": "attention_bias", "output_bias": "attention_bias", "mlp_bias": "mlp_bias"}
_ATTENTION_BIASES: dict[str, Any] = {"qkv_bias": "attention_bias", "output_bias": "attention_bias"}


def _named(stem: str, base: str = "") -> tuple[str, ...]:
    return f"{stem}ForCausalLM", f"{base or stem}Model"


FAMILIES: Mapping[str, Family] = {
    "llama": Family("llama", _named("Llama"), {"max_position_embeddings": 2048}, **_LLAMA_BIASES),
    "mistral": Family(
        "mistral",
        _named("Mistral"),
        {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131072},
        windows="all",
    ),
    "ministral": Family(
        "mistral",
        _named("Ministral"),
        {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131072},
        windows="types",
    ),
    "ministral3": Family(
        "mistral",
        _named("Ministral3"),
        {"num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5, "max_position_embeddings": 262144},
        windows="all",
        query_beta=True,
    ),
    "qwen2": Family(
        "qwen2",
        _named("Qwen2"),
        {"num_key_value_heads": 32, "sliding_window": 4096},
        qkv_bias=True,
        windows="upper",
    ),
    "qwen3": Family(
        "qwen3",
        _named("Qwen3"),
        {"num_key_value_heads": 32, "sliding_window": 4096, "head_dim": 128},
        qk_norm="head",
        windows="upper",
        **_ATTENTION_BIASES,
    ),
    "phi3": Family(
        "phi3",
        _named("Phi3"),
        {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "original_max_position_embeddings": 4096},
        windows="all",
        partial=1.0,
        scalings={"su": "longrope", "yarn": "longrope"},
    ),
    "gemma2": Family(
        "gemma2",
        _named("Gemma2"),
        _GEMMA_DEFAULTS
        | {
            "vocab_size": 256000,
            "max_position_embeddings": 8192,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        period=2,
        **_GEMMA,
    ),
    "gemma3_text": Family(
        "gemma3",
        (*_named("Gemma3"), "Gemma3TextModel"),
        _GEMMA_DEFAULTS
        | {
            "vocab_size": 262208,
            "max_position_embeddings": 131072,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
        },
        qk_norm="head",
        period=6,
        own_window_rope="rope_local_base_freq",
        **_GEMMA,
    ),
    "gemma3": Family("gemma3", ("Gemma3ForConditionalGeneration", "Gemma3Model"), tower="gemma3_text"),
    "mistral3": Family("mistral", ("Mistral3ForConditionalGeneration", "Mistral3Model"), tower="mistral"),
    "smollm3": Family(
        "smollm3",
        _named("SmolLM3"),
        {"num_key_value_heads": 4, "rope_theta": 2e6, "no_rope_layer_interval": 4, "tie_word_embeddings": True},
        windows="unrotated",
        rotary="listed",
        **_LLAMA_BIASES,
    ),
    "granite": Family(
        "granite",
        _named("Granite"),
        {"max_position_embeddings": 2048}
        | dict.fromkeys(("embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier"), 1.0),
        scale="attention_multiplier",
        folds={
            "embedding": "embedding_multiplier",
            "lm_head": "1/logits_scaling",
            **dict.fromkeys(("wo", "bo", "w2", "b2"), "residual_multiplier"),
        },
        **_LLAMA_BIASES,
    ),
    "olmo2": Family(
        "olmo2",
        _named("Olmo2"),
        {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5},
        norms="after",
        stored_norms=_AFTER,
        qk_norm="all",
        **_ATTENTION_BIASES,
    ),
    "olmo3": Family(
        "olmo3",
        _named("Olmo3"),
        {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 5e5, "sliding_window": 4096},
        norms="after",
        stored_norms=_AFTER,
        qk_norm="all",
        windows="types",
        period=4,
        own_window_rope="rope_theta",
        **_ATTENTION_BIASES,
    ),
    "exaone4": Family(
        "exaone4",
        _named("Exaone4"),
        {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "sliding_window": 4096, "num_key_value_heads": 32},
        norms="after",
        stored_norms=_AFTER,
        qk_norm="head",
        windows="types",
        period=4,
        rotary="windowed",
    ),
    "seed_oss": Family(
        "seed_oss",
        _named("SeedOss"),
        {
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 524288,
            "attention_bias": True,
            "attention_out_bias": False,
        },
        qkv_bias="attention_bias",
        output_bias="attention_out_bias",
        mlp_bias="mlp_bias",
    ),
    "arcee": Family(
        "arcee",
        _named("Arcee"),
        {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "relu2"},
        gated=False,
        **_LLAMA_BIASES,
    ),
    "glm4": Family(
        "glm4",
        _named("Glm4"),
        {
            "num_key_value_heads": 2,
            "head_dim": 128,
            "rms_norm_eps": 1.5625e-7,
            "max_position_embeddings": 131072,
            "attention_bias": True,
        },
        norms="both",
        stored_norms={
            "attention_post_norm": "post_self_attn_layernorm",
            "ffn_norm": "post_attention_layernorm",
            "ffn_post_norm": "post_mlp_layernorm",
        },
        qkv_bias="attention_bias",
        partial=0.5,
        interleaved=True,
    ),
    "mixtral": Family(
        "mixtral",
        _named("Mixtral"),
        {
            "num_key_value_heads": 8,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "rope_theta": 1e6,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131072,
        },
        windows="all",
        experts=ExpertsKeys(stored="block_sparse_moe", names={"w1": "w1", "w3": "w3", "w2": "w2"}),
    ),
    "qwen3_moe": Family(
        "qwen3_moe",
        _named("Qwen3Moe"),
        {
            "num_key_value_heads": 4,
            "num_experts_per_tok": 8,
            "decoder_sparse_step": 1,
            "moe_intermediate_size": 768,
        },
        qk_norm="head",
        windows="switched",
        experts=ExpertsKeys(width="moe_intermediate_size", normalised="norm_topk_prob", every=False),
        **_ATTENTION_BIASES,
    ),
    "qwen2_moe": Family(
        "qwen2_moe",
        _named("Qwen2Moe"),
        {
            "num_key_value_heads": 16,
            "num_experts_per_tok": 4,
            "decoder_sparse_step": 1,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
            "qkv_bias": True,
        },
        qkv_bias="qkv_bias",
        windows="even",
        experts=ExpertsKeys(
            width="moe_intermediate_size",
            normalised="norm_topk_prob",
            every=False,
            shared="shared_expert_intermediate_size",
        ),
    ),
    "olmoe": Family(
        "olmoe",
        _named("Olmoe"),
        {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "num_experts": 64, "num_experts_per_tok": 8},
        qk_norm="all",
        experts=ExpertsKeys(normalised="norm_topk_prob"),
        **_ATTENTION_BIASES,
    ),
    "gpt_oss": Family(
        "gpt_oss",
        _named("GptOss"),
        {
            "num_key_value_heads": 8,
            "head_dim": 64,
            "num_local_experts": 128,
            "num_experts_per_tok": 4,
            "rms_norm_eps": 1e-5,
            "rope_theta": 150000.0,
            "sliding_window": 128,
            "swiglu_alpha": 1.702,
            "swiglu_limit": 7.0,
            "max_position_embeddings": 131072,
            "attention_bias": True,
        },
        windows="types",
        period=2,
        sinks=True,
        limit="swiglu_limit",
        experts=ExpertsKeys(router="top_k_then_softmax", router_bias=True, bias=True, router_name="router", fused=True),
        **_ATTENTION_BIASES,
    ),
}

ACTIVATIONS: Mapping[str, str] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "relu2": "relu2",
}
