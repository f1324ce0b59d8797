# SPDX-License-Identifier: Apache-2.0
"""Second-order rounding: packing keeps every bit of it, and its outputs err less than those of rounding to nearest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.config.auto_config import AutoHardwareConfig
from tt_transformers_v2.hardware.op_table import MATRICES
from tt_transformers_v2.models.head_order import card_order
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.numerics import quantize
from tt_transformers_v2.quantize.grid import Grid, Groups, column_groups, packed_nearest
from tt_transformers_v2.quantize.second_order import (
    PANEL,
    SingularHessian,
    calibrated,
    damping_for,
    factorised,
    hessian,
)

GRIDS = [Grid("bfp4"), Grid("bfp8"), Grid("bfp8", high_only=True)]


def blocks(columns):
    edges = [*range(0, columns, 16), columns]
    return Groups(torch.arange(columns), torch.tensor(edges))


def inputs(tokens, width, seed=0):
    """Correlated, as a layer's are: a quarter as many directions as inputs, and some noise."""
    generator = torch.Generator().manual_seed(seed)
    directions = max(1, width // 4)
    seen = torch.randn(tokens, directions, generator=generator) @ torch.randn(directions, width, generator=generator)
    return seen + 0.3 * torch.randn(tokens, width, generator=generator)


@settings(max_examples=60, deadline=None)
@given(
    grid=st.sampled_from(GRIDS),
    rows=st.integers(1, 40),
    columns=st.integers(1, 50),
    scale=st.integers(-140, 120),
    spread=st.integers(0, 40),
    act_order=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_packing_keeps_every_bit(grid, rows, columns, scale, spread, act_order, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * 2.0**scale
    weight *= 2.0 ** -(torch.rand(rows, columns, generator=generator) * spread)
    factor = factorised(hessian(inputs(64, rows, seed)), 0.01, act_order=act_order)
    found = calibrated(weight, factor, grid, blocks(columns))
    assert torch.equal(quantize(found, grid.fmt), found)
    assert torch.equal(grid.nearest(found), found)
    assert torch.equal(found.bfloat16().float(), found)
    assert not torch.signbit(found[found == 0]).any()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("width", [PANEL - 1, PANEL, PANEL + 1, 3 * PANEL])
def test_outputs_err_less_than_rounded_to_nearest(grid, act_order, width):
    x, weight = inputs(2048, width), torch.randn(width, 64, generator=torch.Generator().manual_seed(1))
    found = calibrated(weight, factorised(hessian(x), 0.01, act_order=act_order), grid, blocks(64))
    error = torch.linalg.norm(x @ (weight - found)) / torch.linalg.norm(x @ (weight - grid.nearest(weight)))
    assert error < 0.7


def test_uncorrelated_inputs_leave_nothing_to_feed_forward():
    """Of inputs that are independent the Hessian is diagonal: every weight goes to the nearest value of a grid."""
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(2))
    found = calibrated(weight, factorised(torch.eye(32), 0.01, act_order=False), Grid("bfp8"), blocks(32))
    nearest = quantize(weight, "bfp8")
    assert torch.linalg.norm(weight - found) <= torch.linalg.norm(weight - nearest)
    assert torch.allclose(found, nearest, atol=float(weight.abs().max()) / 32)


def test_the_steps_are_those_of_gptq():
    """The published form, by the inverse of the Hessian, on a grid that is the same for all: the same values."""
    width = 24
    x, weight = inputs(256, width), torch.randn(width, 16, generator=torch.Generator().manual_seed(3))
    h = hessian(x).double()
    h += 0.01 * h.diagonal().mean() * torch.eye(width)
    inverse = torch.linalg.inv(h)
    left, expected = weight.double().clone(), torch.zeros(width, 16)
    for i in range(width):
        one = calibrated(
            left[i : i + 1].float(), factorised(torch.eye(1), 0.01, act_order=False), Grid("bfp4"), blocks(16)
        )
        expected[i] = one[0]
        error = (left[i] - expected[i]) / inverse[i, i]
        left -= inverse[:, i : i + 1] * error
        inverse = inverse - torch.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    found = calibrated(weight, factorised(hessian(x), 0.01, act_order=False), Grid("bfp4"), blocks(16))
    assert (found != expected).float().mean() < 0.02  # a tie of two roundings may fall the other way in float32


def on_card(weight, head_dim, turning):
    """Columns of wqkv as a card has them (models.head_order), of which the first `turning` heads are q's and k's."""
    heads = weight.unflatten(-1, (-1, head_dim)).clone()
    heads[:, :turning] = heads[:, :turning][..., card_order(head_dim)]
    return heads.flatten(-2)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("head_dim", [16, 24, 32, 64, 80, 96, 128, 256])
def test_heads_of_q_and_k_keep_their_bits_in_the_order_in_which_a_card_packs_them(head_dim, grid):
    spec = ModelSpec.uniform(
        vocab_size=64, hidden_dim=2 * head_dim, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_dim=64
    )
    assert spec.head_dim == head_dim
    columns = 4 * head_dim
    weight = torch.randn(2 * head_dim, columns, generator=torch.Generator().manual_seed(4))
    factor = factorised(hessian(inputs(512, 2 * head_dim)), 0.01, act_order=False)
    found = on_card(calibrated(weight, factor, grid, column_groups(spec, "wqkv", columns)), head_dim, 3)
    assert int((quantize(found, grid.fmt) != found).sum()) == 0
    assert torch.equal(grid.nearest(found), found)
    plain = on_card(calibrated(weight, factor, grid, blocks(columns)), head_dim, 3)
    # A head of one block has the same block in any order.
    assert torch.equal(quantize(plain, grid.fmt), plain) == (head_dim == 16)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("head_dim", [32, 80, 128])
def test_the_emulated_card_packs_what_was_rounded_for_it_without_a_change(grid, head_dim):
    spec = ModelSpec.uniform(
        vocab_size=64, hidden_dim=2 * head_dim, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_dim=64
    )
    precision = {"wqkv": grid.fmt.upper(), "wo": grid.fmt.upper()}
    every_bit = {"attention": {"math_fidelity": "HiFi4"}}
    hardware = AutoHardwareConfig.custom("N150", precision=precision, compute=every_bit)
    ops = EmulatedOps(hardware, "fast").for_heads(spec)
    for name, columns in (("wqkv", 4 * head_dim), ("wo", 2 * head_dim)):
        weight = torch.randn(2 * head_dim, columns, generator=torch.Generator().manual_seed(6))
        factor = factorised(hessian(inputs(512, 2 * head_dim)), 0.01, act_order=False)
        groups = column_groups(spec, name, columns)
        nearest, found = packed_nearest(spec, name, weight, grid), calibrated(weight, factor, grid, groups)
        packed = [read_of(ops, each, MATRICES[name]) for each in (nearest, found, weight)]
        assert torch.equal(packed[0], nearest)
        assert torch.equal(packed[1], found)
        assert torch.equal(packed[2], nearest) != grid.high_only


def read_of(ops, weight, op):
    """A matrix as the matrix unit reads it, in the canonical order: the product with 1."""
    return ops.sums(torch.eye(len(weight)), ops.matrix(weight, op), op, wide=True)


def test_groups_hold_each_column_once():
    spec = ModelSpec.uniform(
        vocab_size=64, hidden_dim=128, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_dim=72
    )
    for name, columns in (("wqkv", 256), ("w1", 72), ("w2", 128), ("wo", 1)):
        groups = column_groups(spec, name, columns)
        sizes = groups.bounds.diff()
        assert sorted(groups.order.tolist()) == list(range(columns))
        assert groups.bounds[-1] == columns
        assert int(sizes.min()) >= 1
        assert int(sizes.max()) <= 16


def test_values_for_lofi_lose_nothing_to_it():
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(5))
    x = inputs(512, 64)
    factor = factorised(hessian(x), 0.01, act_order=False)
    all_bits, high = Grid("bfp8"), Grid("bfp8", high_only=True)
    unaware = high.nearest(calibrated(weight, factor, all_bits, blocks(64)))
    aware = calibrated(weight, factor, high, blocks(64))
    assert torch.linalg.norm(x @ (weight - aware)) < 0.6 * torch.linalg.norm(x @ (weight - unaware))


def test_a_hessian_of_nothing_rounds_rows_on_their_own():
    factor = factorised(torch.zeros(8, 8), 0.01, act_order=True)
    assert torch.equal(factor.lower, torch.eye(8))


def test_an_input_that_is_never_used_does_not_stop_it():
    x = inputs(256, 32)
    x[:, 5] = 0
    factor = factorised(hessian(x), 0.01, act_order=False)
    assert factor.damping == 0.01
    found = calibrated(torch.ones(32, 16) / 3, factor, Grid("bfp4"), blocks(16))
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("act_order", [False, True])
def test_what_is_not_finite_is_refused(act_order):
    h = hessian(inputs(64, 8))
    h[3, 3] = float("nan")
    with pytest.raises(SingularHessian, match="not finite"):
        factorised(h, 0.01, act_order=act_order)


def test_what_is_not_positive_definite_is_damped_more_and_then_refused():
    slightly = torch.diag(torch.tensor([1.0, 1.0, 1.0, -0.05]))
    assert factorised(slightly, 0.01, act_order=False).damping == pytest.approx(0.1)
    with pytest.raises(SingularHessian, match="damped by 10 "):
        factorised(torch.diag(torch.tensor([40.0, -39.0])), 0.01, act_order=False)


@pytest.mark.parametrize(("tokens", "expected"), [(50, 0.02), (99, 0.01 * 100 / 99), (100, 0.01), (101, 0.01)])
def test_few_tokens_are_damped_more(tokens, expected):
    assert damping_for(0.01, tokens, 100) == pytest.approx(expected)
