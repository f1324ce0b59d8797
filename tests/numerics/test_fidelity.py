# SPDX-License-Identifier: Apache-2.0
"""fidelity.py against the split written in plain integers."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from source_parts import src_a_parts, src_b_parts

from tt_transformers_v2.numerics.fidelity import phases_of


def from_bits(values: object) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.uint32).view(np.float32))


def plain_parts(v: int) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """float32 bits -> SrcA high and low, SrcB high and low, as exact numbers."""
    sign, e, fraction = (-1) ** (v >> 31), min((v >> 23) & 0xFF, 254), 0x400 | (v >> 13) & 0x3FF
    if e == 0:
        return (Fraction(0),) * 4
    unit = sign * Fraction(2) ** (e - 127 - 10)
    a_high, a_low = (fraction >> 6) << 6, ((fraction >> 1) & 31) << 1
    b_high, b_low = (fraction >> 4) << 4, fraction & 15
    return unit * a_high, unit * a_low, unit * b_high, unit * b_low


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda sign, e, m: sign << 31 | e << 23 | m,
            st.integers(0, 1),
            st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 2, 254, 255])),
            st.integers(0, 2**23 - 1),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_parts_equal_the_plain_split(values: list[int]) -> None:
    x = from_bits(values)
    parts = [*src_a_parts(x), *src_b_parts(x)]
    for i, v in enumerate(values):
        assert [Fraction(part[i].item()) for part in parts] == list(plain_parts(v))


def test_the_parts_add_up_to_the_operand() -> None:
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    exponent = (torch.arange(65536) >> 7) & 0xFF
    operand = torch.where((exponent > 0) & (exponent < 255), every.float(), torch.zeros(65536))
    usable = exponent < 255
    for parts in (src_a_parts, src_b_parts):
        high, low = parts(every)
        torch.testing.assert_close((high + low)[usable], operand[usable], rtol=0, atol=0)
    # tf32: all ten bits of mantissa for SrcB, nine for SrcA, the rest of a float32 for neither.
    x = from_bits([0x3FFFFFFF])
    assert sum(src_b_parts(x)).item() == 2 - 2**-10
    assert sum(src_a_parts(x)).item() == 2 - 2**-9


def test_infinity_and_nan_become_large_ordinary_numbers() -> None:
    high, low = src_b_parts(torch.tensor([float("inf"), float("-inf"), float("nan")]))
    assert high.tolist() == [2.0**127, -(2.0**127), 1.5 * 2.0**127]
    assert low.tolist() == [0.0, 0.0, 0.0]


def test_shapes_and_strides() -> None:
    x = torch.randn(3, 4, 5).transpose(0, 2)
    for parts in (src_a_parts, src_b_parts):
        high, low = parts(x)
        assert high.shape == low.shape == x.shape
        torch.testing.assert_close(high, parts(x.contiguous())[0], rtol=0, atol=0)


def test_mistakes_name_the_argument() -> None:
    with pytest.raises(ValueError, match="x must be float32 or bfloat16"):
        src_a_parts(torch.zeros(3, dtype=torch.float16))
    with pytest.raises(ValueError, match="math_fidelity must be one of LoFi, HiFi2, HiFi3, HiFi4, not 'HiFi5'"):
        phases_of("HiFi5")
    assert [phases_of(name) for name in ("LoFi", "HiFi2", "HiFi3", "HiFi4")] == [1, 2, 3, 4]
