# SPDX-License-Identifier: Apache-2.0
"""Over several chips, sums are split and nothing else changes."""

import dataclasses

import pytest
import torch

from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.backends.emulated.tensor_parallel import TensorParallel
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.hardware.op_table import MATRICES
from tt_transformers_v2.models.decoder import LayerWeights, attention_block, decoder_layer, forward
from tt_transformers_v2.models.rope import rope_tables
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights
from tt_transformers_v2.numerics import matrix_unit, quantize
from tt_transformers_v2.planning.plans import largest_divisor

SPEC = ModelSpec.uniform(64, 256, 2, 8, 512, num_kv_heads=8, name="tiny")
W2 = MATRICES["w2"]
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
@pytest.mark.parametrize("name", ["wo", "w2"])
def test_chaining_the_accumulator_through_the_chips_gives_the_bits_of_one_chip(weights, chips, name):
    """The slices are the right ones: without packing in between, N chips are one."""
    weight = weights.tensor(name, 0)
    x = quantize(torch.randn(3, weight.shape[0], generator=torch.Generator().manual_seed(4)), "bf16")
    config = hardware(chips)
    parts = list(TensorParallel.of(config).parts(MATRICES[name], weight.shape[0], chips))
    assert len(parts) == chips
    packed = quantize(weight, "bfp8")
    how = {"math_fidelity": "HiFi2", "fp32_dest_acc_en": True, "out": "dst"}
    dst = None
    for part in parts:
        dst = matrix_unit.matmul(x[:, part], packed[part], initial_dst=dst, **how)
    assert torch.equal(dst, matrix_unit.matmul(x, packed, **how))


