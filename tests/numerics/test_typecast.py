# SPDX-License-Identifier: Apache-2.0
"""The device's typecast, against what ttnn 0.81.1 computed on Tenstorrent's simulator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tt_transformers_v2.numerics import quantize
from tt_transformers_v2.numerics.typecast import typecast

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "device_typecast"


@pytest.mark.parametrize("fmt", ["bfp8", "bfp4"])
def test_typecast_has_the_values_of_the_device(fmt):
    golden = np.load(GOLDEN / f"typecast_{fmt}.npz")
    x, real = torch.from_numpy(golden["x"]), torch.from_numpy(golden["real"])
    assert torch.equal(typecast(x, fmt), real)
    assert (quantize(x, fmt) != real).sum() > 400  # the host's packing is another


@pytest.mark.parametrize("fmt", ["bfp8", "bfp4"])
def test_a_number_of_the_format_stays(fmt):
    x = quantize(torch.randn(8, 64, generator=torch.Generator().manual_seed(1)), fmt)
    assert torch.equal(typecast(x, fmt), x)


def test_bfp8_rounds_halves_away_from_zero_and_stays_below_128():
    block = torch.tensor([[64.0, 0.5, 1.5, -0.5, -2.5, 127.5, 0.25, -0.25] + [0.0] * 8])
    expected = torch.tensor([[64.0, 1.0, 2.0, -1.0, -3.0, 127.0, 0.0, 0.0] + [0.0] * 8])
    assert torch.equal(typecast(block, "bfp8"), expected)


def test_bfp4_cuts_toward_zero():
    block = torch.tensor([[4.0, 1.9, -1.9, 7.9, 0.9] + [0.0] * 11])
    assert torch.equal(typecast(quantize(block, "bf16"), "bfp4")[0, :5], torch.tensor([4.0, 1.0, -1.0, 7.0, 0.0]))


def test_a_ragged_block_counts_as_filled_up_with_zeros():
    x = quantize(torch.randn(3, 20, generator=torch.Generator().manual_seed(2)), "bf16")
    whole = typecast(torch.nn.functional.pad(x, (0, 12)), "bfp8")
    assert torch.equal(typecast(x, "bfp8"), whole[:, :20])
    assert typecast(torch.empty(0, 16), "bfp8").shape == (0, 16)


def test_bf16_values_stay_and_unknown_formats_are_refused():
    x = quantize(torch.randn(4, 16, generator=torch.Generator().manual_seed(3)), "bf16")
    assert torch.equal(typecast(x, "bf16"), x)
    with pytest.raises(ValueError, match="fmt must be one of"):
        typecast(x, "bfp2")
    with pytest.raises(ValueError, match="at least one dimension"):
        typecast(torch.tensor(1.0), "bfp8")
