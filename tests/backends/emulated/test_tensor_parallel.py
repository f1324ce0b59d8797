# SPDX-License-Identifier: Apache-2.0
"""Over several chips, sums are split and nothing else changes."""

import dataclasses

import pytest
import torch

from tt_transformers_v2.backends.emulated import EmulatedOps
from tt_transformers_v2.backends.matrix_units import block_width
from tt_transformers_v2.backends.tensor_parallel import TensorParallel
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.models.decoder import LayerWeights, attention_block, decoder_layer, forward
from tt_transformers_v2.models.rope import rope_tables
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights
from tt_transformers_v2.numerics import matrix_unit, quantize

SPEC = ModelSpec.uniform(64, 256, 2, 8, 512, num_kv_heads=8, name="tiny")
CHIPS = {1: "N150", 2: "N300", 8: "T3K"}


def hardware(chips, **compute):
    config = AutoHardwareConfig.custom(CHIPS[chips], compute=compute or None)
    assert config.parallelism.tensor_parallel_size == chips
    return config


@pytest.fixture(scope="module")
def weights():
    return SyntheticWeights(SPEC, seed=5)


def hidden(tokens=5):
    x = torch.randn(1, tokens, 256, generator=torch.Generator().manual_seed(2))
    return quantize(x, "bf16")


@pytest.mark.parametrize("chips", [2, 8])
@pytest.mark.parametrize("group", ["o", "ff2"])
def test_chaining_the_accumulator_through_the_chips_gives_the_bits_of_one_chip(weights, chips, group):
    """The slices are the right ones: without packing in between, N chips are one."""
    weight = weights.tensor({"o": "wo", "ff2": "w2"}[group], 0)
    x = quantize(torch.randn(3, weight.shape[0], generator=torch.Generator().manual_seed(4)), "bf16")
    config = hardware(chips)
    parts = list(TensorParallel.of(config).parts(weight.shape[0], chips))
    assert len(parts) == chips
    packed = quantize(weight, "bfp8")
    how = {"math_fidelity": "HiFi2", "fp32_dest_acc_en": True, "out": "dst"}
    dst = None
    for part in parts:
        dst = matrix_unit.matmul(x[:, part], packed[part], initial_dst=dst, **how)
    assert torch.equal(dst, matrix_unit.matmul(x, packed, **how))


@pytest.mark.parametrize("chips", [2, 8])
@pytest.mark.parametrize("group", ["o", "ff2"])
def test_a_split_product_is_the_plain_sum_of_its_chips_in_their_order(weights, chips, group):
    name, tensors = {"o": ("wo", "wo"), "ff2": ("w2", "ff2")}[group]
    weight, config = weights.tensor(name, 0), hardware(chips)
    x = quantize(torch.randn(1, 3, weight.shape[0], generator=torch.Generator().manual_seed(4)), "bf16")
    ops = EmulatedOps(config, "exact")
    half = "mlp" if group == "ff2" else "attention"
    found = ops.reduce(ops.linear(x, ops.matrix(weight, tensors, group), None, group), half)

    kernel = config.compute_for("o_prefill" if group == "o" else "ff2")
    packed, width = quantize(weight, "bfp8"), weight.shape[0] // chips
    partial = [
        matrix_unit.matmul(
            x[..., chip * width : (chip + 1) * width],
            packed[chip * width : (chip + 1) * width],
            math_fidelity=kernel.math_fidelity.value,
            fp32_dest_acc_en=kernel.fp32_dest_acc_en,
            packer_l1_acc=kernel.packer_l1_acc,
            in0_block_w=block_width(width),
        )
        for chip in range(chips)
    ]
    assert torch.equal(found, plain_sum(partial, ring=chips == 8))


