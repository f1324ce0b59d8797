# SPDX-License-Identifier: Apache-2.0
"""Overrides checked before Hydra composes: nothing unknown passes, and every mistake is named with its likely fix.

Hydra alone would accept `+devise=t3k` and run with defaults, would let the last of `device=[t3k,n150]` win, and
answers a typo by advising the `+` that hides it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from ..common.checked import coerce, field_types
from ..common.errors import ConfigError, did_you_mean
from .building import nested_dataclass, raise_all
from .composition import parse_override, plain_value
from .experiment_schema import ExperimentConfig
from .groups import groups, option
from .hydra_settings import check_setting
from .precedence import leaf_paths

OPTIONAL_GROUPS = ("experiment", "tuning")


@dataclasses.dataclass(frozen=True)
class CheckedOverrides:
    """`texts` as Hydra should get them (options in their file's spelling); `typed` the dotted value paths set."""

    texts: list[str]
    typed: set[str]


def check_overrides(texts: Sequence[str], *, multirun: bool = False) -> CheckedOverrides:
    """Checks command-line overrides against the groups of conf/ and the schema; raises one ConfigError for them all."""
    checked = CheckedOverrides([], set())
    problems: list[ConfigError] = []
    seen: set[str] = set()
    for text in texts:
        try:
            override = _parse(text)
            key = str(override.key_or_group)
            if key in seen:
                raise ConfigError(f"{key} is given twice.", "Give it once, or sweep: --multirun KEY=A,B.")
            seen.add(key)
            if key.split(".")[0].split("/")[0] == "hydra":
                check_setting(text, key, _values(override))
                checked.texts.append(text)
                continue
            _refuse_prefix(text, override, key)
            if override.is_sweep_override() and not multirun:
                raise ConfigError(f"{text!r} gives several values for {key}.", "Add --multirun to run them all.")
            checked.texts.append(_check_one(text, override, key, checked.typed))
        except ConfigError as problem:
            problems.append(problem)
    raise_all(problems)
    return checked


def as_typed(texts: Sequence[str]) -> list[str]:
    """Checked overrides as the user writes them."""
    return [text.removeprefix("++") for text in texts]


def typed_paths(texts: Sequence[str]) -> set[str]:
    """The dotted paths that checked overrides set (group choices and hydra.* left out)."""
    typed: set[str] = set()
    for text in texts:
        key, value = parse_override(text)
        if key not in groups() and key.split(".")[0].split("/")[0] != "hydra":
            typed.update(leaf_paths(key, value))
    return typed


def _parse(text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot read {text!r}: {reason}.", "Write KEY=VALUE, and quote odd characters.") from None
    if not override.key_or_group:
        raise ConfigError(f"cannot read {text!r}: there is no key.", "Write KEY=VALUE.")
    if override.package is not None:
        raise ConfigError(f"{text!r}: packages cannot be chosen here.", f"Write {override.key_or_group}=OPTION.")
    return override


def _refuse_prefix(text: str, override: Any, key: str) -> None:
    if override.is_delete():
        raise ConfigError(f"{text!r} deletes a key; every key is needed.", f"Set it instead: {key}=VALUE.")
    if override.is_add() or override.is_force_add():
        bare = text.lstrip("+")
        known = key in groups() or annotation_of(key) is not None
        hint = f"Write {bare}." if known else did_you_mean(key.split(".")[0], _root_keys(), "")
        raise ConfigError(f"{text!r} adds a key; every key exists already, so nothing can be added.", hint)


def _check_one(text: str, override: Any, key: str, typed: set[str]) -> str:
    """The override as Hydra should get it; adds to `typed`. Raises ConfigError."""
    if key in groups():
        return _check_choice(text, override, key)
    annotation = annotation_of(key)
    if annotation is None:
        raise _unknown_key(key)
    for value in _values(override):
        if not isinstance(value, dict):
            if nested_dataclass(annotation) is not None and value is not None:
                raise ConfigError(f"{key} is a section, not a value.", f"Set its keys: {key}.KEY=VALUE.")
            if not (isinstance(value, str) and "${" in value):
                coerce(key, annotation, value)
        typed.update(leaf_paths(key, value))
    if override.is_sweep_override():
        typed.add(key)
    # The schema knows the key; Hydra knows only those that some file sets, and must be told to take it all the same.
    return f"++{text}"


def _check_choice(text: str, override: Any, group: str) -> str:
    values = _values(override)
    if override.is_sweep_override() and not values:
        return text  # glob(...) and range(...) are expanded by Hydra against the same files
    names: list[str] = []
    for value in values:
        if value is None and group in OPTIONAL_GROUPS:
            names.append("null")
        elif isinstance(value, (list, dict)) or value is None:
            example = groups()[group][0]
            raise ConfigError(
                f"{group} takes one option, not {text.partition('=')[2] or 'nothing'}.",
                f"Write {group}={example}, or sweep: --multirun {group}={','.join(groups()[group][:2])}.",
            )
        else:
            names.append(option(group, str(value)))
    return f"{group}={','.join(names)}"


def _values(override: Any) -> list[Any]:
    """The plain values an override gives: one, or the elements of a choice sweep; none for glob and range."""
    from hydra.core.override_parser.types import Glob

    if not override.is_sweep_override():
        return [plain_value(override.value())]
    if override.is_choice_sweep() and not isinstance(override.value(), Glob):
        return [plain_value(element) for element in override.sweep_iterator()]
    return []


def _root_keys() -> list[str]:
    return list(dict.fromkeys([*groups(), *field_types(ExperimentConfig)]))


def annotation_of(key: str) -> Any:
    """The annotation of a dotted key in the schema, of all of it for "", or None when there is no such key."""
    annotation: Any = ExperimentConfig
    for part in key.split(".") if key else ():
        cls = nested_dataclass(annotation)
        if cls is None:
            return typing.Any if typing.get_origin(annotation) is dict else None
        if part not in field_types(cls):
            return None
        annotation = field_types(cls)[part]
    return annotation


def _unknown_key(key: str) -> ConfigError:
    cls: Any = ExperimentConfig
    parts = key.split(".")
    for depth, part in enumerate(parts):
        known = _root_keys() if depth == 0 else list(field_types(cls))
        if part not in known:
            prefix = ".".join(parts[:depth]) + "." if depth else ""
            return ConfigError(f"unknown key {key!r}: no {prefix}{part}.", did_you_mean(part, known, prefix))
        cls = nested_dataclass(field_types(cls).get(part))
        if cls is None:
            return ConfigError(f"unknown key {key!r}: {'.'.join(parts[: depth + 1])} is a value, not a section.")
    return ConfigError(f"unknown key {key!r}.")
