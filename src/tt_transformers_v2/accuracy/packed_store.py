# SPDX-License-Identifier: Apache-2.0
"""A model's matrices on disk in the formats that a device stores, so that only the first run reads and rounds them."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Executor
from pathlib import Path

from torch import Tensor

from ..models.weights import WeightSource
from .code_version import code_version
from .tensor_files import TensorFiles, files_of


class PackedStore:
    """Matrices of `source` under `folder`, at most `most_bytes` of them; `weights` are its files.

    See backends.emulated.prepared_weights.PackedMatrices, and TensorFiles for `background`.
    """

    def __init__(
        self,
        folder: Path,
        most_bytes: int,
        source: WeightSource,
        weights: list[Path],
        background: Executor | None = None,
    ) -> None:
        self.fingerprint = source.fingerprint
        self._files = TensorFiles(folder, most_bytes, "packed weights", background)
        of = {
            "code": code_version(),
            "of": source.fingerprint,
            "weights": files_of(weights),
            "model": source.spec.identity,
        }
        self._group = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:32]

    def get(self, name: str) -> Tensor | None:
        """The bfloat16 matrix that was added as `name`, not to be changed; None where there is none."""
        layer, _, rest = name.partition(".")
        found = self._files.get(self._group, name, then=[f"{int(layer) + 1}.{rest}"])  # layers are walked in order
        return None if found is None else found["matrix"]

    def add(self, name: str, matrix: Tensor) -> None:
        """Keeps a matrix whose values are bf16 numbers, if it fits."""
        self._files.add(self._group, name, {"matrix": matrix.bfloat16()})
