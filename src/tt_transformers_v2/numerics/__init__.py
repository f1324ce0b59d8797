# SPDX-License-Identifier: Apache-2.0
"""What the silicon computes: number formats and the matrix unit, bit for bit, on torch tensors.

Knows nothing of configurations. Importing this package imports neither torch nor numba; the names below are
loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tt_transformers_v2.numerics.formats import FORMATS, pack_tiles, quantize, unpack_tiles
    from tt_transformers_v2.numerics.matrix_unit import eltwise, matmul, pack, prepare_in1

__all__ = ["FORMATS", "eltwise", "matmul", "pack", "pack_tiles", "prepare_in1", "quantize", "unpack_tiles"]

_MATRIX_UNIT = ("eltwise", "matmul", "pack", "prepare_in1")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "matrix_unit" if name in _MATRIX_UNIT else "formats"
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
