# SPDX-License-Identifier: Apache-2.0
"""Dataclasses whose every assignment is checked against annotation and bounds, and the conversion that does it."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Callable
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
    """`value` as the annotation `wanted` asks, or ConfigError naming `where`.

    Converts exactly what OmegaConf's typed nodes convert (a test compares them), so that a configuration is the same
    object whether Hydra composed it or not: numbers in quotes, yes and no for flags, enum members by name.
    """
    if typing.get_origin(wanted) in UNIONS:
        if value is None:
            return None
        (wanted,) = (arg for arg in typing.get_args(wanted) if arg is not type(None))
    origin = typing.get_origin(wanted)
    if origin in _CONTAINERS:
        return _CONTAINERS[origin](where, wanted, value)
    if not isinstance(wanted, type) or type(value) is wanted:
        return value
    if issubclass(wanted, enum.Enum):
        return enum_member(wanted, value, where)
    for kind, (accepts, convert, expected) in _SCALARS.items():
        if issubclass(wanted, kind):
            if type(value) in accepts or isinstance(value, str):
                with contextlib.suppress(ValueError, KeyError):
                    return convert(wanted, value)
            raise ConfigError(f"{where} must be {expected}, not {value!r}.")
    return value


def _flag(wanted: type, value: Any) -> bool:
    if isinstance(value, str):
        word = value.lower()
        return _WORDS[word] if word in _WORDS else int(value) != 0
    return bool(value)


def _list(where: str, wanted: Any, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} must be a list, not {value!r}.")
    (item,) = typing.get_args(wanted)
    return [coerce(f"{where}[{i}]", item, each) for i, each in enumerate(value)]


def _mapping(where: str, wanted: Any, value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a mapping, not {value!r}.")
    keys, values = typing.get_args(wanted)
    wrong = next((key for key in value if not isinstance(key, keys)), None)
    if wrong is not None:
        raise ConfigError(f"{where}: the key {wrong!r} must be {_SCALARS[keys][2]}.", "Put it in quotes.")
    return {key: coerce(f"{where}.{key}", values, each) for key, each in value.items()}


_WORDS = dict.fromkeys(("yes", "y", "on", "true"), True) | dict.fromkeys(("no", "n", "off", "false"), False)
_CONTAINERS: dict[Any, Callable[[str, Any, Any], Any]] = {list: _list, dict: _mapping}
# Type -> (types of values that become one, how, what was expected); bool before int, whose subclass it is.
_SCALARS: dict[type, tuple[tuple[type, ...], Callable[[type, Any], Any], str]] = {
    bool: ((bool, int, str), _flag, "true or false"),
    int: ((int, str), lambda wanted, value: wanted(value), "a whole number"),
    float: ((float, int, str), lambda wanted, value: wanted(value), "a number"),
    str: ((str, int, float, bool), lambda wanted, value: wanted(value), "text"),
}


def enum_member(cls: type[enum.Enum], value: Any, where: str) -> Any:
    """The member of `cls` whose name is `value`, also with the enum's own name and a dot before it.

    Raises ConfigError naming `where` and the nearest member.
    """
    if isinstance(value, cls):
        return value
    if isinstance(value, str) and (name := value.removeprefix(f"{cls.__name__}.")) in cls.__members__:
        return cls[name]
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
