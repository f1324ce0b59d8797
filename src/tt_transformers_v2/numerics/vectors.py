# SPDX-License-Identifier: Apache-2.0
"""Vector code for compiled kernels, written as vectors: what is to run on 16 numbers at a time says so.

A loop of scalars is vectorised or not as the compiler's cost model pleases, and one over several rows at a time is not.
A kernel that must not depend on this has its inner loop built here, by llvmlite. LLVM cuts 16 lanes into what the
processor has: one register of AVX-512, two of AVX2, four of Neon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils
from numba.extending import intrinsic

LANES, BYTES = 16, 64  # of 32 bits, and of 8

vector_tool: Any = intrinsic  # its own type would have callers pass the typing context as well

INDEX = ir.IntType(64)
FLOATS = ir.VectorType(ir.FloatType(), LANES)
WORDS = ir.VectorType(ir.IntType(32), LANES)
SHORT, HALVES = ir.VectorType(ir.IntType(8), LANES), ir.VectorType(ir.IntType(16), LANES)
OCTETS = ir.VectorType(ir.IntType(8), BYTES)
FLAG = ir.IntType(1)
TILE_OCTETS = ir.VectorType(ir.IntType(8), 32)
# An instruction of AVX-512 that rounds down, whatever the thread's mode is: _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC.
_DOWN = 1 | 8
_NAMES = {FLOATS: "v16f32", WORDS: "v16i32", OCTETS: "v64i8", TILE_OCTETS: "v32i8"}


def index(value: int) -> Any:
    """A number of elements, known when the kernel is compiled."""
    return ir.Constant(INDEX, value)


def words(value: int | np.uint32) -> Any:
    """The same 32 bits in all lanes."""
    return ir.Constant(WORDS, [int(value) & 0xFFFFFFFF] * LANES)


def floats(value: float | np.float32) -> Any:
    """The same float32 in all lanes."""
    return ir.Constant(FLOATS, [float(np.float32(value))] * LANES)


def octets(value: int, kind: Any = OCTETS) -> Any:
    """The same byte in all lanes."""
    return ir.Constant(kind, [value] * kind.count)


def flags(kind: Any) -> Any:
    """What a comparison of vectors of `kind` gives."""
    return ir.VectorType(FLAG, kind.count)


def pointer(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """To the first element of a numba array of type `kind`."""
    return context.make_array(kind)(context, builder, array).data


def pointers(context: Any, builder: Any, kinds: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """To the first element of each array."""
    return [pointer(context, builder, kind, array) for kind, array in zip(kinds, arrays, strict=True)]


class Code:
    """An llvmlite builder `b`, and what kernels say in vectors with it. Offsets count elements; nothing is aligned."""

    def __init__(self, builder: Any, context: Any = None) -> None:
        self.b = builder
        self._rounds = context is not None and "+avx512f" in context.codegen().magic_tuple()[2]

    def at(self, row: int, stride: Any, column: Any) -> Any:
        """The offset of `column` in a row of a table with rows of `stride` elements."""
        return self.b.add(self.b.mul(index(row), stride), column)

    def load(self, start: Any, offset: Any, kind: Any) -> Any:
        """A vector of `kind`."""
        place = self.b.bitcast(self.b.gep(start, [offset]), kind.as_pointer())
        return self.b.load(place, align=kind.element.width // 8 if hasattr(kind.element, "width") else 4)

    def store(self, value: Any, start: Any, offset: Any) -> None:
        """The reverse of `load`."""
        kind = value.type
        place = self.b.bitcast(self.b.gep(start, [offset]), kind.as_pointer())
        self.b.store(value, place, align=kind.element.width // 8 if hasattr(kind.element, "width") else 4)

    def fetch(self, start: Any, offset: Any) -> None:
        """Has the cache line of an element brought into the second-level cache."""
        word, octet = ir.IntType(32), ir.IntType(8).as_pointer()
        of = ir.FunctionType(ir.VoidType(), [octet, word, word, word])
        place = self.b.bitcast(self.b.gep(start, [offset]), octet)
        how = [ir.Constant(word, value) for value in (0, 2, 1)]  # to read, of middling locality, data
        self.b.call(cgutils.get_or_insert_function(self.b.module, of, "llvm.prefetch.p0i8"), [place, *how])

    def splat(self, value: Any, kind: Any) -> Any:
        """A scalar in all lanes."""
        empty = ir.Constant(kind, ir.Undefined)
        first = self.b.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        return self.b.shuffle_vector(first, empty, lanes)

    def splat_at(self, start: Any, offset: Any, kind: Any) -> Any:
        """One element from memory in all lanes."""
        return self.splat(self.b.load(self.b.gep(start, [offset])), kind)

    def _call(self, name: str, kind: Any, *values: Any) -> Any:
        of = ir.FunctionType(kind, [value.type for value in values])
        return self.b.call(cgutils.get_or_insert_function(self.b.module, of, f"llvm.{name}.{_NAMES[kind]}"), values)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """x * y + z with one rounding."""
        return self._call("fma", FLOATS, x, y, z)

    def floor(self, x: Any) -> Any:
        """The next whole number below."""
        return self._call("floor", FLOATS, x)

    def trunc(self, x: Any) -> Any:
        """The next whole number towards zero."""
        return self._call("trunc", FLOATS, x)

    def add_floor(self, x: Any, whole: Any) -> Any:
        """floor(x) + whole, where `whole` is a number from 2^23 to 2^24 and so is the sum."""
        if not self._rounds:
            return self.b.fadd(self.floor(x), whole)
        return self._avx512("add.ps.512", FLOATS, x, whole, ir.Constant(ir.IntType(32), _DOWN))

    def floor_to_int(self, x: Any) -> Any:
        """floor(x) as an integer."""
        if not self._rounds:
            return self.b.fptosi(self.floor(x), WORDS)
        every = ir.Constant(ir.IntType(16), 0xFFFF)
        return self._avx512("mask.cvtps2dq.512", WORDS, x, words(0), every, ir.Constant(ir.IntType(32), _DOWN))

    def _avx512(self, name: str, kind: Any, *values: Any) -> Any:
        of = ir.FunctionType(kind, [value.type for value in values])
        return self.b.call(cgutils.get_or_insert_function(self.b.module, of, f"llvm.x86.avx512.{name}"), values)

    def most(self, x: Any, y: Any) -> Any:
        """The larger of unsigned integers."""
        return self._call("umax", x.type, x, y)

    def least(self, x: Any, y: Any) -> Any:
        """The smaller of unsigned integers."""
        return self._call("umin", x.type, x, y)

    def add_up_to_most(self, x: Any, y: Any) -> Any:
        """Sum of unsigned integers that stops at the largest there is."""
        return self._call("uadd.sat", x.type, x, y)

    def subtract_down_to_zero(self, x: Any, y: Any) -> Any:
        """Difference of unsigned integers that stops at 0."""
        return self._call("usub.sat", x.type, x, y)

    def over_lanes(self, name: str, x: Any) -> Any:
        """The scalar that `name` (umax, umin) makes of all lanes."""
        of = ir.FunctionType(x.type.element, [x.type])
        called = f"llvm.vector.reduce.{name}.{_NAMES[x.type]}"
        return self.b.call(cgutils.get_or_insert_function(self.b.module, of, called), [x])

    def bits(self, x: Any) -> Any:
        """Float32 -> the same bits as integers."""
        return self.b.bitcast(x, WORDS)

    def float_of(self, x: Any) -> Any:
        """The reverse of `bits`."""
        return self.b.bitcast(x, FLOATS)

    @contextmanager
    def every(self, count: Any, step: int) -> Iterator[Any]:
        """A loop whose index goes from 0 up to `count` by `step`."""
        with cgutils.for_range_slice(self.b, index(0), count, index(step), intp=INDEX) as (place, _):
            yield place


def accumulated(
    code: Code, count: Any, step: int, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> Any:
    """The vectors that `body(index, vectors)` has made of `start` after a loop like `Code.every`."""
    kept = [cgutils.alloca_once_value(code.b, value) for value in start]
    with code.every(count, step) as place:
        for slot, value in zip(kept, body(place, [code.b.load(slot) for slot in kept]), strict=True):
            code.b.store(value, slot)
    return [code.b.load(slot) for slot in kept]
