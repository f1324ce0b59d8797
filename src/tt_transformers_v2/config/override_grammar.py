# SPDX-License-Identifier: Apache-2.0
"""Hydra's grammar of overrides: parsed texts, the values in them, and values written as it reads them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ..common.errors import ConfigError


def parse(text: str) -> Any:
    """Hydra's parsed override. Raises ConfigError for what the grammar refuses, and for packages."""
    from hydra.errors import HydraException

    try:
        override = _parser().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"cannot read {text!r}: {reason}.", "Write KEY=VALUE, and quote special characters."
        ) from None
    if not override.key_or_group:
        raise ConfigError(f"cannot read {text!r}: there is no key.", "Write KEY=VALUE.")
    if override.package is not None:
        raise ConfigError(f"{text!r}: packages cannot be chosen here.", f"Write {override.key_or_group}=OPTION.")
    return override


@functools.cache
def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def plain_value(value: Any) -> Any:
    """Hydra's quoted strings as str, containers element by element."""
    if hasattr(value, "text"):
        return str(value.text)
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(plain_value(key)): plain_value(item) for key, item in value.items()}
    return value


def elements_of(override: Any) -> list[Any]:
    """The values that a parsed override gives, as the grammar has them: one, or those of a choice sweep; none for glob,
    range and interval."""
    from hydra.core.override_parser.types import Glob

    if not override.is_sweep_override():
        return [override.value()]
    if override.is_choice_sweep() and not isinstance(override.value(), Glob):
        return list(override.sweep_iterator())
    return []


def encoded(value: Any) -> str:
    """A value of Hydra's grammar as overrides write it. Text that was not quoted needs no quotes."""
    if hasattr(value, "with_quotes"):
        return str(value.with_quotes())
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{encoded(key)}:{encoded(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encoded, value)) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def quoted(value: Any) -> Any:
    """A plain value as Hydra's grammar would give it: text in quotes where it would read as something else."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if isinstance(value, str):
        return value if _reads_as_itself(value) else QuotedString(value, Quote.single)
    if isinstance(value, Mapping):
        return {quoted(key): quoted(inner) for key, inner in value.items()}
    return [quoted(inner) for inner in value] if isinstance(value, list) else value


def _reads_as_itself(text: str) -> bool:
    """Whether a text without quotes means itself; 1, null and a,b do not."""
    try:
        override = parse(f"key={text}")
    except ConfigError:
        return False
    value = override.value()
    return bool(text) and not override.is_sweep_override() and isinstance(value, str) and value == text
