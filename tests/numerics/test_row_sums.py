# SPDX-License-Identifier: Apache-2.0
"""Sums of rows have the bits of the matrix unit's product with a column of ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tt_transformers_v2.numerics.fidelity import PHASES
from tt_transformers_v2.numerics.matrix_unit import matmul
from tt_transformers_v2.numerics.row_sums import HIGHEST, LANES, LOWEST, row_sums


def same_bits(x: torch.Tensor, fidelity: str, wide: bool, out: str = "fp32") -> bool:
    how = {"math_fidelity": fidelity, "fp32_dest_acc_en": wide, "out": out}
    expected = matmul(x, torch.ones(x.shape[-1], 1), weight_format="fp32", **how)
    found = row_sums(x, **how)
    return found.shape == expected.shape and torch.equal(found.view(torch.int32), expected.view(torch.int32))


def numbers(seed: int, *shape: int, lowest: int = LOWEST, highest: int = HIGHEST, zeros: float = 0.1) -> torch.Tensor:
    """Numbers that are not negative, with random bits and exponent fields, some zero."""
    random = torch.Generator().manual_seed(seed)
    fields = torch.randint(lowest, highest + 1, shape, generator=random, dtype=torch.int32)
    bits = fields << 23 | torch.randint(0, 1 << 23, shape, generator=random, dtype=torch.int32)
    return torch.where(torch.rand(shape, generator=random) < zeros, 0, bits).view(torch.float32)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.sampled_from([1, LANES - 1, LANES, LANES + 1, 70]),
    width=st.sampled_from([1, 15, 16, 17, 32, 33, 200]),
    middle=st.integers(LOWEST + 20, HIGHEST - 20),
    spread=st.sampled_from([0, 2, 8, 20]),
    fidelity=st.sampled_from(list(PHASES)),
    wide=st.booleans(),
)
def test_random_numbers(seed, rows, width, middle, spread, fidelity, wide):
    x = numbers(seed, rows, width, lowest=middle - spread, highest=middle + spread)
    assert same_bits(x, fidelity, wide)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("fidelity", PHASES)
@pytest.mark.parametrize("field", [1, LOWEST - 1, LOWEST, HIGHEST, HIGHEST + 1, 254])
def test_exponents_at_the_limits_of_the_fast_way(field, fidelity, wide):
    assert same_bits(numbers(3, 40, 64, lowest=field, highest=field), fidelity, wide)


@pytest.mark.parametrize("wide", [True, False])
def test_squares_of_a_wide_row(wide):
    x = torch.randn(2, 5, 4096, generator=torch.Generator().manual_seed(0)).square()
    assert all(same_bits(x, fidelity, wide, "bf16") for fidelity in PHASES)


@pytest.mark.parametrize("wide", [True, False])
def test_negative_numbers_infinities_and_empty_rows_are_the_matrix_units(wide):
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    assert same_bits(x, "HiFi4", wide)
    x[3, 5] = torch.inf
    assert same_bits(x.abs(), "HiFi4", wide)
    assert same_bits(torch.zeros(3, 32), "HiFi4", wide)
    assert row_sums(torch.zeros(0, 32), math_fidelity="LoFi", fp32_dest_acc_en=wide).shape == (0, 1)


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="must have shape"):
        row_sums(torch.ones(32), math_fidelity="LoFi", fp32_dest_acc_en=True)
