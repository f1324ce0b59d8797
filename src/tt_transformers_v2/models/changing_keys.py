# SPDX-License-Identifier: Apache-2.0
"""Keys of config.json that change what some model computes, so that none is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Keys that change what some model computes, with the values that change nothing. A family reads those it knows; any
# other one that says more is refused, because it would otherwise be dropped.
CHANGES: Mapping[str, tuple[Any, ...]] = {
    "is_causal": (True,),
    "use_bidirectional_attention": (False,),
    "attention_bias": (False,),
    "attention_out_bias": (False,),
    "qkv_bias": (False,),
    "mlp_bias": (False,),
    "use_bias": (False,),
    "use_qkv_bias": (False,),
    "embedding_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "residual_multiplier": (1,),
    "attention_multiplier": (),
    "query_pre_attn_scalar": (),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "clip_qkv": (),
    "swiglu_limit": (),
    "use_qk_norm": (False,),
    "qk_layernorm": (False,),
    "no_rope_layers": (),
    "num_local_experts": (0,),
    "num_experts": (0,),
    "n_routed_experts": (0,),
    "n_shared_experts": (0,),
    "q_lora_rank": (),
    "kv_lora_rank": (),
    "num_kv_shared_layers": (0,),
    "hidden_size_per_layer_input": (0,),
    "layer_norm_eps": (),
    "layer_norm_epsilon": (),
    "alibi": (False,),
    "use_mrope": (False,),
    "mrope_section": (),
    "quantization_config": (),
    "partial_rotary_factor": (1,),
    "truncate": (True,),
    "llama_4_scaling_beta": (0,),
    "layer_types": (),
    "parallel_attn": (False,),
    "rope_interleaved": (False,),
    "cross_attention_layers": ([],),
}
