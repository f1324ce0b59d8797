# SPDX-License-Identifier: Apache-2.0
"""From plain nested mappings to the checked dataclasses, collecting every error on the way."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..common.checked import UNIONS, coerce, field_types
from ..common.errors import ConfigError, did_you_mean

T = TypeVar("T")


def build(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """An instance of the dataclass `cls` from `mapping`; missing keys take the field's default.

    `where` is the dotted path that messages start with. Raises one ConfigError that lists everything wrong: unknown
    keys with the nearest known one, and values the annotation refuses.
    """
    problems: list[ConfigError] = []
    built = collect(cls, mapping, where, problems)
    raise_all(problems)
    assert built is not None
    return built


def raise_all(problems: list[ConfigError]) -> None:
    """Raises the one problem as it is, several as a list; returns when there is none."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigError("\n".join(str(problem) for problem in problems))


def collect(cls: type[T], mapping: Any, where: str, problems: list[ConfigError]) -> T | None:
    """Like `build`, but adds what is wrong to `problems` and returns None then."""
    if not isinstance(mapping, Mapping):
        problems.append(ConfigError(f"{where} must be a mapping, not {mapping!r}."))
        return None
    annotations = field_types(typing.cast(Any, cls))
    before = len(problems)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in annotations:
            problems.append(ConfigError(f"unknown key {path!r}.", did_you_mean(str(key), annotations)))
            continue
        nested = nested_dataclass(annotations[key])
        if nested is not None and not (value is None and annotations[key] is not nested):
            values[key] = collect(nested, value, path, problems)
            continue
        try:
            values[key] = coerce(path, annotations[key], value)
        except ConfigError as problem:
            problems.append(problem)
    if len(problems) > before:
        return None
    for f in dataclasses.fields(typing.cast(Any, cls)):
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            problems.append(ConfigError(f"{where + '.' if where else ''}{f.name} is required."))
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except ConfigError as problem:
        problems.append(problem)
        return None


def nested_dataclass(annotation: Any) -> Any:
    """The dataclass inside an annotation (also inside Optional), or None."""
    if typing.get_origin(annotation) in UNIONS:
        annotation = next((a for a in typing.get_args(annotation) if a is not type(None)), None)
    return annotation if dataclasses.is_dataclass(annotation) else None
