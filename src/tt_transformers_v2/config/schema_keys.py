# SPDX-License-Identifier: Apache-2.0
"""Dotted keys of the schema: what each may hold, and what was meant by one that does not exist."""

from __future__ import annotations

import typing
from typing import Any

from ..common.checked import field_types
from ..common.errors import ConfigError, did_you_mean
from .building import nested_dataclass
from .experiment_schema import ExperimentConfig
from .groups import groups


def annotation_of(key: str) -> Any:
    """The annotation of a dotted key in the schema, of all of it for "", or None when there is no such key."""
    annotation: Any = ExperimentConfig
    for part in key.split(".") if key else ():
        cls = nested_dataclass(annotation)
        if cls is None:
            return _inner(annotation)
        if part not in field_types(cls):
            return None
        annotation = field_types(cls)[part]
    return annotation


def _inner(annotation: Any) -> Any:
    return typing.Any if typing.get_origin(annotation) is dict else None


def is_free_form(key: str) -> bool:
    """Whether a dotted key lies inside a mapping whose keys the schema does not name, such as runtime.programs."""
    parent = key.rpartition(".")[0]
    return bool(parent) and nested_dataclass(annotation_of(parent)) is None


def root_keys() -> list[str]:
    """Groups and sections, by which a key begins."""
    return list(dict.fromkeys([*groups(), *field_types(ExperimentConfig)]))


def unknown_key(key: str) -> ConfigError:
    """The error for a key that the schema does not have."""
    cls: Any = ExperimentConfig
    parts = key.split(".")
    for depth, part in enumerate(parts):
        known = root_keys() if depth == 0 else list(field_types(cls))
        if part not in known:
            prefix = ".".join(parts[:depth]) + "." if depth else ""
            return ConfigError(f"unknown key {key!r}: no {prefix}{part}.", did_you_mean(part, known, prefix))
        cls = nested_dataclass(field_types(cls).get(part))
        if cls is None:
            return ConfigError(f"unknown key {key!r}: {'.'.join(parts[: depth + 1])} is a value, not a section.")
    return ConfigError(f"unknown key {key!r}.")
