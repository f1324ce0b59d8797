# SPDX-License-Identifier: Apache-2.0
"""Element by element: the fast products and sums have the bits of the integer way."""

import itertools

import pytest
import torch

from tt_transformers_v2.numerics import eltwise, quantize
from tt_transformers_v2.numerics.elementwise import add, multiply, rotate

SEED = 5


def numbers(*shape, spread=6.0, seed=SEED, short=True):
    """Signed numbers over some 2^(+-3 spread), with zeros and equal neighbours, in bf16 unless they should be long."""
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=make) * torch.exp(torch.randn(*shape, generator=make) * spread / 2)
    x.reshape(-1)[::17] = 0
    x.reshape(-1)[1::19] = 1
    return quantize(x, "bf16") if short else x


@pytest.mark.parametrize(
    ("fidelity", "wide", "out"),
    list(itertools.product(("LoFi", "HiFi2", "HiFi3", "HiFi4"), (True, False), ("bf16", "fp32"))),
)
@pytest.mark.parametrize("short", [True, False])
def test_products_have_the_bits_of_the_integer_way(fidelity, wide, out, short):
    a, b = numbers(64, 96, short=short), numbers(64, 96, seed=6, short=short)
    how = {"math_fidelity": fidelity, "fp32_dest_acc_en": wide, "out": out if wide else "bf16"}
    assert torch.equal(multiply(a, b, **how), eltwise("mul", a, b, **how))


@pytest.mark.parametrize(("wide", "out"), [(True, "bf16"), (True, "fp32"), (False, "bf16")])
@pytest.mark.parametrize("short", [True, False])
def test_sums_have_the_bits_of_the_integer_way(wide, out, short):
    a, b = numbers(64, 96, short=short), numbers(64, 96, seed=6, short=short)
    b[::3] = -a[::3]
    expected = eltwise("add", a, b, math_fidelity="HiFi4", fp32_dest_acc_en=wide, out=out)
    assert torch.equal(add(a, b, fp32_dest_acc_en=wide, out=out), expected)


def test_second_operands_are_broadcast_per_row_and_as_tables():
    a = numbers(2, 3, 8, 32)
    how = {"math_fidelity": "HiFi4", "fp32_dest_acc_en": True}
    per_row, table = numbers(2, 3, 8, 1, seed=7), numbers(8, 32, seed=8)
    assert torch.equal(multiply(a, per_row, **how), multiply(a, per_row.expand_as(a), **how))
    assert torch.equal(multiply(a, table, **how), multiply(a, table.expand_as(a), **how))
    assert torch.equal(multiply(a, table[:1], **how), multiply(a, table[0].expand_as(a), **how))


@pytest.mark.parametrize(("shape", "out"), [((7, 32), "bf16"), ((8, 31), "bf16"), ((8, 32), "bfp8")])
def test_other_shapes_and_outputs_are_refused(shape, out):
    with pytest.raises(ValueError, match=r"b has|is neither|out must"):
        multiply(torch.ones(2, 8, 32), torch.ones(shape), math_fidelity="HiFi4", fp32_dest_acc_en=True, out=out)


def test_no_rows_and_numbers_next_to_zero_give_zero():
    how = {"math_fidelity": "HiFi4", "fp32_dest_acc_en": False}
    assert multiply(torch.empty(0, 32), torch.ones(1, 32), **how).shape == (0, 32)
    assert torch.equal(multiply(torch.full((1, 4), -1e-38), torch.full((1, 4), 1e-5), **how), torch.zeros(1, 4))


@pytest.mark.parametrize("short", [True, False])
def test_rotation_has_the_bits_of_two_products_and_a_sum(short):
    x, cos, sin = numbers(2, 3, 8, 32, short=short), numbers(8, 32, seed=7), numbers(8, 32, seed=8)
    turned = torch.cat((-x[..., 16:], x[..., :16]), dim=-1)
    how = {"math_fidelity": "HiFi4", "fp32_dest_acc_en": False}
    expected = add(multiply(x, cos, **how), multiply(turned, sin, **how), fp32_dest_acc_en=False)
    assert torch.equal(rotate(x, cos, sin), expected)
    assert rotate(x[:, :0], cos, sin).shape == (2, 0, 8, 32)


@pytest.mark.parametrize("shapes", [((2, 8, 31), (8, 31)), ((2, 8, 32), (4, 32)), ((32,), (1, 32))])
def test_rotations_by_tables_of_another_shape_are_refused(shapes):
    x, table = (torch.ones(shape) for shape in shapes)
    with pytest.raises(ValueError, match="are neither like a matrix"):
        rotate(x, table, table)
