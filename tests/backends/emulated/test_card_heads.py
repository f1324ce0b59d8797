# SPDX-License-Identifier: Apache-2.0
"""Heads of q and k are packed, summed and cached in the order in which a card holds them."""

from __future__ import annotations

import pytest
import torch

from tt_transformers_v2.backends.emulated.card_heads import CardHeads, from_card, to_card
from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.config.auto_config import AutoHardwareConfig
from tt_transformers_v2.hardware.op_table import MATRICES
from tt_transformers_v2.models.head_order import card_order
from tt_transformers_v2.models.layer_spec import AttentionSpec
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.numerics.formats import quantize
from tt_transformers_v2.numerics.typecast import typecast

SPEC = ModelSpec.uniform(96, 128, 1, 4, 96, num_kv_heads=2, name="tiny")
HEADS = CardHeads.of(SPEC)
WIDTH = (SPEC.num_heads + 2 * SPEC.num_kv_heads) * SPEC.head_dim


def randn(*shape: int) -> torch.Tensor:
    # Neighbours of very different size: which of them share an exponent then decides what is left of the small ones.
    generator = torch.Generator().manual_seed(7)
    return torch.randn(shape, generator=generator) * 2.0 ** torch.randint(-6, 6, shape, generator=generator)


def ops(device: str = "N150", numerics: str = "exact", **precision: str) -> EmulatedOps:
    compute = {group: {"math_fidelity": "HiFi4", "fp32_dest_acc_en": True} for group in ("qkv_prefill", "sdpa_prefill")}
    return EmulatedOps(AutoHardwareConfig.custom(device, precision=precision, compute=compute), numerics)


@pytest.mark.parametrize("head_dim", [2, 32, 64, 128])
def test_a_card_has_the_halves_of_a_head_side_by_side(head_dim):
    heads = torch.arange(head_dim)
    assert to_card(heads).tolist() == card_order(head_dim)
    assert torch.equal(from_card(to_card(heads)), heads)


def test_only_q_and_k_are_in_another_order():
    columns = HEADS.columns(torch.arange(WIDTH))
    turning = HEADS.turning * SPEC.head_dim
    assert columns[: SPEC.head_dim].tolist() == card_order(SPEC.head_dim)
    assert columns[turning:].tolist() == list(range(turning, WIDTH))
    assert torch.equal(HEADS.canonical_columns(columns), torch.arange(WIDTH))


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("form", ["BFP8", "BFP4"])
def test_weights_packed_as_on_a_card_lose_nothing_more(form, numerics):
    weight = HEADS.canonical_columns(quantize(HEADS.columns(randn(SPEC.hidden_dim, WIDTH)), form.lower()))
    assert not torch.equal(quantize(weight, form.lower()), weight), "as Hugging Face has them, they would"
    own = ops(numerics=numerics, wqkv=form, activations="BF16").for_heads(SPEC)
    identity = torch.eye(SPEC.hidden_dim)[None]
    product = own.linear(identity, own.matrix(weight, MATRICES["wqkv"]), None, MATRICES["wqkv"])
    assert torch.equal(product[0], weight)


def test_a_bias_stays_with_its_column():
    own = ops(wqkv="BF16", activations="BF16").for_heads(SPEC)
    weight, bias = torch.zeros(SPEC.hidden_dim, WIDTH), torch.arange(WIDTH).float()
    product = own.linear(
        torch.zeros(1, 32, SPEC.hidden_dim), own.matrix(weight, MATRICES["wqkv"]), bias, MATRICES["wqkv"]
    )
    assert torch.equal(product[0, 0], bias)


@pytest.mark.parametrize("form", ["BFP8", "BFP4"])
def test_keys_are_cached_as_on_a_card(form):
    q, k, v = (quantize(randn(1, count, 64, SPEC.head_dim), "bf16") for count in (4, 2, 2))
    attend = ops(kv_cache=form, activations="BF16").for_heads(SPEC).attention
    wanted = attend(q, k, v, AttentionSpec(), None)
    cached = from_card(typecast(to_card(k), form.lower()))
    assert torch.equal(attend(q, cached, v, AttentionSpec(), None), wanted)
    assert not torch.equal(attend(q, typecast(k, form.lower()), v, AttentionSpec(), None), wanted)


def test_norms_of_a_head_and_of_all_heads_keep_weights_with_their_dimensions():
    own = ops(activations="BF16")
    x, weight = torch.ones(1, 4, 32, SPEC.head_dim), quantize(torch.arange(1.0, 1 + SPEC.head_dim), "bf16")
    assert torch.equal(own.for_heads(SPEC).rms_norm(x, weight, 1e-6), own.rms_norm(x, weight, 1e-6))
    q, k = (quantize(torch.linspace(1, 2, count * SPEC.head_dim), "bf16") for count in (4, 2))
    qkv = torch.ones(1, 32, WIDTH)
    assert torch.equal(own.for_heads(SPEC).norm_all_heads(qkv, q, k, SPEC), own.norm_all_heads(qkv, q, k, SPEC))
