# SPDX-License-Identifier: Apache-2.0
"""Composes conf/ as Hydra does, some fifty times faster, and remembers which file every value came from.

Hydra takes 100 to 150 ms a configuration, too much for sweeps of thousands and for walking every device, precision and
model in a test. This covers what the files under conf/ use of Hydra's defaults lists: options, `optional` entries that
interpolate choices, nested defaults, `_self_`, `@package _global_` and `group@package`. Anything else raises
`NotCovered`, and the caller lets Hydra do it. A test compares both over every option.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from .conf_folders import refused_files, remembered
from .yaml_files import read_yaml_file

# The entry of a defaults list that brings the schema (config.schema_store).
SCHEMA = "tt_transformers_v2/schema"
_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)
_CHOICE = re.compile(r"\$\{(\w+)\}")


Choice = str | tuple[str, ...] | None  # an option of a group, several of which the later wins, or none


class NotCovered(Exception):
    """The files use something of Hydra's that this composer leaves to Hydra."""


@dataclass
class Composed:
    """A composed configuration, and for every leaf (dotted path) the file under conf/ that set it.

    `interpolates`: values refer to others, and only Hydra resolves them; the origins hold nevertheless.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    interpolates: bool = False


@dataclass(frozen=True)
class _File:
    """One parsed file of conf/: its content without the defaults list, that list, and its @package if it has one."""

    content: Mapping[str, Any]
    defaults: tuple[Any, ...]
    package: str | None
    _origins: dict[str, dict[str, str]] = field(default_factory=dict)

    def origins(self, package: str, origin: str) -> Mapping[str, str]:
        """`origin` for every value's path when the file stands at `package`; worked out once."""
        if package not in self._origins:
            self._origins[package] = dict.fromkeys((where for where, _ in _leaves(self.content, package)), origin)
        return self._origins[package]

    @functools.cached_property
    def interpolates(self) -> bool:
        """Whether a value takes another's."""
        return any(isinstance(value, (str, list)) and "${" in str(value) for _, value in _leaves(self.content, ""))


def compose_choices(roots: tuple[Path, ...], choices: Mapping[str, Choice]) -> Composed:
    """The configuration of conf/config.yaml with `choices` in place of its defaults.

    `choices`: group -> option, several of them, or None for none.
    `roots` are conf folders, the first that has a file wins. The result is the caller's to change. Raises NotCovered,
    also for an option that does not exist: Hydra then says so.
    """
    cached = _compose(roots, tuple(sorted(choices.items(), key=str)))
    return Composed(_copied(cached.tree), dict(cached.origins), cached.interpolates)


_NESTED = (dict, list)


def _copied(tree: Any) -> Any:
    """Plain nested dicts and lists copied; copy.deepcopy takes several times as long."""
    # What composition made, so types are exact; a leaf costs no call.
    if type(tree) is dict:
        return {key: _copied(value) if type(value) in _NESTED else value for key, value in tree.items()}
    return [_copied(value) if type(value) in _NESTED else value for value in tree] if type(tree) is list else tree


@remembered
def _compose(roots: tuple[Path, ...], choices: tuple[tuple[str, Choice], ...]) -> Composed:
    root = _load(roots, "config")
    if root is None:
        raise NotCovered("config.yaml")
    wanted = dict(choices)
    chosen: dict[str, Choice] = {}
    for group, default, _ in _entries(root.defaults):
        if group is not None:
            chosen[group] = wanted.pop(group, default)
    if wanted:
        raise NotCovered(f"no such group: {', '.join(wanted)}")
    composed = Composed()
    for group, _, optional in _entries(root.defaults):
        if group is None:
            own = {key: value for key, value in root.content.items() if key != "hydra"}
            _merge(composed, _File(own, (), None), "", "config.yaml")
        else:
            choice = chosen[group]
            for each in choice if isinstance(choice, tuple) else (choice,):
                if (name := _interpolated(each, chosen)) is not None:
                    _add(composed, roots, group, name, group.replace("/", "."), optional)
    return composed


