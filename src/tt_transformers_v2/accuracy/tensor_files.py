# SPDX-License-Identifier: Apache-2.0
"""Tensors on disk that could be computed again: a safetensors file each time, of which no more than so many bytes.

Files appear whole or not at all and carry a hash of their content; what does not agree with it is computed again. So a
process that is killed leaves nothing that another would use, and several may fill a folder at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..common.errors import ConfigError
from ..common.files import write_atomically

SUFFIX = ".safetensors"
_HASH = "sha256"
# Files read ahead and not asked for yet: a layer's matrices, and some that the next layer has in another format.
_MOST_AHEAD = 16
# Files not written yet, whose tensors are in memory as long.
_MOST_BEHIND = 16

Tensors = dict[str, Tensor]


class TensorFiles:
    """Files under `folder`, in groups, at most `most_bytes` of them: what was not used for longest goes first.

    `what` they hold is said when they cannot be written, which costs a warning, not the run. A group is named by all
    that its content depends on, so that nothing in it can be out of date.

    With a `background` of one thread, files are read ahead and written there; who gives it waits for it.
    """

    def __init__(self, folder: Path, most_bytes: int, what: str, background: Executor | None = None) -> None:
        self._folder = folder
        self._most = most_bytes
        self._what = what
        self._bytes: int | None = None  # of all files, as far as this process knows; None before it looked
        self._background = background
        self._ahead: dict[Path, Future[Tensors | None]] = {}
        self._behind: dict[Path, tuple[Future[None], Tensors]] = {}

    def get(self, group: str, name: str, *, then: Sequence[str] = ()) -> Tensors | None:
        """What was added under these names, or None. The tensors are the file's own memory, or those that were added.

        `then` names what will be asked for later, which is read in the background.
        """
        path = self._path(group, name)
        if path in self._behind:
            return self._behind[path][1]
        begun = self._ahead.pop(path, None)
        found = _found(path) if begun is None else begun.result()
        if found is not None:
            with contextlib.suppress(OSError):  # another process made room; the tensors are here
                os.utime(path)
            for later in then:
                self._read_ahead(self._path(group, later))
        return found

    def _read_ahead(self, path: Path) -> None:
        if self._background is not None and path not in self._ahead:
            self._ahead[path] = self._background.submit(_found, path)
            while len(self._ahead) > _MOST_AHEAD:
                del self._ahead[next(iter(self._ahead))]

    def add(self, group: str, name: str, tensors: Tensors) -> None:
        """Keeps them, if they fit, and removes what is then too much. They are not to be changed any more."""
        path = self._path(group, name)
        if sum(tensor.nbytes for tensor in tensors.values()) > self._most or path.exists():
            return
        if self._background is None:
            self._write(path, tensors)
            return
        if len(self._behind) >= _MOST_BEHIND:
            next(iter(self._behind.values()))[0].result()
        self._behind = {other: waiting for other, waiting in self._behind.items() if not waiting[0].done()}
        self._behind[path] = self._background.submit(self._write, path, tensors), tensors

    def _write(self, path: Path, tensors: Tensors, again: bool = False) -> None:
        if not self._most:  # an earlier one could not be written
            return
        try:
            packed = save({key: tensor.contiguous() for key, tensor in tensors.items()}, {_HASH: _hash(path, tensors)})
            # Not forced to the disk: what a power cut spoils does not agree with its hash.
            write_atomically(path, packed, lasting=False)
            self._make_room(len(packed), path.parent)
        except (ConfigError, OSError) as error:
            if not again:  # another process may have removed the folder as it became empty
                self._write(path, tensors, again=True)
                return
            self._most = 0  # said once
            print(f"warning: {self._what} are not cached: {error}", file=sys.stderr)

    def _path(self, group: str, name: str) -> Path:
        return self._folder / group / f"{name}{SUFFIX}"

    def _make_room(self, added: int, own: Path) -> None:
        """Removes files, those of the `own` group last, once more than `most_bytes` are there."""
        if self._bytes is not None:
            self._bytes += added
        if self._bytes is None or self._bytes > self._most:
            files = sorted(_files(self._folder), key=lambda file: (file[0].parent == own, file[1].st_mtime_ns))
            self._bytes = sum(stat.st_size for _, stat in files)
            for path, stat in files:
                if self._bytes <= self._most:
                    return
                self._bytes -= stat.st_size
                with contextlib.suppress(OSError):  # another process was faster, or others are in the folder
                    path.unlink()
                    path.parent.rmdir()


def files_of(weights: list[Path]) -> list[list[str | int]]:
    """Sizes and dates of a model's files: they tell an edited one, which its fingerprint only samples."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in weights]


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.glob(f"*/*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another process made room
            found.append((path, path.stat()))
    return found


def _found(path: Path) -> Tensors | None:
    """What the file holds, None where there is none; one that is not whole is removed, or no other would replace it."""
    try:
        return _read(path)
    except OSError:
        return None
    except (SafetensorError, ValueError):
        with contextlib.suppress(OSError):
            path.unlink()
        return None


def _read(path: Path) -> Tensors:
    """Raises OSError, SafetensorError and ValueError for a file that is not there or not whole."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        if (file.metadata() or {}).get(_HASH) != _hash(path, tensors):
            raise ValueError(f"{path} does not match its hash")
    return tensors


def _hash(path: Path, tensors: Tensors) -> str:
    """Of the tensors, and of the place that they were put in: a file found in another is not whose it seems."""
    digest = hashlib.sha256(f"{path.parent.name} {path.name}".encode())
    for name in sorted(tensors):
        octets = tensors[name].contiguous().view(-1).view(torch.uint8).numpy()
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(octets.data)
    return digest.hexdigest()
