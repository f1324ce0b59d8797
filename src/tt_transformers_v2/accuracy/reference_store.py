# SPDX-License-Identifier: Apache-2.0
"""The reference's outputs on disk, for workers of a sweep and for what runs later: a file per text and layer."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .code_version import code_version
from .tensor_files import TensorFiles, files_of

Outputs = dict[str, list[Tensor]]


class ReferenceStore:
    """Outputs under `folder`, at most `most_bytes` of them; `weights` are the model's files.

    See TensorFiles for `background`.
    """

    def __init__(self, folder: Path, most_bytes: int, weights: list[Path], background: Executor | None = None) -> None:
        self._files = TensorFiles(folder, most_bytes, "the reference outputs", background)
        self._made_by = _made_by(weights)

    def get(self, text: bytes, layer: int) -> Outputs | None:
        """Module -> outputs by stream, or None. `text` is a digest of the weights' fingerprint and the token ids."""
        tensors = self._files.get(self._group(text), str(layer), then=[str(layer + 1)])
        if tensors is None:
            return None
        outputs: Outputs = {}
        for name in sorted(tensors, key=lambda name: int(name.partition(".")[2])):
            # Copied, because a product's last bits may depend on where in memory its operands begin.
            outputs.setdefault(name.partition(".")[0], []).append(tensors[name].clone())
        return outputs

    def add(self, text: bytes, layer: int, outputs: Outputs) -> None:
        """Keeps the outputs, if they fit."""
        tensors = {f"{name}.{i}": tensor for name, own in outputs.items() for i, tensor in enumerate(own)}
        self._files.add(self._group(text), str(layer), tensors)

    def _group(self, text: bytes) -> str:
        return hashlib.sha256(self._made_by + text).hexdigest()[:32]


def _made_by(weights: list[Path]) -> bytes:
    """What outputs depend on besides the text: this package, torch, how it computes here, and the weights' files.

    The last bits of a matmul change with the processor's instructions and the number of threads.
    """
    parts: dict[str, Any] = {
        "code": code_version(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "weights": files_of(weights),
    }
    return json.dumps(parts, sort_keys=True).encode()
