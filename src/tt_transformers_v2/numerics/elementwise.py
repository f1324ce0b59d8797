# SPDX-License-Identifier: Apache-2.0
"""Products and sums of the matrix unit, element by element, as fast as memory allows.

The same bits as `matrix_unit.eltwise`, whose integers (`exact_integer.py`) are the measure in the tests, some hundred
times faster, and with a second operand that is broadcast as ttnn's kernels broadcast it: a number per row (a norm's
scale, attention's rescaling), a row for all rows (a norm's weight), or a table that repeats (rotary embedding).

- ELWMUL: the partial products of up to 10 by 11 bits are exact in float32, and so is their sum in an fp32 Dst. A bf16
  Dst is rounded after every phase, on the grid that `exact_float.py` explains.
- ELWADD: both numbers are cut to 11 bits (tf32), the smaller is rounded half away from zero to the larger one's last
  place, and the sum, of at most 12 bits, is exact. A bf16 Dst rounds it as the packer would.

Limit: operands or results below 2^-100 count as zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tt_transformers_v2.numerics.compiled import helper, kernel, run_split
from tt_transformers_v2.numerics.fidelity import SRC_A, SRC_A_HIGH, SRC_B, SRC_B_HIGH, phases_of
from tt_transformers_v2.numerics.formats import as_float32
from tt_transformers_v2.numerics.instructions import add32, bits_of, float_of, floor32, fma, shr32, sub32, trunc32

_A, _A_HIGH, _B, _B_HIGH = np.uint32(SRC_A), np.uint32(SRC_A_HIGH), np.uint32(SRC_B), np.uint32(SRC_B_HIGH)
_EXPONENT, _SIGN, _UPPER = np.uint32(0x7F800000), np.uint32(0x80000000), np.uint32(0xFFFF0000)
_HALF_BF16, _HALF = np.uint32(0x8000), np.uint32(0x3F000000)
_HALF_AND = np.float32(0.5 + 2.0**-14)
_SMALLEST = np.uint32(27 << 23)
_ZERO, _ALL, _ZERO_F = np.uint32(0), np.uint32(0xFFFFFFFF), np.float32(0)
# 2^10 over, and a 2^10th of, a power of two given by its exponent field.
_SCALE, _BACK = np.uint32(264 << 23), np.uint32((1 << 32) - (10 << 23))


def multiply(
    a: torch.Tensor, b: torch.Tensor, *, math_fidelity: str, fp32_dest_acc_en: bool, out: str = "bf16"
) -> torch.Tensor:
    """a * b in the matrix unit, packed.

    Args:
        a: float32 CPU tensor [..., rows, columns], SrcA; read as tf32.
        b: float32 CPU tensor, SrcB: of the shape of a; or [..., rows, 1], a number per row; or [n, columns], where n
            divides the number of rows of all batches: row r is multiplied by row r % n.
        math_fidelity: "LoFi", "HiFi2", "HiFi3" or "HiFi4".
        fp32_dest_acc_en: float32 accumulator; otherwise bf16, rounded after each phase.
        out: "bf16", or "fp32" (no rounding, and the same as "bf16" without fp32_dest_acc_en).

    Returns:
        float32 tensor of the shape of a.

    Raises:
        ValueError: another fidelity or output, or a b of another shape.
    """
    return _run(_multiply, a, b, phases_of(math_fidelity), fp32_dest_acc_en, out)


def add(a: torch.Tensor, b: torch.Tensor, *, fp32_dest_acc_en: bool, out: str = "bf16") -> torch.Tensor:
    """a + b in the matrix unit, packed; arguments as of `multiply`. Raises ValueError like it."""
    return _run(_add, a, b, 0, fp32_dest_acc_en, out)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x cos + rotated(x) sin, HiFi4 and a bf16 Dst, each product and the sum packed to bf16: the halves of a row rotate
    against each other.

    Args:
        x: float32 CPU tensor [..., rows, columns], an even number of columns.
        cos, sin: float32 tensors [rows, columns].

    Returns:
        float32 tensor of the shape of x.

    Raises:
        ValueError: tables of another shape, an odd number of columns.
    """
    left, tables = as_float32(x, "x"), (as_float32(cos, "cos"), as_float32(sin, "sin"))
    if left.dim() < 2 or left.shape[-1] % 2 or any(table.shape != left.shape[-2:] for table in tables):
        raise ValueError(
            f"cos {list(cos.shape)} and sin {list(sin.shape)} are neither like a matrix of x {list(x.shape)}"
        )
    result = torch.empty_like(left)
    rows, columns = left.shape[:-1].numel(), left.shape[-1]
    if result.numel() == 0:
        return result
    flat, out = left.reshape(rows, columns).numpy(), result.reshape(rows, columns).numpy()
    c, s = (table.numpy() for table in tables)
    run_split(lambda lo, hi: _rotate(flat, c, s, out, lo, hi), rows, 3 * result.numel())
    return result


