# SPDX-License-Identifier: Apache-2.0
"""A sweep's own copy of the configuration folders: what is edited later reaches none of its jobs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from ..config.conf_folders import conf_dirs

FOLDER = "frozen"
_SUFFIXES = (".yaml", ".yml", ".csv")
_INLINE = 256  # characters of JSON up to which a section stands in the job's own line


def freeze(sweep: Path) -> list[Path]:
    """Copies the folders of configuration groups under `sweep`; returns the copies, in the same order."""
    copies = []
    for number, root in enumerate(conf_dirs()):
        copy = sweep / FOLDER / str(number)
        copy.mkdir(parents=True)
        for path in sorted(root.rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                target = copy / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        copies.append(copy)
    return copies


def frozen_dirs(sweep: Path) -> list[Path]:
    """The copies that `freeze` made."""
    return sorted((sweep / FOLDER).iterdir(), key=lambda path: int(path.name))


class Sections:
    """The composed sections that jobs share, written once each: `@digest` stands for one in a job's record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts: dict[str, str] = {}

    def load(self) -> None:
        """Reads the file that `save` wrote."""
        self._texts = json.loads(self._path.read_text(encoding="utf-8"))

    def save_text(self) -> str:
        """The sections by digest as JSON, which `load` reads."""
        return json.dumps(self._texts)

    def pack(self, tree: dict[str, Any]) -> dict[str, Any]:
        """`tree` with its large sections replaced by their digests."""
        packed: dict[str, Any] = {}
        for key, section in tree.items():
            text = json.dumps(section, separators=(",", ":"))
            if len(text) > _INLINE:
                digest = "@" + hashlib.sha256(text.encode()).hexdigest()[:16]
                self._texts[digest] = text
                packed[key] = digest
            else:
                packed[key] = section
        return packed

    def unpack(self, packed: dict[str, Any]) -> dict[str, Any]:
        """The tree of `pack`, the caller's to change."""
        return {
            key: json.loads(self._texts[section]) if isinstance(section, str) and section in self._texts else section
            for key, section in packed.items()
        }