def plain_sum(partial, *, ring):
    """Every tile of 32 columns by itself, hop by hop."""
    chips, columns = len(partial), partial[0].shape[-1]
    per_owner = columns // 32 // chips or 1
    total = torch.empty_like(partial[0])
    for tile in range(columns // 32):
        owner = tile // per_owner
        place = slice(32 * tile, 32 * tile + 32)
        if ring:
            upwards = tile % per_owner < per_owner // 2
            step = 1 if upwards else -1
            chain = [(owner + step * hop) % chips for hop in range(1, chips + 1)]
            total[..., place] = chained(partial, chain, place)
        else:
            below = chained(partial, list(range(owner + 1)), place)
            above = list(range(chips - 1, owner, -1))
            total[..., place] = add(below, chained(partial, above, place)) if above else below
    return total


def chained(partial, chain, place):
    x = partial[chain[0]][..., place]
    for chip in chain[1:]:
        x = add(x, partial[chip][..., place])
    return x


def add(x, y):
    return matrix_unit.eltwise("add", x, y, math_fidelity="HiFi4", fp32_dest_acc_en=False)


@pytest.mark.parametrize("chips", [2, 8])
def test_what_comes_before_the_first_split_sum_is_the_same_to_the_last_bit(weights, chips, monkeypatch):
    """Replace the split products by one chip's and the whole model has one chip's bits."""
    tokens = torch.arange(6)[None]
    whole = forward(EmulatedOps(hardware(1), "exact"), weights, tokens)
    split = EmulatedOps(hardware(chips), "exact")
    assert not torch.equal(forward(split, weights, tokens), whole)
    monkeypatch.setattr(TensorParallel, "chips", lambda self, op_group, outputs, phase: 1)
    assert torch.equal(forward(split, weights, tokens), whole)


def test_one_chip_can_be_asked_for(weights):
    tokens = torch.arange(6)[None]
    as_one = forward(EmulatedOps(hardware(8), "exact", tensor_parallel=False), weights, tokens)
    assert torch.equal(as_one, forward(EmulatedOps(hardware(1), "exact"), weights, tokens))


def test_split_sums_stay_near_the_whole_one(weights):
    cos, sin = rope_tables(SPEC, torch.arange(5))
    layer = LayerWeights(weights, 0)
    one = decoder_layer(EmulatedOps(hardware(1), "exact"), SPEC, layer, hidden(), cos, sin)
    eight = decoder_layer(EmulatedOps(hardware(8), "exact"), SPEC, layer, hidden(), cos, sin)
    difference = (eight - one).square().mean().sqrt() / one.square().mean().sqrt()
    assert 0 < difference < 0.02


def test_eight_chips_gather_the_heads_into_wo_in_decode_where_the_columns_allow():
    chips = TensorParallel.of(hardware(8))
    assert chips.chips("o", 4096, "decode") == 1
    assert chips.chips("o", 4096, "prefill") == 8
    assert chips.chips("o", 3072, "decode") == 8
    assert chips.chips("ff2", 4096, "decode") == 8
    assert chips.chips("qkv", 4096, "decode") == 1


def test_a_galaxy_sums_over_both_axes_in_the_ccl_format():
    config = AutoHardwareConfig.custom("TG")
    if config.parallelism.tensor_parallel_size == 1:
        config = dataclasses.replace(
            config, parallelism=dataclasses.replace(config.parallelism, tensor_parallel_size=32, data_parallel_size=1)
        )
    spec = dataclasses.replace(SPEC, num_heads=8)
    weights = SyntheticWeights(spec, seed=5)
    layer, (cos, sin) = LayerWeights(weights, 0), rope_tables(spec, torch.arange(5))
    found = {}
    for ccl in ("BF16", "BFP8", "BFP4"):
        config.precision.ccl = ccl
        found[ccl] = attention_block(EmulatedOps(config, "fast"), spec, layer, hidden(), cos, sin)
    one = attention_block(EmulatedOps(hardware(1), "fast"), spec, layer, hidden(), cos, sin)
    errors = [float((found[ccl] - one).square().mean()) for ccl in ("BF16", "BFP8", "BFP4")]
    assert errors[0] < errors[1] < errors[2]
    assert "BFP4" in str(TensorParallel.of(config))