def _run(work: Any, a: torch.Tensor, b: torch.Tensor, phases: int, wide: bool, out: str) -> torch.Tensor:
    if out not in ("bf16", "fp32"):
        raise ValueError(f"out must be bf16 or fp32, not {out!r}")
    left, right = as_float32(a, "a"), as_float32(b, "b")
    if left.dim() == 0:
        raise ValueError("a must have at least one dimension")
    columns = left.shape[-1]
    rows = left.shape[:-1].numel()
    per_row = right.shape == (*left.shape[:-1], 1)
    if not (per_row or right.shape == left.shape or (right.dim() == 2 and right.shape[1] == columns)):
        raise ValueError(f"b {list(b.shape)} is neither like a {list(a.shape)}, nor a number per row, nor a table")
    table = right.reshape(-1, 1 if per_row else columns)
    if rows % max(len(table), 1):
        raise ValueError(f"b has {len(table)} rows, which do not divide the {rows} of a")
    result = torch.empty_like(left)
    if result.numel() == 0:
        return result
    x, y, z = left.reshape(rows, columns).numpy(), table.numpy(), result.reshape(rows, columns).numpy()
    # bf16: half away from zero; all bits stay in fp32.
    half, kept = (_HALF_BF16, _UPPER) if out == "bf16" or not wide else (_ZERO, _ALL)
    run_split(lambda lo, hi: work(x, y, z, phases, bool(wide), half, kept, lo, hi), rows, result.numel())
    return result


@helper
def _packed(value, half, kept):  # type: ignore[no-untyped-def]
    """What the packer leaves of a number: its bits `kept` after adding `half`; no zero has a sign."""
    v = bits_of(value)
    return float_of(np.uint32(add32(v, half) & kept) if np.uint32(v & _EXPONENT) >= _SMALLEST else _ZERO)


@helper
def _phase(d, p, x):  # type: ignore[no-untyped-def]
    """bf16 Dst plus one partial product p of exponent field x."""
    e = max(x, np.uint32(bits_of(d) & _EXPONENT))
    scale = float_of(sub32(_SCALE, e))
    half = float_of(np.uint32(np.uint32(bits_of(d) & _SIGN) | _HALF))
    total = floor32(fma(p, scale, _HALF_AND)) + trunc32(fma(d, scale, half))
    return float_of(np.uint32(add32(bits_of(total), _HALF_BF16) & _UPPER)) * float_of(add32(e, _BACK))


@helper
def _product_wide(a, b, phases):  # type: ignore[no-untyped-def]
    va, vb = bits_of(a), bits_of(b)
    a_high, b_high = float_of(np.uint32(va & _A_HIGH)), float_of(np.uint32(vb & _B_HIGH))
    a_all, b_all = float_of(np.uint32(va & _A)), float_of(np.uint32(vb & _B))
    if phases == 1:
        return a_high * b_high
    if phases == 2:
        return a_all * b_high
    return a_all * b_high + (a_high if phases == 3 else a_all) * (b_all - b_high)


