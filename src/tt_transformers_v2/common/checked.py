# SPDX-License-Identifier: Apache-2.0
"""Dataclasses whose every assignment is checked against annotation and bounds, and the conversion that does it."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from typing import Any, ClassVar

from .errors import ConfigError, did_you_mean

# Optional[X] and X | None are different objects before Python 3.14.
UNIONS = (typing.Union, types.UnionType)


@functools.cache
def field_types(cls: Any) -> dict[str, Any]:
    """Field name -> resolved annotation of a dataclass."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


@functools.cache
def _exact_types(wanted: Any) -> tuple[type, ...]:
    """The types whose values `coerce` would return as they are, so that most assignments need not ask it."""
    arguments = typing.get_args(wanted) if typing.get_origin(wanted) in UNIONS else (wanted,)
    return tuple(kind for kind in arguments if isinstance(kind, type) and typing.get_origin(kind) is None)


def coerce(where: str, wanted: Any, value: Any) -> Any:
    """`value` as the annotation `wanted` asks, or ConfigError naming `where`."""
    if typing.get_origin(wanted) in UNIONS:
        if value is None:
            return None
        (wanted,) = (arg for arg in typing.get_args(wanted) if arg is not type(None))
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return enum_member(wanted, value, where)
    if wanted is bool and not isinstance(value, bool):
        raise ConfigError(f"{where} must be true or false, not {value!r}.")
    if wanted is int and (isinstance(value, bool) or not isinstance(value, int)):
        raise ConfigError(f"{where} must be a whole number, not {value!r}.")
    if wanted is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{where} must be a number, not {value!r}.")
        return float(value)
    if isinstance(wanted, type) and issubclass(wanted, str):
        if not isinstance(value, str):
            raise ConfigError(f"{where} must be text, not {value!r}.")
        return value if isinstance(value, wanted) else wanted(value)
    if typing.get_origin(wanted) is list:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, not {value!r}.")
        (item,) = typing.get_args(wanted)
        return [coerce(f"{where}[{i}]", item, each) for i, each in enumerate(value)]
    if typing.get_origin(wanted) is dict and not isinstance(value, dict):
        raise ConfigError(f"{where} must be a mapping, not {value!r}.")
    return value


def enum_member(cls: type[enum.Enum], value: Any, where: str) -> Any:
    """The member of `cls` whose value or name is `value`; ConfigError naming `where` and the nearest one."""
    if isinstance(value, cls):
        return value
    for member in cls:
        if isinstance(value, str) and value in (member.value, member.name):
            return member
    raise ConfigError(
        f"{where}: {str(value)!r} is not a {cls.__name__}.",
        did_you_mean(str(value), [str(m.value) for m in cls]),
    )


class Checked:
    """Base of the configuration dataclasses: every assignment is checked against the annotation and the bounds.

    `AT_LEAST` gives the smallest value of a number; `PAIRS` names lists of two whole numbers of 1 or more.
    """

    AT_LEAST: ClassVar[dict[str, float]] = {}
    PAIRS: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if type(value) in _unchecked_types(typing.cast(Any, type(self))).get(name, ()):
            object.__setattr__(self, name, value)
            return
        annotations = field_types(typing.cast(Any, type(self)))
        if name not in annotations:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}. {did_you_mean(name, annotations)}")
        if type(value) not in _exact_types(annotations[name]):
            value = coerce(f"{type(self).__name__}.{name}", annotations[name], value)
        self._check_bounds(name, value)
        object.__setattr__(self, name, value)

    def _check_bounds(self, name: str, value: Any) -> None:
        where = f"{type(self).__name__}.{name}"
        if value is not None and name in self.AT_LEAST and not self.AT_LEAST[name] <= value < math.inf:
            raise ConfigError(f"{where} must be at least {self.AT_LEAST[name]:g}, not {value}.")
        if value is not None and name in self.PAIRS and (len(value) != 2 or min(value) < 1):
            raise ConfigError(f"{where} must be two whole numbers of 1 or more, not {value}.")


@functools.cache
def _unchecked_types(cls: Any) -> dict[str, tuple[type, ...]]:
    """Of the fields without bounds, the types whose values need no check: most assignments, and there are many."""
    bounded = (*cls.AT_LEAST, *cls.PAIRS)
    return {name: _exact_types(wanted) for name, wanted in field_types(cls).items() if name not in bounded}
