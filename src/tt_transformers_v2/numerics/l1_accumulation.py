# SPDX-License-Identifier: Apache-2.0
"""Packing a block's Dst onto the partial results in L1, in one pass over the numbers.

The same bits as `packer.pack_output` followed by `blocks.l1_add`, which state what is computed (a test compares them);
a matmul with short blocks of K does this once for every block, so that passes of their own would take most of its time.
"""

from __future__ import annotations

import numpy as np
import torch

from tt_transformers_v2.numerics.compiled import helper, kernel, run_split
from tt_transformers_v2.numerics.formats import bits_array
from tt_transformers_v2.numerics.instructions import add32, bits_of, float_of, shr32

_EXPONENT, _SIGN, _MAGNITUDE = np.uint32(0x7F800000), np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_UPPER, _SIGN_AND_EXPONENT, _NAN = np.uint32(0xFFFF0000), np.uint32(0xFF800000), np.uint32(0x7FC00000)
_ALMOST_HALF = np.uint32(0x7FFF)


def pack_onto(partials: torch.Tensor, dst: torch.Tensor, *, wide: bool) -> None:
    """Packs `dst` and adds it to `partials`, in place; `dst` is zero afterwards, as the next block finds it.

    Args:
        partials, dst: contiguous float32 tensors of one shape. wide: fp32 Dst and fp32 partials; otherwise both bf16.
    """
    there, packed = bits_array(partials).reshape(-1), bits_array(dst).reshape(-1)
    run_split(lambda lo, hi: _onto(there, packed, bool(wide), lo, hi), packed.size, packed.size)


@helper
def onto_fp32(x, y):  # type: ignore[no-untyped-def]
    """Bits of the sum of a partial result x and a number y that is packed, both fp32."""
    zero = np.uint32(0)
    x = x if np.uint32(x & _EXPONENT) != zero else np.uint32(x & _SIGN)
    y = y if np.uint32(y & _EXPONENT) != zero else np.uint32(y & _SIGN)
    v = bits_of(float_of(x) + float_of(y))
    v = v if np.uint32(v & _EXPONENT) != zero else np.uint32(v & _SIGN)
    return _NAN if np.uint32(v & _MAGNITUDE) > _EXPONENT else v


@helper
def onto_bf16(x, y):  # type: ignore[no-untyped-def]
    """The same for bf16."""
    zero = np.uint32(0)
    x = np.uint32(x & _SIGN_AND_EXPONENT) if np.uint32(x & _MAGNITUDE) > _EXPONENT else x
    y = np.uint32(y & _SIGN_AND_EXPONENT) if np.uint32(y & _MAGNITUDE) > _EXPONENT else y
    y = np.uint32(y & _UPPER) if np.uint32(y & _EXPONENT) != zero else zero
    v = bits_of(float_of(x) + float_of(y))
    nan = np.uint32(v & _MAGNITUDE) > _EXPONENT
    odd = np.uint32(shr32(v, np.uint32(16)) & np.uint32(1))
    return _NAN if nan else np.uint32(add32(v, add32(_ALMOST_HALF, odd)) & _UPPER)


@kernel
def _onto(there, packed, wide, lo, hi):  # type: ignore[no-untyped-def]
    for i in range(lo, hi):
        there[i] = onto_fp32(there[i], packed[i]) if wide else onto_bf16(there[i], packed[i])
        packed[i] = np.uint32(0)
