# SPDX-License-Identifier: Apache-2.0
"""Which steps of ttnn's kernels the emulated backend takes, and with which settings."""

import pytest
import torch

from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.hardware.op_table import MATRICES
from tt_transformers_v2.models.kv_cache import KVCache
from tt_transformers_v2.models.layer_spec import AttentionSpec
from tt_transformers_v2.numerics import eltwise, matmul, quantize
from tt_transformers_v2.numerics.flash_attention import flash_attention
from tt_transformers_v2.numerics.typecast import typecast


def ops(numerics="exact", **groups):
    return EmulatedOps(AutoHardwareConfig.custom("N150", **groups), numerics)


def normal(*shape, seed=1):
    return quantize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), "bf16")


@pytest.mark.parametrize("fp32_dest_acc_en", [True, False])
def test_a_bias_is_added_to_the_packed_product(fp32_dest_acc_en):
    kernel = {"math_fidelity": "HiFi2", "fp32_dest_acc_en": fp32_dest_acc_en}
    backend = ops(compute={"attention": kernel}, precision={"attention_weights": "BF16"})
    x, weight, bias, op = normal(8, 96), normal(96, 64, seed=2), normal(64, seed=3), MATRICES["wqkv"]
    packed = matmul(x, weight, in0_block_w=3, out="bf16", **kernel)
    expected = eltwise("add", packed, bias.expand_as(packed), math_fidelity="HiFi4", fp32_dest_acc_en=False)
    assert torch.equal(backend.linear(x, backend.matrix(weight, op), bias, op), expected)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("stored", ["BFP8", "BFP4"])
def test_the_cache_holds_what_the_device_converts(numerics, stored):
    backend = ops(numerics, precision={"kv_cache": stored}).continuing(KVCache())
    q, k, v = normal(1, 4, 8, 64), normal(1, 2, 8, 64, seed=2), normal(1, 2, 8, 64, seed=3)
    backend.attention(q, k, v, AttentionSpec(), None)
    held = backend.cache.extend(k[:, :, :0], v[:, :, :0])
    assert torch.equal(held[0], typecast(k, stored.lower()))
    assert torch.equal(held[1], typecast(v, stored.lower()))


@pytest.mark.parametrize(
    ("tokens", "phase", "k_chunk"), [(192, "prefill", 64), (2048, "prefill", 256), (300, "decode", 128)]
)
def test_attention_takes_the_chunks_of_its_plan(tokens, phase, k_chunk):
    backend = ops("fast").in_phase(phase)
    q, k, v = normal(1, 1, tokens, 32), normal(1, 1, tokens, 32, seed=2), normal(1, 1, tokens, 32, seed=3)
    kernel = backend.hardware.compute_for(f"sdpa_{phase}")

    def in_chunks(width):
        return flash_attention(
            q, k, v, lambda x, y, out: backend.unit.matmul(x, y, kernel, out), math_fidelity=kernel.math_fidelity.value,
            fp32_dest_acc_en=kernel.fp32_dest_acc_en, k_chunk=width,
        )  # fmt: skip

    y = backend.attention(q, typecast(k, "bf16"), v, AttentionSpec(), None)
    stored = backend.hardware.precision.kv_cache.value.lower()
    k, v = typecast(k, stored), typecast(v, stored)
    assert torch.equal(y, in_chunks(k_chunk))
    assert not torch.equal(y, in_chunks(k_chunk // 2))


def test_heads_are_bf16_whatever_the_activations_are():
    backend = ops(precision={"activations": "BFP8"})
    weight = quantize(1 + normal(64, seed=4) / 8, "bf16")
    heads, hidden = (
        backend.rms_norm(normal(1, 2, 8, 64), weight, 1e-6),
        backend.rms_norm(normal(1, 8, 64), weight, 1e-6),
    )
    assert not torch.equal(heads, quantize(heads, "bfp8"))
    assert torch.equal(hidden, quantize(hidden, "bfp8"))


def test_a_norm_has_the_settings_of_its_group():
    x, weight = normal(1, 8, 64), quantize(1 + normal(64, seed=4) / 8, "bf16")
    coarse = ops(compute={"norm": {"math_fidelity": "LoFi"}})
    assert not torch.equal(ops().rms_norm(x, weight, 1e-6), coarse.rms_norm(x, weight, 1e-6))


def test_an_embedding_in_a_block_format_was_bf16_before():
    table = torch.randn(32, 64, generator=torch.Generator().manual_seed(6))
    y = ops(precision={"embedding": "BFP8"}).embed(torch.arange(32)[None], table)[0]
    assert torch.equal(y, typecast(quantize(table, "bf16"), "bfp8"))
    # 843 of 8192 values differ from the host's packing on the simulator, a tenth.
    assert 0.07 < (y != quantize(table, "bfp8")).float().mean() < 0.13
