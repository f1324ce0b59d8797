# SPDX-License-Identifier: Apache-2.0
"""The value of a field that a model's layers do not have in common."""

from __future__ import annotations

from typing import Any, NoReturn

from ..common.errors import ConfigError


class Differing:
    """Stands for ModelSpec's `sliding_window` and the like where one value cannot say what every layer has.

    Code that asks for such a field takes all layers as alike. Whatever it does with the value but compare it for
    equality raises ConfigError, so that nothing is computed wrong in silence; `ModelSpec.layer` has the layers' own.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Differing) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return "by layer"

    def _refuse(self, *_: Any) -> NoReturn:
        raise ConfigError(
            f"the layers of this model have no {self.name} in common; "
            "memory and speed are not predicted for such models yet.",
            "Python computes it: ModelFactory.from_spec.",
        )

    __bool__ = __int__ = __index__ = __float__ = __iter__ = __len__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __neg__ = __getitem__ = _refuse
