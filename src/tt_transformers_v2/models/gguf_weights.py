# SPDX-License-Identifier: Apache-2.0
"""The weights of a GGUF file, dequantised as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gguf.constants import LlamaFileType

from ..common.errors import ConfigError
from .gguf_config import GgufConfig, gguf_spec
from .gguf_file import dequantisable, dequantised, model_name, packaged_gguf, read_gguf
from .gguf_rope import OF_METADATA
from .gguf_tensors import GgufPiece, GgufTensors
from .head_order import head_order, reordered
from .spec import ModelSpec
from .weights import ROWS_AT_A_TIME, every_tensor, sampled_fingerprint, tensor_shape

if TYPE_CHECKING:
    import torch

__all__ = ["GgufWeights", "gguf_spec", "packaged_gguf", "read_gguf"]


class GgufWeights:
    """WeightSource over a GGUF file; see weights.py for names and shapes.

    Blocks of any type that gguf dequantises arrive as float32. Fused projections and experts are split, rows of q and k
    are put in order, and multipliers are folded, so that the tensors are those of the model's Hugging Face folder.
    """

    synthetic = False

    def __init__(self, path: Path | str, spec: ModelSpec | None = None) -> None:
        """Checks every tensor's presence and shape against `spec` (the file's own when None).

        Raises ConfigError naming file and tensor, also for a tensor that the model would leave unread.
        """
        self._config = GgufConfig(path)
        self._file = self._config.file
        self.spec = self._config.spec if spec is None else spec
        self._tensors = GgufTensors(self._config, self.spec)
        self._check()
        self.fingerprint = sampled_fingerprint([(self._file.path, self._file.data_start)])
        self.basis = f"real weights: {model_name(self._file)}, GGUF {self._quantisation()} dequantised"

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        """As WeightSource.tensor; beside the result, a few thousand rows are in memory at a time."""
        import torch

        result = np.empty(tensor_shape(self.spec, name, layer), dtype=np.float32)
        at = 0
        try:
            for piece in self._tensors.pieces(name, layer):
                at += self._read(piece, result, at, name == "embedding")
        except (OSError, ValueError) as error:  # it has changed since it was checked
            raise ConfigError(f"cannot read {self._file.path}: {error}.") from error
        multiplier = self._config.multiplier(name)
        if multiplier != 1:
            result *= np.float32(multiplier)
        found = torch.from_numpy(result)
        if layer is None or name not in ("wqkv", "bqkv", "q_norm", "k_norm"):
            return found
        order = self._head_order(layer)
        return found if order is None else reordered(found, name, self.spec, order)

    def embedding_rows(self, ids: torch.Tensor) -> torch.Tensor:
        """As weights.embedding_rows."""
        import torch

        (piece,) = self._tensors.pieces("embedding", None)
        try:
            rows = torch.from_numpy(self._rows(piece, piece.start + ids.numpy()))
        except (OSError, ValueError) as error:  # it has changed since it was checked
            raise ConfigError(f"cannot read {self._file.path}: {error}.") from error
        return rows * self._config.multiplier("embedding")

    def _head_order(self, layer: int) -> list[int] | None:
        turned, rotary = self._config.architecture.turned, self.spec.layer(layer).attention.rotary
        if turned and rotary is None:  # rows are in that order whether or not a layer rotates
            rotary = self.spec.rotaries[0]
        return head_order(rotary, self.spec.head_dim, interleaved=turned)

    def _read(self, piece: GgufPiece, result: np.ndarray, at: int, as_stored: bool) -> int:
        """Puts a piece's rows into `result` [in, out] from output `at` on, or as they are; returns how many."""
        import torch

        count = piece.stop - piece.start
        if result.ndim == 1:
            row = piece.expert or 0
            result[at : at + count] = self._rows(piece, slice(row, row + 1))[0][piece.start : piece.stop]
            return count
        into = torch.from_numpy(result)
        first = piece.start + (0 if piece.expert is None else piece.expert * piece.shape[1])
        for start in range(0, count, ROWS_AT_A_TIME):
            stop = min(start + ROWS_AT_A_TIME, count)
            rows = self._rows(piece, slice(first + start, first + stop))
            if as_stored:
                result[start:stop] = rows
            else:
                into[:, at + start : at + stop] = torch.from_numpy(rows).T  # tile by tile, as numpy would not
        return count

    def _rows(self, piece: GgufPiece, chosen: slice | np.ndarray) -> np.ndarray:
        """Rows of a stored tensor, multiplied by its scale."""
        rows = dequantised(self._file, self._file.tensors[piece.name], chosen)
        if not piece.scale:
            return rows
        scales = dequantised(self._file, self._file.tensors[piece.scale], slice(0, 1))[0]
        scaled: np.ndarray = rows * scales[piece.expert or 0]
        return scaled

    def _quantisation(self) -> str:
        try:
            kind = LlamaFileType(self._file.metadata.get("general.file_type", -1))
            return kind.name.removeprefix("MOSTLY_")
        except ValueError:
            return "of unknown quantisation"

    def _check(self) -> None:
        path, read = self._file.path, set(OF_METADATA)
        for name, layer in every_tensor(self.spec):
            for piece in self._tensors.pieces(name, layer):
                self._check_tensor(piece.name, piece.shape)
                read.add(piece.name)
                if piece.scale:
                    self._check_tensor(piece.scale, piece.scale_shape)
                    read.add(piece.scale)
        if left := sorted(set(self._file.tensors) - read):
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise ConfigError(
                f"{path}: tensor {left[0]!r}{more} would be left unread.",
                f"A {self._config.metadata.architecture} of this metadata does not have it.",
            )

    def _check_tensor(self, stored: str, shape: tuple[int, ...]) -> None:
        path, found = self._file.path, self._file.tensors.get(stored)
        if found is None:
            raise ConfigError(f"{path}: tensor {stored!r} is missing.")
        if found.shape != shape:
            raise ConfigError(f"{path}: tensor {stored!r} is {list(found.shape)}, but the model needs {list(shape)}.")
        if not dequantisable(found.kind):
            raise ConfigError(
                f"{path}: tensor {stored!r} is {found.kind.name}, which gguf cannot dequantise.",
                "Use a file in Q4_0, Q4_1, Q8_0, a K-quant, F16, BF16 or F32.",
            )
