# SPDX-License-Identifier: Apache-2.0
"""Values of a JSON object that someone else wrote: bounded, checked, each mistake a ConfigError naming the key."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError

_LARGEST_JSON = 16 << 20  # bytes
_LARGEST_NUMBER = 2**31 - 1  # beyond it no dimension makes sense, and a corrupt one must not cost an hour
_NEEDED = object()


class ConfigValues:
    """An object with its defaults; `read` collects the keys that were asked for, `where` goes before their names."""

    def __init__(self, path: Path, values: dict[str, Any], defaults: Mapping[str, Any], where: str = "") -> None:
        self.path, self.values, self.defaults, self.where = path, values, defaults, where
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """The value; an explicit null counts as given: sliding_window says "none" with it."""
        self.read.add(key)
        return self.values[key] if key in self.values else self.defaults.get(key, default)

    def fail(self, message: str, hint: str = "") -> ConfigError:
        """The error that names the file."""
        return ConfigError(f"{self.path}: {self.where}{message}", hint)

    def whole(self, key: str, default: Any = _NEEDED) -> int:
        """A whole number from 1 to `_LARGEST_NUMBER`."""
        return int(self._number(key, default, int))

    def positive(self, key: str, default: Any = _NEEDED) -> float:
        """A finite number above 0."""
        return float(self._number(key, default, (int, float)))

    def _number(self, key: str, default: Any, kind: Any) -> Any:
        value = self.get(key)
        if value is None:
            value = default if default is not _NEEDED else self.defaults.get(key, _NEEDED)
        if value is _NEEDED:
            raise self.fail(f"{key} is missing.")
        most = _LARGEST_NUMBER if kind is int else 1e30
        if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value <= most:
            what = "whole number" if kind is int else "number"
            raise self.fail(f"{key} must be a positive {what}, not {str(value)[:40]}.")
        return value


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size; ConfigError for anything else."""
    try:
        if not path.is_file():
            raise ConfigError(
                f"{path} does not exist.", "A Hugging Face folder contains it, along with safetensors files."
            )
        if path.stat().st_size > _LARGEST_JSON:
            raise ConfigError(f"{path} is implausibly large (more than {_LARGEST_JSON >> 20} MB).")
        values = json.loads(path.read_bytes())
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {str(error)[:100]}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must contain a JSON object.")
    return values


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Puts the file's path before a ConfigError that does not name it, raised inside the block."""
    try:
        yield
    except ConfigError as error:
        if str(path) in error.message:
            raise
        raise ConfigError(f"{path}: {error.message}", error.hint) from None
