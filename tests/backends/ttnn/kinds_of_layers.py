# SPDX-License-Identifier: Apache-2.0
"""Small models, each of two layers that have what layers of the Llama kind have not, and a Llama layer between them."""

from __future__ import annotations

from tt_transformers_v2.models.layer_spec import AttentionSpec, ExpertsSpec, LayerSpec, MlpSpec
from tt_transformers_v2.models.rotary_spec import RopeScaling, Rotary
from tt_transformers_v2.models.spec import ModelSpec

WIDTH = 300
MLP, LLAMA = MlpSpec(WIDTH), LayerSpec(AttentionSpec(), MlpSpec(WIDTH))
_YARN = RopeScaling("yarn", factor=4.0, original_max_context=16)
KINDS: dict[str, LayerSpec] = {
    "norms after": LayerSpec(AttentionSpec(qk_norm="all"), MLP, norms="after"),
    "norms before and after": LayerSpec(AttentionSpec(qk_norm="head"), MlpSpec(WIDTH, "gelu_tanh"), norms="both"),
    "other rotary tables": LayerSpec(AttentionSpec(rotary=Rotary(1e6, rotated=32), window=32, scale=0.1), MLP),
    "growing queries": LayerSpec(AttentionSpec(rotary=Rotary(1e6, _YARN, query_beta=0.5)), MlpSpec(WIDTH, "gelu")),
    "no rotation": LayerSpec(AttentionSpec(rotary=None, qk_norm="head"), MlpSpec(WIDTH, "relu2")),
    "plain MLP with biases": LayerSpec(
        AttentionSpec(qkv_bias=True, output_bias=True), MlpSpec(WIDTH, "relu", gated=False, bias=True)
    ),
    "sinks and limited experts": LayerSpec(
        AttentionSpec(sinks=True, window=32, qkv_bias=True, output_bias=True),
        experts=ExpertsSpec(4, 2, MlpSpec(WIDTH, bias=True, limit=1.0), router="top_k_then_softmax", router_bias=True),
    ),
    "experts beside a shared one": LayerSpec(
        AttentionSpec(), experts=ExpertsSpec(32, 3, MlpSpec(64), shared=MlpSpec(WIDTH), shared_gate=True)
    ),
    "experts with plain shares": LayerSpec(
        AttentionSpec(), experts=ExpertsSpec(33, 2, MlpSpec(64), normalised=False), norms="both"
    ),
}


def of_kind(name: str) -> ModelSpec:
    """A model with layers of a kind; its logits have a soft cap."""
    kind = KINDS[name]
    return ModelSpec.of_layers(
        (kind, LLAMA, kind),
        vocab_size=500,
        hidden_dim=512,
        num_heads=8,
        num_kv_heads=4,
        head_dim=64,
        name=name,
        logit_cap=5.0,
    )
