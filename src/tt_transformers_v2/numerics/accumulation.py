# SPDX-License-Identifier: Apache-2.0
"""Products of two operands on their way to Dst: in vectors where exponents allow it, in integers where they do not."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from tt_transformers_v2.numerics import compile_ahead, exact_float, exact_integer
from tt_transformers_v2.numerics.blocks import l1_add
from tt_transformers_v2.numerics.compiled import run_split
from tt_transformers_v2.numerics.formats import bits_array
from tt_transformers_v2.numerics.packer import pack_output

Bits = np.ndarray[Any, np.dtype[np.uint32]]
Octets = np.ndarray[Any, np.dtype[np.uint8]]


class Accumulation:
    """Two operands as arrays of bits, and the way from them to Dst."""

    def __init__(
        self,
        in0: torch.Tensor,
        in1: torch.Tensor,
        batch: torch.Size,
        phases: int,
        wide: bool,
        wormhole: bool,
    ) -> None:
        if in1.dim() == 2:
            # One weight for all: the batch is nothing but more rows.
            rows = in0.shape[:-1].numel()
            in0, in1, batch = in0.reshape(1, rows, in0.shape[-1]), in1[None], torch.Size([1])
        self.shape = (batch.numel(), in0.shape[-2], in1.shape[-1])
        self.operands = (_batches(in0), _batches(in1))
        self.indices = (_index(in0.shape[:-2], batch), _index(in1.shape[:-2], batch))
        self.how = (phases, bool(wide), wormhole)

    def accumulate(self, dst: Bits, first: int, last: int, block: int = 0, folds: int = 0) -> None:
        """Adds the products of K from first..last to `dst` as `exact_float.accumulate` says."""
        cells = dst.reshape(self.shape)
        batches, rows, columns = self.shape
        if cells.size == 0 or last <= first:
            return
        left_over = np.zeros((batches, rows, -(-columns // exact_float.PANEL)), np.uint8)
        if last - first <= exact_float.LONGEST:
            self._in_floats(cells, left_over, first, last, block, folds)
        else:
            left_over[:] = 1
        if left_over.any():
            self._in_integers(cells, left_over, first, last, block, folds)

    def _in_floats(self, cells: Bits, left_over: Octets, first: int, last: int, block: int, folds: int) -> None:
        compile_ahead.finish()
        (in0, _), (in1, _) = self.operands
        before = (octets_of(in0), octets_of(in1), *self.indices, cells, left_over)
        run_split(
            functools.partial(exact_float.accumulate, *before, first, last, block, folds, *self.how),
            exact_float.tasks(*cells.shape),
            cells.size * (last - first) // 16,
        )

    def _in_integers(self, cells: Bits, left_over: Octets, first: int, last: int, block: int, folds: int) -> None:
        """The same where `left_over` says so."""
        listed, columns = np.flatnonzero(left_over.any(axis=2)), cells.shape[2]
        work = cells.copy() if folds else cells
        rows = work.reshape(-1, columns)  # a view
        partials, fmt = torch.zeros(listed.size, columns), "fp32" if self.how[1] else "bf16"
        step = block if folds else last - first
        for done, start in enumerate(range(first, last, step), 1):
            end = min(last, start + step)
            self._add_in_integers(work, left_over, listed, start, end)
            if done <= folds:
                packed = torch.from_numpy(rows[listed].view(np.float32))
                partials = l1_add(partials, pack_output(packed, fmt, self.how[1]), fmt)
                rows[listed] = 0 if done < folds else bits_array(partials)
        if folds:
            own = np.repeat(left_over.reshape(-1, left_over.shape[2])[listed], exact_float.PANEL, axis=1)[:, :columns]
            result = cells.reshape(-1, columns)
            result[listed] = np.where(own != 0, rows[listed], result[listed])

    def _add_in_integers(self, cells: Bits, left_over: Octets, listed: Any, first: int, last: int) -> None:
        (in0, shift0), (in1, shift1) = self.operands
        before = (in0, shift0, in1, shift1, *self.indices, cells, left_over)
        run_split(
            lambda lo, hi: exact_integer.accumulate(*before, listed, exact_float.PANEL, first, last, *self.how, lo, hi),
            listed.size,
            listed.size * cells.shape[2] * (last - first) // 16,
        )


def _batches(x: torch.Tensor) -> tuple[np.ndarray[Any, Any], int]:
    bits, shift = float_bits(x.contiguous())
    return bits.reshape(x.shape[:-2].numel(), *x.shape[-2:]), shift


def octets_of(bits: np.ndarray[Any, Any]) -> Octets:
    """A contiguous array's bytes, those of a number along a last dimension."""
    return bits.view(np.uint8).reshape(*bits.shape, bits.itemsize)


def float_bits(x: torch.Tensor) -> tuple[np.ndarray[Any, Any], int]:
    """The bits of a contiguous tensor, sharing its memory, and what they must be shifted by to be float32's."""
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(np.uint16), 16
    return bits_array(x), 0


def _index(own: torch.Size, batch: torch.Size) -> np.ndarray[Any, Any]:
    return torch.arange(own.numel()).reshape(own).expand(batch).reshape(-1).numpy()
