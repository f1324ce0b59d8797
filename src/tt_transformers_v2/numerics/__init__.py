# SPDX-License-Identifier: Apache-2.0
"""What the silicon computes: number formats and the matrix unit, bit for bit, on torch tensors.

Knows nothing of configurations. Importing this package imports neither torch nor numba; the names below are
loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tt_transformers_v2.numerics.formats import FORMATS, pack_tiles, quantize, unpack_tiles

__all__ = ["FORMATS", "pack_tiles", "quantize", "unpack_tiles"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tt_transformers_v2.numerics import formats

    return getattr(formats, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
