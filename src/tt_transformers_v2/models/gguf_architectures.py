# SPDX-License-Identifier: Apache-2.0
"""The architectures of GGUF files: which family of models.families each is, and what llama.cpp makes of it.

Names of metadata and tensors, orders of rows and what is taken for granted are those of llama.cpp's converters and
loaders (November 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Architecture:
    """One `general.architecture`.

    family: the entry of FAMILIES whose config.json says the same; with_experts: the one where the file has experts.
    turned: rows of q and k are stored so that neighbours of a head turn together, as ggml's older rotary embedding
        takes them.
    norms: canonical norm -> its tensor, where that is not the usual one.
    scales: key of a multiplier -> key of config.json; all are 1 where the file has none, attention's head_dim ** -0.5.
    given: values of config.json that follow from the architecture.
    period: of gemma's and gpt-oss's windows: all layers but every `period`-th have one.
    wide: of gemma, the number of layers of the one size whose scores are divided by the root of hidden / heads.
    gating: values of `expert_gating_func` that say what is computed here anyway.
    biased: its attention always has biases.
    """

    family: str
    with_experts: str = ""
    turned: bool = False
    norms: Mapping[str, str] = _NOTHING
    scales: Mapping[str, str] = _NOTHING
    given: Mapping[str, Any] = field(default_factory=dict)
    period: int | None = None
    wide: int | None = None
    gating: tuple[int, ...] = (0, 1)
    biased: bool = False


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("llama", with_experts="mixtral", turned=True),
    "mistral3": Architecture("ministral3", turned=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "qwen3moe": Architecture(
        "qwen3_moe", with_experts="qwen3_moe", given={"norm_topk_prob": True, "decoder_sparse_step": 1}
    ),
    "phi3": Architecture("phi3"),
    "gemma2": Architecture("gemma2", period=2, wide=46),
    "gemma3": Architecture("gemma3_text", period=6, wide=62),
    "smollm3": Architecture("smollm3", turned=True, given={"no_rope_layer_interval": 4}),
    "granite": Architecture(
        "granite",
        turned=True,
        scales={
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
    ),
    "gpt-oss": Architecture(
        "gpt_oss",
        with_experts="gpt_oss",
        norms={"ffn_norm": "post_attention_norm"},
        # Neither the limit of its gates nor the form of yarn's ramp is stored: those of the published models.
        given={"swiglu_limit": 7.0, "swiglu_alpha": 1.702, "truncate": False},
        period=2,
        gating=(0, 1, 3),
        biased=True,
    ),
}

# Keys after "ARCHITECTURE." that change what some model computes are read; of those that are not, the values here
# change nothing, and any other one is refused. An empty tuple: the key never matters to these architectures.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.layer_norm_epsilon": (),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "attention.temperature_scale": (0,),
    "attn_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "expert_count": (0,),
    "expert_feed_forward_length": (0,),
    "expert_group_count": (0, 1),
    "expert_group_used_count": (0, 1),
    "expert_shared_count": (0,),
    "expert_shared_feed_forward_length": (0,),
    "expert_used_count": (0,),
    "expert_weights_norm": (True,),
    "expert_weights_scale": (0, 1),
    "final_logit_softcapping": (0,),
    "interleave_moe_layer_step": (0, 1),
    "leading_dense_block_count": (0,),
    "logit_scale": (0, 1),
    "mm.tokens_per_image": (),
    "n_deepstack_layers": (0,),
    "nextn_predict_layers": (0,),
    "pooling_type": (),
    "residual_scale": (0, 1),
    "rope.scale_linear": (0, 1),
    "rope.scaling.attn_factor": (0, 1),
    "rope.scaling.type": ("none",),
    "rope.scaling.yarn_attn_factor": (-1, 1),
    "rope.scaling.yarn_ext_factor": (-1, 1),
    "rope.scaling.yarn_log_multiplier": (0,),
    "router_logit_softcapping": (0,),
    "tensor_data_layout": (),
    "use_parallel_residual": (),
}
