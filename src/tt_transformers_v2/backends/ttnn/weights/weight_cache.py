# SPDX-License-Identifier: Apache-2.0
"""Converted weights on disk: found again under what they were made from, checked before they are used.

A folder belongs to one model on one mesh with one version of ttnn; its name ends in a hash of all that. In it an entry
is a file of ttnn's own format and a JSON file beside it that says what it is, its size and its SHA-256. The JSON file
is what makes the entry: it is written last, each file appears whole or not at all, and an entry that does not agree
with its JSON file is converted again. So a process that is killed leaves nothing that another would use, and two
processes may fill a folder at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONVERSION = 1  # raised when the same tensor would be arranged otherwise: older entries are then not found
SUFFIX = ".tensorbin"  # ttnn takes no other
PIECE = 1 << 24  # bytes hashed at a time
ABANDONED = 86400.0  # seconds after which a half-written file belongs to nobody

Maker = Callable[[], tuple[Any, str]]


@dataclass
class WeightCache:
    """The entries of one folder.

    dump writes a tensor to a path, load reads one; both raise RuntimeError or OSError. warn takes one line for people.
    `converted` and `found` count what `fetch` did.
    """

    folder: Path
    dump: Callable[[Path, Any], None]
    load: Callable[[Path], Any]
    warn: Callable[[str], None]
    converted: int = 0
    found: int = field(default=0)

    def fetch(self, name: str, about: Mapping[str, Any], make: Maker) -> Any:
        """The entry `name`, or what `make` gives, which becomes the entry.

        `about` is all that the entry depends on besides the folder; `make` returns the tensor and the SHA-256 of what
        it was converted from. A folder that cannot be written costs a warning, not the run.
        """
        described = dict(about)
        tensor = self._read(name, described)
        if tensor is not None:
            self.found += 1
            return tensor
        tensor, source = make()
        self.converted += 1
        try:
            self._write(name, described | {"source_sha256": source}, tensor)
        except (OSError, RuntimeError) as error:
            self.warn(f"converted weights are not cached: {self.folder / name}: {_reason(error)}")
        return tensor

    def _read(self, name: str, about: dict[str, Any]) -> Any:
        card = self.folder / f"{name}.json"
        try:
            entry = json.loads(card.read_text(encoding="utf-8"))
            path = self.folder / str(entry["file"])
            wrong = self._wrong_with(entry, path, about)
            if wrong is None:
                return self.load(path)
        except FileNotFoundError:
            if not card.exists():
                return None
            wrong = "the file is missing"
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            wrong = _reason(error)
        self.warn(f"rebuilding cached weights {card}: {wrong}")
        return None

    def _wrong_with(self, entry: dict[str, Any], path: Path, about: dict[str, Any]) -> str | None:
        stale = [key for key, value in about.items() if entry["about"].get(key) != value]
        if stale:
            return f"different {', '.join(stale)}"
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"{size} bytes instead of {entry['bytes']}"
        return None if file_hash(path) == entry["sha256"] else "the checksum does not match"

    def _write(self, name: str, about: dict[str, Any], tensor: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.folder / f".{uuid.uuid4().hex}{SUFFIX}"
        try:
            self.dump(new, tensor)
            _on_disk(new)
            # Named by its content: a process that made the same entry otherwise cannot swap it under this JSON file.
            checksum = file_hash(new)
            entry = {"file": f"{name}.{checksum[:12]}{SUFFIX}", "bytes": new.stat().st_size, "sha256": checksum}
            new.replace(self.folder / str(entry["file"]))
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        self._commit(name, entry | {"about": about})
        for old in self.folder.glob(f"{name}.*{SUFFIX}"):
            if old.name != entry["file"]:
                old.unlink(missing_ok=True)

    def _commit(self, name: str, entry: dict[str, Any]) -> None:
        new = self.folder / f".{uuid.uuid4().hex}.json"
        try:
            new.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
            _on_disk(new)
            new.replace(self.folder / f"{name}.json")
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def open_folder(home: Path, model: str, about: Mapping[str, Any]) -> Path:
    """The folder under `home` for a model and what its entries share; sweeps out what killed processes left there."""
    key = hashlib.sha256(json.dumps({**about, "conversion": CONVERSION}, sort_keys=True).encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", model).strip("._") or "model"
    folder = home / "weights" / f"{readable[:64]}-{key}"
    for path in folder.glob(".*"):
        try:
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()
        except OSError:
            continue  # another process was faster
    return folder


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _on_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