@helper
def _product_bf16(a, b, phases):  # type: ignore[no-untyped-def]
    va, vb = bits_of(a), bits_of(b)
    a_high, b_high = float_of(np.uint32(va & _A_HIGH)), float_of(np.uint32(vb & _B_HIGH))
    a_all, b_all = float_of(np.uint32(va & _A)), float_of(np.uint32(vb & _B))
    a_low, b_low = a_all - a_high, b_all - b_high
    ea, eb = shr32(np.uint32(va & _EXPONENT), np.uint32(23)), shr32(np.uint32(vb & _EXPONENT), np.uint32(23))
    both = add32(ea, eb)
    x = np.uint32(sub32(both, np.uint32(127)) << np.uint32(23))
    d = _phase(_ZERO_F, a_high * b_high, x)
    if phases > 1:
        d = _phase(d, a_low * b_high, sub32(x, np.uint32(5 << 23)))
    if phases > 2:
        d = _phase(d, a_high * b_low, sub32(x, np.uint32(7 << 23)))
    if phases > 3:
        d = _phase(d, a_low * b_low, sub32(x, np.uint32(12 << 23)))
    # Chosen by a mask: with a branch here the loop does not vectorise.
    some = (ea != _ZERO) & (eb != _ZERO)
    usual = some & (both >= np.uint32(127 + 40)) & (both <= np.uint32(127 + 250))
    mask = sub32(_ZERO, np.uint32(usual))
    return float_of(
        np.uint32(np.uint32(bits_of(d) & mask) | np.uint32(bits_of(a_all * b_all) & np.uint32(mask ^ _ALL)))
    )


@helper
def _products(x, y, z, step, phases, wide, half, kept):  # type: ignore[no-untyped-def]
    """z = x * y of a row; of y only the first number where `step` is 0."""
    if wide:
        for c in range(x.size):
            z[c] = _packed(_product_wide(x[c], y[c * step], phases), half, kept)
    # A loop for each number of phases: with one that is known, it vectorises.
    elif phases == 1:
        for c in range(x.size):
            z[c] = _packed(_product_bf16(x[c], y[c * step], 1), half, kept)
    elif phases == 2:
        for c in range(x.size):
            z[c] = _packed(_product_bf16(x[c], y[c * step], 2), half, kept)
    elif phases == 3:
        for c in range(x.size):
            z[c] = _packed(_product_bf16(x[c], y[c * step], 3), half, kept)
    else:
        for c in range(x.size):
            z[c] = _packed(_product_bf16(x[c], y[c * step], 4), half, kept)


@kernel
def _multiply(a, b, out, phases, wide, half, kept, lo, hi):  # type: ignore[no-untyped-def]
    repeats = b.shape[0]
    for r in range(lo, hi):
        if b.shape[1] == a.shape[1]:
            _products(a[r], b[r % repeats], out[r], 1, phases, wide, half, kept)
        else:
            _products(a[r], b[r % repeats], out[r], 0, phases, wide, half, kept)


@helper
def _whole(v, scale):  # type: ignore[no-untyped-def]
    """A tf32 number in units of the last place of the larger of two, half away from zero."""
    half = float_of(np.uint32(np.uint32(bits_of(v) & _SIGN) | _HALF))
    return trunc32(fma(v, scale, half))


@helper
def _sums(x, y, z, step, half, kept):  # type: ignore[no-untyped-def]
    for c in range(x.size):
        u, v = np.uint32(bits_of(x[c]) & _B), np.uint32(bits_of(y[c * step]) & _B)
        e = max(max(np.uint32(u & _EXPONENT), np.uint32(v & _EXPONENT)), _SMALLEST)
        scale = float_of(sub32(_SCALE, e))
        total = (_whole(float_of(u), scale) + _whole(float_of(v), scale)) * float_of(add32(e, _BACK))
        z[c] = _packed(total, half, kept)


@kernel
def _add(a, b, out, phases, wide, half, kept, lo, hi):  # type: ignore[no-untyped-def]
    repeats = b.shape[0]
    for r in range(lo, hi):
        if b.shape[1] == a.shape[1]:
            _sums(a[r], b[r % repeats], out[r], 1, half, kept)
        else:
            _sums(a[r], b[r % repeats], out[r], 0, half, kept)


@kernel
def _rotate(x, cos, sin, out, lo, hi):  # type: ignore[no-untyped-def]
    rows, columns = cos.shape
    half = columns // 2
    turned, straight, crossed = (
        np.empty(columns, np.float32),
        np.empty(columns, np.float32),
        np.empty(columns, np.float32),
    )
    for r in range(lo, hi):
        for c in range(half):
            turned[c], turned[half + c] = -x[r, half + c], x[r, c]
        _products(x[r], cos[r % rows], straight, 1, 4, False, _HALF_BF16, _UPPER)
        _products(turned, sin[r % rows], crossed, 1, 4, False, _HALF_BF16, _UPPER)
        _sums(straight, crossed, out[r], 1, _HALF_BF16, _UPPER)
