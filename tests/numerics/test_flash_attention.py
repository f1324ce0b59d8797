# SPDX-License-Identifier: Apache-2.0
"""Attention in chunks of keys, against ttnn 0.81.1 on Tenstorrent's simulator, and against float64."""

import functools

import pytest
import torch
from device_values import error, golden, normal

from tt_transformers_v2.numerics import matmul, quantize
from tt_transformers_v2.numerics.flash_attention import flash_attention


def attention(q, k, v, fidelity="HiFi4", wide=True, k_chunk=64, **how):
    def product(x, y, out):
        return matmul(x, y, math_fidelity=fidelity, fp32_dest_acc_en=wide, out=out, weight_format="fp32")

    settings = {"math_fidelity": fidelity, "fp32_dest_acc_en": wide, "k_chunk": k_chunk}
    return flash_attention(q, k, v, product, **settings, **how)


def exact(q, k, v, window=None):
    group = q.shape[1] // k.shape[1]
    q, k, v = q.double(), k.double().repeat_interleave(group, 1), v.double().repeat_interleave(group, 1)
    distance = torch.arange(k.shape[2])[-q.shape[2] :, None] - torch.arange(k.shape[2])[None]
    hidden = (distance < 0) | (distance >= (window or k.shape[2] + 1))
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(hidden, -torch.inf)
    return torch.softmax(scores, dim=-1) @ v


@functools.cache
def heads(tokens, kv_heads=2, positions=None):
    return (
        normal(1, 4, tokens, 64, scale=1.5),
        normal(1, kv_heads, positions or tokens, 64, seed=2),
        normal(1, kv_heads, positions or tokens, 64, seed=3),
    )


@pytest.mark.parametrize(("name", "fidelity"), [("accuracy_BF16", "HiFi4"), ("performance_BFP8", "HiFi2")])
def test_prefill_has_the_values_of_the_device(name, fidelity):
    arrays = golden(f"sdpa_prefill_{name}")
    q, k, v = (arrays[key][None] for key in "qkv")
    assert torch.equal(attention(q, k, v, fidelity)[0], arrays["real"])


def test_the_accurate_exponential_has_the_size_of_the_devices_error():
    """2.7e-3 on the simulator with exp_approx_mode=False, 1.9e-2 with the approximate one."""
    arrays = golden("sdpa_prefill_accuracy_BF16")
    q, k, v = (arrays[key][None] for key in "qkv")
    assert 2.7e-3 / 1.3 < error(attention(q, k, v, exp_approx=False), exact(q, k, v)) < 2.7e-3 * 1.3


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("exp_approx", [True, False])
@pytest.mark.parametrize(("tokens", "k_chunk"), [(1, 64), (31, 32), (64, 64), (65, 64), (160, 32), (160, 256)])
def test_any_number_of_chunks_is_attention(tokens, k_chunk, exp_approx, wide):
    q, k, v = heads(tokens)
    most = {(True, True): 2.5e-2, (True, False): 4e-2, (False, True): 5e-3, (False, False): 3.5e-2}[exp_approx, wide]
    assert error(attention(q, k, v, wide=wide, k_chunk=k_chunk, exp_approx=exp_approx), exact(q, k, v)) < most


@pytest.mark.parametrize("window", [1, 16, 64, 65, 100])
def test_a_window_hides_what_lies_before_it(window):
    q, k, v = heads(160)
    assert error(attention(q, k, v, exp_approx=False, window=window), exact(q, k, v, window)) < 6e-3


def test_a_window_of_all_positions_hides_nothing():
    q, k, v = heads(130)
    assert torch.equal(attention(q, k, v, window=130), attention(q, k, v))


@pytest.mark.parametrize("window", [None, 40])
def test_rows_do_not_depend_on_the_others(window):
    q, k, v = heads(150)
    whole = attention(q, k, v, window=window)
    later = attention(q[:, :, 70:], k, v, window=window)
    sooner = attention(q[:, :, :70], k[:, :, :70], v[:, :, :70], window=window)
    assert torch.equal(torch.cat((sooner, later), dim=2), whole)


def test_heads_share_keys_as_if_these_were_repeated():
    q, k, v = heads(96)
    assert torch.equal(attention(q, k, v), attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)))


def test_the_result_is_packed_to_its_format():
    y = attention(*heads(40), out="bfp8")
    assert torch.equal(y, quantize(y, "bfp8"))


@pytest.mark.parametrize(
    ("change", "said"), [({"k_chunk": 48}, "multiple of 32"), ({"window": 0}, "at least 1"), ({"heads": 3}, "fit")]
)
def test_what_cannot_be_is_refused(change, said):
    q, k, v = heads(8)
    q = q[:, : change.pop("heads", 4)]
    with pytest.raises(ValueError, match=said):
        attention(q, k, v, **change)