def _entries(defaults: tuple[Any, ...]) -> Iterator[tuple[str | None, str | None, bool]]:
    """(group, option, optional) of the root's defaults list; group None stands for _self_."""
    for entry in defaults:
        if entry == SCHEMA:
            continue  # types, and defaults that the dataclasses have
        if entry == "_self_":
            yield None, None, False
            continue
        if not isinstance(entry, dict) or len(entry) != 1:
            raise NotCovered(repr(entry))
        ((key, name),) = entry.items()
        if str(key).startswith("override hydra/"):
            continue  # Hydra's own machinery, no part of the configuration
        group = str(key).removeprefix("optional ")
        if " " in group or "@" in group or group.startswith("/") or not isinstance(name, (str, type(None))):
            raise NotCovered(repr(entry))
        yield group, name, str(key).startswith("optional ")


def _interpolated(name: str | None, chosen: Mapping[str, Choice]) -> str | None:
    return None if name is None else _CHOICE.sub(lambda match: str(chosen.get(match[1])), name)


def _add(
    composed: Composed, roots: tuple[Path, ...], group: str, name: str, package: str, optional: bool = False
) -> None:
    """Merges conf/group/name.yaml and what its own defaults list names, at `package` unless the file says another."""
    file = _load(roots, f"{group}/{name}")
    if file is None:
        if optional:
            return
        raise NotCovered(f"{group}={name}")
    if file.package is not None:
        package = "" if file.package == "_global_" else file.package
    defaults = file.defaults if "_self_" in file.defaults else (*file.defaults, "_self_")
    for entry in defaults:
        if entry == "_self_":
            _merge(composed, file, package, f"{group}/{name}.yaml")
        elif isinstance(entry, str):
            _add(composed, roots, group, entry, package)
        elif not isinstance(entry, dict) or len(entry) != 1:
            raise NotCovered(repr(entry))
        else:
            ((key, option),) = entry.items()
            path, _, at = str(key).partition("@")
            if not path.startswith("/") or not at or not isinstance(option, str):
                raise NotCovered(repr(entry))
            _add(composed, roots, path[1:], option, at)


def _merge(composed: Composed, file: _File, package: str, origin: str) -> None:
    target = composed.tree
    for part in package.split(".") if package else ():
        target = target.setdefault(part, {})
    _merge_into(target, file.content)
    composed.origins.update(file.origins(package, origin))
    composed.interpolates = composed.interpolates or file.interpolates


def _merge_into(target: dict[str, Any], content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        if type(value) is not dict:
            target[key] = value
        elif type(target.get(key)) is dict:
            _merge_into(target[key], value)
        else:
            target[key] = _copied(value)


def _leaves(content: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """What is no mapping, with its path."""
    for key, value in content.items():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            yield from _leaves(value, where)
        else:
            yield where, value


def _load(roots: tuple[Path, ...], name: str) -> _File | None:
    for root in roots:
        path = root / f"{name}.yaml"
        if path.is_file():
            if path in refused_files():
                raise refused_files()[path]
            return _parse(path)
    return None


@remembered
def _parse(path: Path) -> _File:
    text, content = read_yaml_file(path)
    if not isinstance(content or {}, dict):
        raise ConfigError(f"{path} must be a mapping of keys, not a {type(content).__name__}.")
    content = dict(content or {})
    defaults = content.pop("defaults", None) or []
    if not isinstance(defaults, list):
        raise ConfigError(f"{path}: defaults must be a list, not {defaults!r}.")
    header = _PACKAGE.search(text)
    return _File(content, tuple(defaults), header[1] if header else None)


def check_option(roots: tuple[Path, ...], group: str, name: str) -> None:
    """Raises ConfigError when the file of an option cannot be read as one."""
    _load(roots, f"{group}/{name}")
