# SPDX-License-Identifier: Apache-2.0
"""Layers of other kinds than Llama's in the emulated backend: experts, sinks, soft caps, other gates."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.config.auto_config import AutoHardwareConfig
from tt_transformers_v2.models.decoder import forward
from tt_transformers_v2.models.layer_spec import AttentionSpec, ExpertsSpec, LayerSpec, MlpSpec
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights, expert_name, tensor_shape

DENSE = ModelSpec.uniform(96, 64, 2, 4, 96, num_kv_heads=2, name="tiny")
TOKENS = torch.randint(96, (1, 40), generator=torch.Generator().manual_seed(1))


class OneExpert:
    """A dense model's weights as those of a model whose layers have one expert, which every token uses."""

    synthetic, basis, fingerprint = True, "one expert", "0"

    def __init__(self, dense: SyntheticWeights) -> None:
        kind = dense.spec.layer(0)
        experts = ExpertsSpec(1, 1, kind.mlp)
        layers = [dataclasses.replace(kind, mlp=None, experts=experts)] * dense.spec.num_layers
        self.spec = ModelSpec.of_layers(
            layers, vocab_size=96, hidden_dim=64, num_heads=4, num_kv_heads=2, head_dim=16, name="one expert"
        )
        self.dense = dense

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        if name == "router":
            return torch.ones(tensor_shape(self.spec, name, layer))
        return self.dense.tensor(name.removeprefix(expert_name(0)), layer)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize(("weights", "activations", "fidelity"), [("BFP8", "BF16", "HiFi2"), ("BFP4", "BFP8", "LoFi")])
@pytest.mark.parametrize("device", ["N150", "T3K"])
def test_one_expert_that_is_always_chosen_gives_the_dense_models_bits(device, weights, activations, fidelity, numerics):
    groups = ("ff1_ff3", "ff2", "experts")
    hardware = AutoHardwareConfig.custom(
        device,
        precision=dict.fromkeys(groups, weights) | {"mlp_activations": activations},
        compute={group: {"math_fidelity": fidelity, "fp32_dest_acc_en": False} for group in groups},
    )
    dense = SyntheticWeights(DENSE, seed=3)
    wanted = forward(EmulatedOps(hardware, numerics), dense, TOKENS)
    assert torch.equal(forward(EmulatedOps(hardware, numerics), OneExpert(dense), TOKENS), wanted)


def model(**attention) -> ModelSpec:
    """Two layers of gpt-oss's kind, and one of Gemma 2's in between."""
    experts = ExpertsSpec(
        4, 2, MlpSpec(64, limit=1.0, bias=True), router="top_k_then_softmax", router_bias=True, shared=MlpSpec(32)
    )
    moe = LayerSpec(AttentionSpec(window=8, sinks=True, output_bias=True, qkv_bias=True, **attention), experts=experts)
    gemma = LayerSpec(AttentionSpec(cap=20.0, scale=0.3), MlpSpec(96, activation="gelu_tanh"), norms="both")
    layers = [moe, gemma, moe]
    return ModelSpec.of_layers(layers, vocab_size=96, hidden_dim=64, num_heads=4, num_kv_heads=2, head_dim=16)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_every_kind_stays_near_the_reference(numerics):
    hardware = AutoHardwareConfig.custom("N150", precision={"mlp_weights": "BF16", "attention_weights": "BF16"})
    weights = SyntheticWeights(model(), seed=1)
    wanted, found = forward(ReferenceOps(), weights, TOKENS), forward(EmulatedOps(hardware, numerics), weights, TOKENS)
    pcc = torch.corrcoef(torch.stack((wanted.flatten(), found.flatten())))[0, 1]
    assert 0.99 < pcc < 1


@pytest.mark.parametrize(
    ("group", "format_"), [("experts", "BFP4"), ("router", "BFP4"), ("ff2", "BFP4"), ("ff1_ff3", "BFP4")]
)
def test_experts_router_and_mlp_have_formats_of_their_own(group, format_):
    weights = SyntheticWeights(model(), seed=1)
    all_wide = dict.fromkeys(("ff1_ff3", "ff2", "experts", "router"), "BF16")
    wide = AutoHardwareConfig.custom("N150", precision=all_wide)
    plain = forward(EmulatedOps(wide, "fast"), weights, TOKENS)
    changed = AutoHardwareConfig.custom("N150", precision=all_wide | {group: format_})
    assert not torch.equal(forward(EmulatedOps(changed, "fast"), weights, TOKENS), plain)
    dense = SyntheticWeights(DENSE, seed=3)
    same = torch.equal(
        forward(EmulatedOps(changed, "fast"), dense, TOKENS),
        forward(EmulatedOps(wide, "fast"), dense, TOKENS),
    )
    assert same == (group in ("experts", "router")), "a dense model has neither experts nor a router"


def test_a_sink_takes_weight_from_every_key():
    ops = EmulatedOps(AutoHardwareConfig.custom("N150"), "fast")
    q, k = torch.zeros(1, 4, 8, 32), torch.zeros(1, 2, 8, 32)
    v = torch.ones(1, 2, 8, 32)
    kind = AttentionSpec(sinks=True)
    for sink in (-20.0, 0.0, 3.0):
        sinks = torch.full((4,), sink)
        found, wanted = (own.attention(q, k, v, kind, sinks) for own in (ops, ReferenceOps()))
        torch.testing.assert_close(found, wanted, rtol=0.05, atol=1e-2)
