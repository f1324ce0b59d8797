# SPDX-License-Identifier: Apache-2.0
"""Reading files that others wrote: limits on size, depth and numbers, and ConfigError for whatever is not as it should.

Every function raises ConfigError and nothing else.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError, did_you_mean
from ..kernel_words import shown

# 64 layers of a decoder file take about 40 kB; nothing honest comes near.
MAX_JSON_BYTES = 16_000_000
# A catalogue of server specifications. PyYAML takes a second for 100 kB where it was built without libyaml.
MAX_YAML_BYTES = 2_000_000
MAX_DEPTH = 16
# What a ttnn size can be: 64 bits, signed.
MAX_NUMBER = 2**63 - 1


def read_file(path: str | os.PathLike[str]) -> str:
    """The text of a regular UTF-8 file of at most MAX_JSON_BYTES; a byte order mark is dropped."""
    name = shown(os.fspath(path))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{name} is not a regular file.")
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_JSON_BYTES + 1)
    except (OSError, ValueError) as problem:
        if isinstance(problem, ConfigError):
            raise
        reason = getattr(problem, "strerror", None) or "not a file name"
        raise ConfigError(f"cannot read {name}: {reason}.") from None
    if len(content) > MAX_JSON_BYTES:
        raise ConfigError(f"{name} is larger than {MAX_JSON_BYTES // 1000} kB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{name} is not UTF-8 text.") from None


def check_text(text: Any, what: str, limit: int) -> str:
    """`text` itself when it is text of at most `limit` characters."""
    if not isinstance(text, str):
        raise ConfigError(f"{what} must be text, not {type(text).__name__}.")
    if len(text) > limit:
        raise ConfigError(f"{what} is larger than {limit // 1000} kB.")
    return text.removeprefix("\ufeff")


def parse_json(text: Any, what: str) -> Any:
    """JSON whose objects have no key twice, of at most MAX_JSON_BYTES characters and MAX_DEPTH levels."""
    text = check_text(text, what, MAX_JSON_BYTES)
    try:
        parsed = json.loads(text, object_pairs_hook=lambda pairs: _no_duplicates(pairs, what), parse_constant=_refuse)
    except json.JSONDecodeError as problem:
        raise ConfigError(f"{what} is not JSON: {problem.msg} (line {problem.lineno}).") from None
    except RecursionError:
        raise ConfigError(f"{what} is nested more than {MAX_DEPTH} levels deep.") from None
    except ConfigError:
        raise
    except ValueError:  # a number of thousands of digits
        raise ConfigError(f"{what} has a number that is too large.") from None
    return plain_data(parsed, what)


def parse_yaml(text: Any, what: str, *, number_keys: bool = False) -> Any:
    """YAML read by a safe loader: no tags but the plain ones, no anchors, no key twice, at most MAX_YAML_BYTES.

    Keys must be text, and values what JSON has, unless `number_keys`.
    """
    import yaml

    text = check_text(text, what, MAX_YAML_BYTES)
    try:
        _check_events(text, what)
        parsed = yaml.load(text, Loader=_strict_loader(what))  # a safe loader with one more rule
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError(f"{what} is nested more than {MAX_DEPTH} levels deep.") from None
    except yaml.MarkedYAMLError as problem:
        line = f" (line {problem.problem_mark.line + 1})" if problem.problem_mark else ""
        raise ConfigError(f"{what} is not YAML: {str(problem.problem)[:80]!r}{line}.") from None
    except Exception:  # PyYAML's constructors raise whatever int(), bool tables and datetime raise
        raise ConfigError(f"{what} cannot be read as YAML.") from None
    return parsed if number_keys else plain_data(parsed, what)


def plain_data(value: Any, what: str, depth: int = 0) -> Any:
    """`value` when it is made of mappings with text keys, lists, text, finite numbers in range, booleans and null."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"{what} is nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{what} has the key {shown(key)}, which is not text.", "Put it in quotes.")
            plain_data(inner, what, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            plain_data(inner, what, depth + 1)
    elif isinstance(value, (int, float)):
        if not (math.isfinite(value) if isinstance(value, float) else abs(value) <= MAX_NUMBER):
            raise ConfigError(f"{what} has a number that is too large.")
    elif value is not None and not isinstance(value, str):
        raise ConfigError(f"{what} has a {type(value).__name__}, which is not supported here.", "Put it in quotes.")
    return value


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """`value` when it is a mapping."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a mapping, not {shown(value)}.")
    return value


def known_key(key: str, choices: Iterable[str], where: str) -> str:
    """`key` when it is one of `choices`; else the error names the nearest."""
    options = list(choices)
    if key not in options:
        raise ConfigError(f"{where}: unknown key {shown(key)}.", did_you_mean(key[:60], options))
    return key


def _no_duplicates(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ConfigError(f"{what} has the key {shown(twice)} twice in one mapping.", "Keep one of them.")
    return found


def _refuse(constant: str) -> Any:
    raise ConfigError(f"{constant} is not a valid JSON number.")


def _check_events(text: str, what: str) -> None:
    """Before anything is built: a few anchors make a short text as large as one likes, and libyaml crashes on a text
    that is nested deeply enough."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=_safe_loader()):
        if getattr(event, "anchor", None) is not None:  # an alias has one too
            raise ConfigError(f"{what} uses anchors (& and *).", "Write the values out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH + 1:
            raise ConfigError(f"{what} is nested more than {MAX_DEPTH} levels deep.")


def _safe_loader() -> Any:
    """PyYAML's safe loader, the one made with libyaml where there is one."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _strict_loader(what: str) -> Any:
    class Strict(_safe_loader()):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            found: dict[Hashable, Any] = super().construct_mapping(node, deep)
            if len(found) < len(node.value):
                raise ConfigError(f"{what} has a key twice in one mapping.", "Keep one of them.")
            return found

    return Strict
