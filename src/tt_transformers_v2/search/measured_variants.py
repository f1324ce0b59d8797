# SPDX-License-Identifier: Apache-2.0
"""What was measured, kept as it comes: a line per variant, so that a search goes on where it was stopped.

The file's name is a hash of everything that a figure depends on. A line that was cut off in the middle is dropped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from .space import Option, Place
from .target import Divergence

BASE = "base"


def key_of(parts: Mapping[str, Any]) -> str:
    """Sixteen hex digits that are equal when all `parts` are."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def name_of(place: Place, option: Option) -> str:
    """What a figure is kept under: the layer, the site in it and the option tried there, with slashes between."""
    return f"{place.layer}/{place.site}/{option}"


class Measured:
    """Divergences by name, in memory and in `path`; `path` is made when the first one is added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, Divergence] = {}
        text = _text(path)
        self._cut_off = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                record = json.loads(line)
                name = record.pop("name")
                self._found[name] = Divergence(**record)
            except (ValueError, KeyError, TypeError):
                continue  # a line that a killed process left unfinished

    def __len__(self) -> int:
        return len(self._found)

    def get(self, name: str) -> Divergence | None:
        """The divergence kept under `name`, None where it has not been measured."""
        return self._found.get(name)

    def add(self, name: str, divergence: Divergence) -> None:
        """Keeps a figure, on disk before it returns. Raises ConfigError when that cannot be written."""
        self._found[name] = divergence
        line = "\n" * self._cut_off + json.dumps({"name": name, **dataclasses.asdict(divergence)}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One write at the end of the file: lines of two processes do not mix.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
            self._cut_off = False
        except OSError as error:
            raise ConfigError(
                f"cannot write {self.path}: {error.strerror}.", "Free some space, then run the same command again."
            ) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "Remove it to measure again.") from None
