# SPDX-License-Identifier: Apache-2.0
"""Dotted keys of the schema: what each may hold, and what was meant by one that does not exist."""

from __future__ import annotations

import difflib
import typing
from pathlib import Path
from typing import Any

from ..common.checked import field_types
from ..common.errors import ConfigError, did_you_mean
from .building import nested_dataclass
from .conf_folders import conf_dirs, read_yaml, remembered
from .experiment_schema import ExperimentConfig
from .groups import groups

_MOST = 3  # keys that a suggestion names
_ALIKE = 0.8  # of difflib's ratio


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


@remembered
def _leaves() -> dict[str, tuple[str, ...]]:
    """The last part of every key -> the keys that end in it, in the schema's order."""
    found: dict[str, list[str]] = {}
    _collect_leaves(ExperimentConfig, "", found)
    return {name: tuple(keys) for name, keys in found.items()}


def _collect_leaves(cls: Any, path: str, found: dict[str, list[str]]) -> None:
    for name, annotation in field_types(cls).items():
        key = f"{path}.{name}" if path else name
        found.setdefault(name, []).append(key)
        inner = nested_dataclass(annotation)
        if inner is not None:
            _collect_leaves(inner, key, found)


@remembered
def _words(roots: tuple[Path, ...]) -> dict[str, str]:
    """What others call a thing -> the key or group that is meant (conf/rules/key_words.yaml)."""
    return {word: key for key, words in read_yaml("rules/key_words.yaml").items() for word in words}


def meant(key: str) -> list[str]:
    """The keys, of any level, that an unknown one most likely stands for, at most three: that of the word that others
    use for it, else those of its last part, else by likeness where that is great."""
    name = key.rpartition(".")[2].casefold()
    words, leaves = _words(conf_dirs()), _leaves()
    if name in words:
        return [words[name]]
    if name in leaves:
        return list(leaves[name][:_MOST])
    near = difflib.get_close_matches(name, [*leaves, *words], n=1, cutoff=_ALIKE)
    return [words[near[0]]] if near and near[0] in words else list(leaves[near[0]][:_MOST]) if near else []


def key_of_flag(flag: str) -> str:
    """What to type for a flag that is none but names a group or a value (--device, --batch-size), as a sentence; ""."""
    name = flag.lstrip("-").partition("=")[0].replace("-", "_")
    key = name if name in root_keys() or annotation_of(name) is not None else next(iter(meant(name)), "")
    return f"Write {key}=VALUE, without dashes." if key else ""


def unknown_key(key: str) -> ConfigError:
    """The error for a key that the schema does not have, with the key that is meant, wherever it stands."""
    cls: Any = ExperimentConfig
    parts = key.split(".")
    for depth, part in enumerate(parts):
        known = root_keys() if depth == 0 else list(field_types(cls))
        if part not in known:
            prefix = ".".join(parts[:depth]) + "." if depth else ""
            what = f"unknown key {key!r}: no {prefix}{part}."
            here = difflib.get_close_matches(part.casefold(), [each.casefold() for each in known], n=1, cutoff=_ALIKE)
            others = [] if here or 0 < depth < len(parts) - 1 else meant(key)
            if others:
                return ConfigError(what, f"Did you mean {' or '.join(others)}?")
            return ConfigError(what, did_you_mean(part, known, prefix))
        cls = nested_dataclass(field_types(cls).get(part))
        if cls is None:
            return ConfigError(f"unknown key {key!r}: {'.'.join(parts[: depth + 1])} is a value, not a section.")
    return ConfigError(f"unknown key {key!r}.")
