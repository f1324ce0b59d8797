# SPDX-License-Identifier: Apache-2.0
"""Single machine instructions for compiled kernels.

numba widens integer arithmetic to 64 bits, which halves the number of lanes a vector holds, and promises no fused
product and sum. These have no reason to change, so that any kernel may call them (see `compiled`).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

_tool: Any = intrinsic  # its own type would have callers pass the typing context as well


@_tool
def bits_of(typing_context: Any, value: Any) -> Any:
    """float32 -> uint32 with the same bits."""
    return types.uint32(types.float32), lambda c, b, _s, args: b.bitcast(args[0], c.get_value_type(types.uint32))


@_tool
def float_of(typing_context: Any, bits: Any) -> Any:
    """uint32 -> float32 with the same bits."""
    return types.float32(types.uint32), lambda c, b, _s, args: b.bitcast(args[0], c.get_value_type(types.float32))


@_tool
def add32(typing_context: Any, left: Any, right: Any) -> Any:
    """Sum of two uint32 modulo 2**32."""
    return types.uint32(types.uint32, types.uint32), lambda _c, b, _s, args: b.add(args[0], args[1])


@_tool
def shr32(typing_context: Any, value: Any, places: Any) -> Any:
    """uint32 shifted right by 0..31 places (more is undefined)."""
    return types.uint32(types.uint32, types.uint32), lambda _c, b, _s, args: b.lshr(args[0], args[1])


@_tool
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in float32 with one rounding."""
    return types.float32(types.float32, types.float32, types.float32), lambda _c, b, _s, args: b.fma(*args)


def _rounding(builder: Any, name: str, value: Any) -> Any:
    return builder.call(builder.module.declare_intrinsic(name, [ir.FloatType()]), [value])


@_tool
def floor32(typing_context: Any, value: Any) -> Any:
    """float32 rounded down to a whole number."""
    return types.float32(types.float32), lambda _c, b, _s, args: _rounding(b, "llvm.floor", args[0])


@_tool
def trunc32(typing_context: Any, value: Any) -> Any:
    """float32 rounded towards zero to a whole number."""
    return types.float32(types.float32), lambda _c, b, _s, args: _rounding(b, "llvm.trunc", args[0])


@_tool
def to_int(typing_context: Any, value: Any) -> Any:
    """float32 -> int32 (as uint32), towards zero."""
    return types.uint32(types.float32), lambda _c, b, _s, args: b.fptosi(args[0], ir.IntType(32))


@_tool
def from_int(typing_context: Any, value: Any) -> Any:
    """int32 (as uint32) -> float32, to nearest."""
    return types.float32(types.uint32), lambda _c, b, _s, args: b.sitofp(args[0], ir.FloatType())


@_tool
def sub32(typing_context: Any, left: Any, right: Any) -> Any:
    """Difference of two uint32 modulo 2**32."""
    return types.uint32(types.uint32, types.uint32), lambda _c, b, _s, args: b.sub(args[0], args[1])
