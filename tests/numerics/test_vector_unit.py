# SPDX-License-Identifier: Apache-2.0
"""Norm, gated product and rotary embedding, against ttnn 0.81.1 on Tenstorrent's simulator and against float64."""

import numpy as np
import pytest
import torch
from device_values import error, golden, normal

from tt_transformers_v2.models.rope import apply_rope
from tt_transformers_v2.numerics import quantize
from tt_transformers_v2.numerics.vector_unit import rms_norm, rope, silu_product

NORM = {"math_fidelity": "HiFi4", "fp32_dest_acc_en": True}


def exact_norm(x, weight, eps):
    x = x.double()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.double()


def test_norm_on_one_core_has_the_values_of_the_device():
    arrays = golden("rms_norm_performance_512")
    assert torch.equal(rms_norm(arrays["x"], arrays["w"], 1e-5, **NORM), arrays["real"])


def test_norm_over_cores_has_the_size_of_the_devices_error():
    """Partial means are added in another order there: the scale of a row may be a last place of tf32 off."""
    arrays = golden("rms_norm_sharded_performance_2048")
    y, exact = rms_norm(arrays["x"], arrays["w"], 1e-5, **NORM), exact_norm(arrays["x"], arrays["w"], 1e-5)
    assert 1 / 1.3 < error(y, exact) / error(arrays["real"], exact) < 1.3
    assert (y != arrays["real"]).float().mean() < 0.1


def test_gated_product_has_the_values_of_the_device():
    arrays = golden("silu_mul_performance_BF16")
    assert torch.equal(silu_product(arrays["a"], arrays["b"]), arrays["real"])


def test_gated_product_in_bfp8_has_the_size_of_the_devices_error():
    """1.7e-2 on the simulator, of normal numbers in BFP8."""
    arrays = golden("silu_mul_performance_BF16")
    a, b = quantize(arrays["a"], "bfp8"), quantize(arrays["b"], "bfp8")
    exact = arrays["a"].double().sigmoid() * arrays["a"].double() * arrays["b"].double()
    assert 1.7e-2 / 1.3 < error(silu_product(a, b, "bfp8"), exact) < 1.7e-2 * 1.3


@pytest.mark.parametrize("gate", [-200.0, -88.0, -1.0, 0.0, 1.0, 88.0, 200.0])
def test_silu_stays_near_itself_at_its_limits(gate):
    x = torch.full((1, 16), gate)
    assert float(silu_product(x, torch.ones_like(x))[0, 0]) == pytest.approx(
        gate / (1 + np.exp(-gate)), rel=8e-3, abs=1e-35
    )


@pytest.mark.parametrize(
    ("fidelity", "wide", "least", "most"), [("HiFi4", False, 3e-3, 6e-3), ("HiFi2", True, 5e-3, 1.2e-2)]
)
def test_norm_loses_what_its_compute_config_cuts(fidelity, wide, least, most):
    x, weight = normal(64, 256), normal(256, seed=2, scale=0.2) + 1
    y = rms_norm(x, quantize(weight, "bf16"), 1e-6, math_fidelity=fidelity, fp32_dest_acc_en=wide)
    assert least < error(y, exact_norm(x, quantize(weight, "bf16"), 1e-6)) < most


def test_rope_has_the_size_of_the_devices_error():
    """3.2e-3 on the simulator, against tables that are not rounded."""
    angles = torch.arange(128)[:, None] * torch.pow(10000.0, -torch.arange(0, 64, 2) / 64)
    angles = torch.cat((angles, angles), dim=-1).double()
    x = normal(1, 4, 128, 64)
    cos, sin = (quantize(table.float(), "bf16") for table in (angles.cos(), angles.sin()))
    assert 3.2e-3 / 1.3 < error(rope(x, cos, sin), apply_rope(x.double(), angles.cos(), angles.sin())) < 3.2e-3 * 1.3


def test_rope_at_position_zero_changes_nothing():
    x = normal(1, 2, 1, 32)
    assert torch.equal(rope(x, torch.ones(1, 32), torch.zeros(1, 32)), x)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        silu_product(torch.ones(2, 16), torch.ones(1, 16))
    with pytest.raises(ValueError, match="neither like a"):
        rope(torch.ones(2, 8, 16), torch.ones(4, 8), torch.ones(4, 8))