@pytest.mark.parametrize("chips", [2, 8])
@pytest.mark.parametrize("name", ["wo", "w2"])
def test_a_split_product_is_the_plain_sum_of_its_chips_in_their_order(weights, chips, name):
    weight, config = weights.tensor(name, 0), hardware(chips)
    x = quantize(torch.randn(1, 3, weight.shape[0], generator=torch.Generator().manual_seed(4)), "bf16")
    ops = EmulatedOps(config, "exact")
    op = MATRICES[name]
    found = ops.reduce(ops.linear(x, ops.matrix(weight, op), None, op), op)

    kernel = config.compute_for("o_prefill" if name == "wo" else "ff2")
    packed, width = quantize(weight, "bfp8"), weight.shape[0] // chips
    partial = [
        matrix_unit.matmul(
            x[..., chip * width : (chip + 1) * width],
            packed[chip * width : (chip + 1) * width],
            math_fidelity=kernel.math_fidelity.value,
            fp32_dest_acc_en=kernel.fp32_dest_acc_en,
            packer_l1_acc=kernel.packer_l1_acc,
            in0_block_w=largest_divisor(width // 32, 4),
        )
        for chip in range(chips)
    ]
    assert torch.equal(found, plain_sum(partial, ring=chips == 8))


def plain_sum(partial, *, ring, decode=False):
    """Every tile by itself, hop by hop, as the reduce-scatter kernels of ttnn 0.81.1 go."""
    chips, (tokens, columns) = len(partial), partial[0].shape[-2:]
    share = columns // 32 // chips
    total = torch.empty_like(partial[0])
    for row in range(0, tokens, 32):
        for tile in range(columns // 32):
            place = (..., slice(row, row + 32), slice(32 * tile, 32 * tile + 32))
            parts = [x[place] for x in partial]
            owner, own = divmod(tile, share)
            if ring:
                chunk = ((0 if decode else row // 32) * share + own) // 8
                total[place] = around(parts, owner, 1 if chunk % 2 == 0 else -1)
            else:
                total[place] = along(parts, owner)
    return total


def along(parts, owner):
    arrived = travelled(parts, 0, owner, 1)
    total = parts[owner] if arrived is None else add(arrived, parts[owner])
    arrived = travelled(parts, len(parts) - 1, owner, -1)
    return total if arrived is None else add(total, arrived)


def around(parts, owner, step):
    half = len(parts) // 2
    longer = travelled(parts, owner - step * half, owner, step)
    shorter = travelled(parts, owner + step * (half - 1), owner, -step)
    return add(longer, parts[owner], initial_dst=shorter.contiguous())


def travelled(parts, chip, owner, step):
    """What arrives at the owner of that which left `chip`."""
    x, chip = None, chip % len(parts)
    while chip != owner:
        x = parts[chip] if x is None else add(x, parts[chip])
        chip = (chip + step) % len(parts)
    return x


def add(x, y, **dst):
    return matrix_unit.eltwise("add", x, y, math_fidelity="HiFi4", fp32_dest_acc_en=False, **dst)


@pytest.mark.parametrize("chips", [2, 8])
@pytest.mark.parametrize("decode", [False, True])
def test_tiles_of_a_share_take_turns_on_a_ring(chips, decode):
    """Shares of three tiles and seven rows of tiles: the halves of the ring alternate in both dimensions."""
    random = torch.Generator().manual_seed(6)
    products = [quantize(torch.randn(1, 200, 96 * chips, generator=random), "bf16") for _ in range(chips)]
    ops = EmulatedOps(hardware(chips), "exact").in_phase("decode" if decode else "prefill")
    found = ops.reduce(torch.stack(products), W2)
    assert torch.equal(found, plain_sum(products, ring=chips == 8, decode=decode))
    if chips == 8:
        assert not torch.equal(found, plain_sum(products, ring=True, decode=not decode))


def test_chips_without_inputs_add_nothing():
    """Three tiles of inputs over eight chips."""
    random = torch.Generator().manual_seed(7)
    x = quantize(torch.randn(1, 4, 96, generator=random), "bf16")
    weight = torch.randn(96, 256, generator=random)
    ops = EmulatedOps(hardware(8), "exact")
    found = ops.reduce(ops.linear(x, ops.matrix(weight, W2), None, W2), W2)
    one = ops.unit
    kernel, packed = ops.hardware.compute_for("ff2"), quantize(weight, "bfp8")
    products = [
        one.linear(x[..., k : k + 32], one.prepare(packed[k : k + 32], kernel), None, kernel, "bf16", 1)
        for k in range(0, 96, 32)
    ]
    products += [torch.zeros_like(products[0])] * 5
    assert torch.equal(found, plain_sum(products, ring=True))


def test_a_ring_of_four_goes_two_hops_one_way_and_one_the_other():
    config = AutoHardwareConfig.custom("P150x4")
    assert TensorParallel.of(config).ring
    random = torch.Generator().manual_seed(8)
    products = [quantize(torch.randn(1, 5, 128, generator=random), "bf16") for _ in range(4)]
    found = EmulatedOps(config, "fast").reduce(torch.stack(products), W2)
    a, b, c, d = (x[..., :32] for x in products)

    def bf16(x):
        return quantize(x, "bf16")

    assert torch.equal(found[..., :32], bf16(b + (bf16(c + d) + a)))


@pytest.mark.parametrize("chips", [2, 8])
def test_what_comes_before_the_first_split_sum_is_the_same_to_the_last_bit(weights, chips, monkeypatch):
    """Replace the split products by one chip's and the whole model has one chip's bits."""
    tokens = torch.arange(6)[None]
    whole = forward(EmulatedOps(hardware(1), "exact"), weights, tokens)
    split = EmulatedOps(hardware(chips), "exact")
    assert not torch.equal(forward(split, weights, tokens), whole)
    monkeypatch.setattr(TensorParallel, "chips", lambda self, op: 1)
    assert torch.equal(forward(split, weights, tokens), whole)


def test_one_chip_can_be_asked_for(weights):
    tokens = torch.arange(6)[None]
    as_one = forward(EmulatedOps(hardware(8), "exact", tensor_parallel=False), weights, tokens)
    assert torch.equal(as_one, forward(EmulatedOps(hardware(1), "exact"), weights, tokens))


def test_split_sums_stay_near_the_whole_one(weights):
    tables = rope_tables(SPEC, torch.arange(5))
    layer = LayerWeights(weights, 0)
    one = decoder_layer(EmulatedOps(hardware(1), "exact"), SPEC, layer, hidden(), tables)
    eight = decoder_layer(EmulatedOps(hardware(8), "exact"), SPEC, layer, hidden(), tables)
    difference = (eight - one).square().mean().sqrt() / one.square().mean().sqrt()
    assert 0 < difference < 0.02


def test_inputs_are_split_as_the_ttnn_backend_splits_them_whatever_the_hidden_size():
    """tt_transformers gathers the heads into wo over eight chips where the columns allow; backend=ttnn sums."""
    chips = TensorParallel.of(hardware(8))
    assert [chips.chips(MATRICES[name]) for name in ("wo", "w2", "wqkv", "lm_head")] == [8, 8, 1, 1]
    assert [chips.own_columns(MATRICES[name], 4096) for name in ("wo", "w2", "wqkv")] == [4096, 4096, 512]


def test_a_layer_may_carry_its_own_format():
    own = [{"select": 1, "precision": {"ccl": "BFP4"}}]
    config = AutoHardwareConfig.custom("TG", layers=own, num_layers=2)
    ops = EmulatedOps(config)
    assert "BFP4" not in str(ops.chips)
    assert "BFP4" in str(ops.at_layer(1).chips)
    assert EmulatedOps(config, tensor_parallel=False).at_layer(1).chips.heads == 1


def test_a_galaxy_sums_over_both_axes_in_the_ccl_format():
    config = AutoHardwareConfig.custom("TG")
    if config.parallelism.tensor_parallel_size == 1:
        config = dataclasses.replace(
            config, parallelism=dataclasses.replace(config.parallelism, tensor_parallel_size=32, data_parallel_size=1)
        )
    spec = dataclasses.replace(SPEC, num_heads=8)
    weights = SyntheticWeights(spec, seed=5)
    layer, tables = LayerWeights(weights, 0), rope_tables(spec, torch.arange(5))
    found = {}
    for ccl in ("BF16", "BFP8", "BFP4"):
        config.precision.ccl = ccl
        found[ccl] = attention_block(EmulatedOps(config, "fast"), spec, layer, hidden(), tables)
    one = attention_block(EmulatedOps(hardware(1), "fast"), spec, layer, hidden(), tables)
    errors = [float((found[ccl] - one).square().mean()) for ccl in ("BF16", "BFP8", "BFP4")]
    assert errors[0] < errors[1] < errors[2]
    assert "BFP4" in str(TensorParallel.of(config))
