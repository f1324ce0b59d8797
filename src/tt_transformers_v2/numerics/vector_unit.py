# SPDX-License-Identifier: Apache-2.0
"""Ops whose kernels use the vector unit, in the steps of the kernels: RMS norm, silu(gate) * up, rotary embedding.

- RMS norm: x * x; the sum as a product with a column of ones in the matrix unit, times 1 / width; plus epsilon;
  1 / sqrt; x times it; times the weight. Between the steps, tiles are fp32 with an fp32 Dst, else bf16. The matrix
  unit reads fp32 as tf32. The kernel that spreads a row over cores adds partial means in another order: its scale
  then is a last place of tf32 off in some rows, and the rest is the same.
- silu(x) is x * 1 / (1 + exp(-x)) in a bf16 Dst, with `exp_21f` and one Newton step of the reciprocal, rounded to bf16.
- `ttnn.mul` in bf16 is the product rounded to nearest even: the vector unit's, not the matrix unit's.
- Rotary embedding: x cos and rotated x sin in the matrix unit, each packed to bf16, then their sum. ttnn's defaults
  hold, HiFi4 and a bf16 Dst.

Source: the kernels and ckernel_sfpu_{exp,recip,sigmoid,silu}.h of the ttnn 0.81.1 wheel. Norm on one core and silu * up
have 0 differing values from ttnn 0.81.1 on Tenstorrent's simulator (November 2026, not a card; Wormhole, whose vector
kernels were compiled by a stand-in for the vendor's compiler). Blackhole's reciprocal has instructions of its own;
here it is Wormhole's. Block formats and Dst in bf16 in a norm follow the same steps and were not compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tt_transformers_v2.numerics.compiled import helper, kernel, run_split
from tt_transformers_v2.numerics.elementwise import add, multiply, rotate
from tt_transformers_v2.numerics.formats import as_float32, quantize
from tt_transformers_v2.numerics.instructions import bits_of, float_of, fma, from_int, shr32, sub32, to_int
from tt_transformers_v2.numerics.packer import pack_output
from tt_transformers_v2.numerics.row_sums import row_sums

# exp_21f (Moroz et al. 2022, https://doi.org/10.1109/MSP.2022.3157460): 2**f on 2**-23 of a unit, as ttnn has it.
_OVER_LN2, _C0 = np.float32(1.4426950216293335), np.float32(1.0017248)
_C1, _C2 = np.float32(7.839635491371155e-08), np.float32(4.791750143340323e-15)
# First guess of 1 / x on [1, 2): k2 - k1 x + k0 x^2.
_K0, _K1, _K2 = np.float32(0.3232325017452240), np.float32(1.4545459747314453), np.float32(2.1212124824523926)
_MANTISSA, _SIGN, _ONE_BITS = np.uint32(0x7FFFFF), np.uint32(0x80000000), np.uint32(0x3F800000)
_ZERO_F, _ONE, _MOST, _BIAS = np.float32(0), np.float32(1), np.float32(255), np.float32(127)
_TWO_23 = np.float32(1 << 23)


def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    math_fidelity: str,
    fp32_dest_acc_en: bool,
    out: str = "bf16",
) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in the steps of ttnn's kernel.

    Args:
        x: float32 CPU tensor [..., width] of bf16 values. weight: float32 tensor [width] of bf16 values.
        eps: added to the mean of squares.
        math_fidelity, fp32_dest_acc_en: of the norm's compute config.
        out: what the result is packed to, as in `matmul`.

    Returns:
        float32 tensor of the shape of x.

    Raises:
        ValueError: another dtype, device, shape or name.
    """
    how: dict[str, Any] = {"math_fidelity": math_fidelity, "fp32_dest_acc_en": fp32_dest_acc_en}
    between = "fp32" if fp32_dest_acc_en else "bf16"
    width = x.shape[-1]
    squares = multiply(x, x, out=between, **how)
    total = row_sums(squares, out=between, **how)
    mean = quantize(total * float(np.float32(1 / width)), between)
    shifted = add(mean, torch.full_like(mean, eps), fp32_dest_acc_en=fp32_dest_acc_en, out=between)
    scale = shifted.rsqrt()
    if not fp32_dest_acc_en:
        scale = quantize(scale, "bf16")
    scaled = multiply(x, scale, out=between, **how)
    product = multiply(scaled, weight.reshape(1, width), out=between, **how)
    return pack_output(product, out, fp32_dest_acc_en)


