# SPDX-License-Identifier: Apache-2.0
"""The reference's outputs on disk, for workers of a sweep and sweeps to come: a safetensors file per text and layer.

A folder is named by a hash of all that its outputs depend on, so that nothing in it can be out of date. Files appear
whole or not at all and carry a hash of their content; what does not agree with it is computed again. So a process that
is killed leaves nothing that another would use, and several may fill a folder at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..common.errors import ConfigError
from ..common.files import write_atomically
from .code_version import code_version

SUFFIX = ".safetensors"
_HASH = "sha256"

Outputs = dict[str, list[Tensor]]


class ReferenceStore:
    """Outputs under `folder`, at most `most_bytes` of them: what was not used for longest goes first.

    `weights` are the model's files: their sizes and dates tell an edited one, which its fingerprint only samples. A
    folder that cannot be written costs a warning, not the run.
    """

    def __init__(self, folder: Path, most_bytes: int, weights: list[Path]) -> None:
        self._folder = folder
        self._most = most_bytes
        self._made_by = _made_by(weights)
        self._bytes: int | None = None  # of all files, as far as this process knows; None before it looked

    def get(self, text: bytes, layer: int) -> Outputs | None:
        """Module -> outputs by stream, or None. `text` is a digest of the weights' fingerprint and the token ids."""
        path = self._path(text, layer)
        try:
            outputs = _read(path)
            os.utime(path)
        except (OSError, SafetensorError, ValueError):
            return None
        return outputs

    def add(self, text: bytes, layer: int, outputs: Outputs) -> None:
        """Keeps the outputs, if they fit, and removes what is then too much."""
        size = sum(tensor.nbytes for tensors in outputs.values() for tensor in tensors)
        path = self._path(text, layer)
        if size > self._most or path.exists():
            return
        try:
            packed = _packed(outputs)
            write_atomically(path, packed)
            self._make_room(len(packed), path.parent)
        except (ConfigError, OSError) as error:
            self._most = 0  # said once
            print(f"warning: the reference outputs are not cached: {error}", file=sys.stderr)

    def _path(self, text: bytes, layer: int) -> Path:
        return self._folder / hashlib.sha256(self._made_by + text).hexdigest()[:32] / f"{layer}{SUFFIX}"

    def _make_room(self, added: int, own: Path) -> None:
        """Removes files, those of `own` text last, once more than `most_bytes` are there."""
        if self._bytes is not None:
            self._bytes += added
        if self._bytes is None or self._bytes > self._most:
            files = sorted(_files(self._folder), key=lambda file: (file[0].parent == own, file[1].st_mtime_ns))
            self._bytes = sum(stat.st_size for _, stat in files)
            for path, stat in files:
                if self._bytes <= self._most:
                    return
                path.unlink(missing_ok=True)
                self._bytes -= stat.st_size
                with contextlib.suppress(OSError):  # others are in it
                    path.parent.rmdir()


def _made_by(weights: list[Path]) -> bytes:
    """What outputs depend on besides the text: this package, torch, how it computes here, and the weights' files.

    The last bits of a matmul change with the processor's instructions and the number of threads.
    """
    parts: dict[str, Any] = {
        "code": code_version(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "weights": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in weights],
    }
    return json.dumps(parts, sort_keys=True).encode()


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.glob(f"*/*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another process made room
            found.append((path, path.stat()))
    return found


def _packed(outputs: Outputs) -> bytes:
    tensors = {f"{name}.{i}": tensor.contiguous() for name, own in outputs.items() for i, tensor in enumerate(own)}
    return save(tensors, {_HASH: _hash(tensors)})


def _read(path: Path) -> Outputs:
    """Raises OSError, SafetensorError and ValueError for a file that is not there or not whole."""
    with safe_open(path, "pt") as file:
        # Copied, because a product's last bits may depend on where in memory its operands begin.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no dict
        if (file.metadata() or {}).get(_HASH) != _hash(tensors):
            raise ValueError(f"{path} does not match its hash")
    outputs: Outputs = {}
    for name in sorted(tensors, key=lambda name: int(name.partition(".")[2])):
        outputs.setdefault(name.partition(".")[0], []).append(tensors[name])
    return outputs


def _hash(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()