def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x cos + rotated(x) sin as rotary_embedding_llama computes it, the halves of a head rotating against each other.

    Args:
        x: float32 CPU tensor [..., tokens, head_dim] of bf16 values.
        cos, sin: float32 tensors [tokens, head_dim] of bf16 values.

    Returns:
        float32 tensor of the shape of x, bf16 values.

    Raises:
        ValueError: tables of another shape.
    """
    return rotate(x, cos, sin)


def silu_product(gate: torch.Tensor, up: torch.Tensor, out: str = "bf16") -> torch.Tensor:
    """silu(gate) * up as ttnn.mul with silu on its first input computes it.

    Args:
        gate, up: float32 CPU tensors of one shape, of values of bf16 or a block format.
        out: "bf16", "bfp8" or "bfp4". To a block format the packer packs silu(gate), and the product again.

    Returns:
        float32 tensor of that shape.

    Raises:
        ValueError: shapes that differ, another dtype, device or output.
    """
    left, right = as_float32(gate, "gate"), as_float32(up, "up")
    if left.shape != right.shape:
        raise ValueError(f"gate {list(gate.shape)} and up {list(up.shape)} must have one shape")
    activated = torch.empty_like(left)
    x, y = left.reshape(-1).numpy(), activated.reshape(-1).numpy()
    run_split(lambda lo, hi: _silu(x, y, lo, hi), x.size, x.size)
    activated = quantize(activated, "bf16")
    if out != "bf16":
        activated = pack_output(activated, out, False)
    return pack_output(quantize(activated * right, "bf16"), out, False)


def product(x: torch.Tensor, y: torch.Tensor, out: str = "bf16") -> torch.Tensor:
    """x * y of bf16 values as `ttnn.mul` rounds it, packed to `out`; shapes broadcast as torch's do."""
    return pack_output(quantize(x * y, "bf16"), out, False)


def limited_product(
    gate: torch.Tensor, up: torch.Tensor, limit: float, alpha: float, out: str = "bf16"
) -> torch.Tensor:
    """gpt-oss's gate of [..., width] each: gate = min(gate, limit), up cut to +- limit, gate * sigmoid(alpha * gate) *
    (up + 1).

    Assumed: an op of its own in bf16 for each step, as tt-metal's gpt-oss demo has it, with float32's sigmoid.
    """
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    turned = quantize(torch.sigmoid(quantize(gate * alpha, "bf16")), "bf16")
    return product(quantize(gate * turned, "bf16"), quantize(up + 1, "bf16"), out)


@helper
def _exp_21f(x):  # type: ignore[no-untyped-def]
    """exp(x): 2 to the power of x / ln 2, its fraction by a polynomial of the second degree."""
    z = min(max(fma(x, _OVER_LN2, _BIAS), _ZERO_F), _MOST)
    bits = to_int(z * _TWO_23)
    fraction = from_int(np.uint32(bits & _MANTISSA))
    grown = fma(fma(fraction, _C2, _C1), fraction, _C0)
    return float_of(np.uint32(np.uint32(bits_of(grown) & _MANTISSA) | np.uint32(bits & np.uint32(0x7F800000))))


@kernel
def _silu(x, out, lo, hi):  # type: ignore[no-untyped-def]
    for i in range(lo, hi):
        v = x[i]
        below = _exp_21f(-v) + _ONE
        # The reciprocal of the significand, then of the power of two.
        m = -float_of(np.uint32(np.uint32(bits_of(below) & _MANTISSA) | _ONE_BITS))
        y = fma(fma(m, _K0, _K1), m, _K2)
        y = fma(y, fma(m, y, _ONE), y)
        power = sub32(np.uint32(254), min(shr32(bits_of(below), np.uint32(23)), np.uint32(254)))
        out[i] = v * (y * float_of(np.uint32(power << np.uint32(23))))
