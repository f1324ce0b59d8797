# SPDX-License-Identifier: Apache-2.0
"""The weights of a local Hugging Face folder: safetensors, whole or in shards, never a pickle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ..common.errors import ConfigError
from .config_values import read_json
from .head_order import reordered
from .huggingface_config import FolderConfig, huggingface_spec
from .spec import ModelSpec
from .stored_tensors import Piece, StoredTensors
from .weights import every_tensor, sampled_fingerprint, tensor_shape

if TYPE_CHECKING:
    import torch

__all__ = ["SafetensorsWeights", "huggingface_spec"]

_FLOATS = ("BF16", "F16", "F32", "F64")


class SafetensorsWeights:
    """WeightSource over a folder's safetensors; see weights.py for names and shapes.

    Stored bfloat16, float16, float32 or float64 arrive as float32, MXFP4 as what it stands for. Fused projections are
    split, and what models.families folds is folded: multipliers, norms that add one, heads rotated in another order.
    """

    synthetic = False

    def __init__(self, folder: Path | str, spec: ModelSpec | None = None) -> None:
        """Checks every tensor's presence, shape and type against `spec` (config.json's when None).

        Raises ConfigError naming file and tensor, also for a tensor that the model would leave unread; the tensors'
        data is not read yet.
        """
        self._folder = Path(folder)
        self._config = FolderConfig(folder)
        self.spec = self._config.spec if spec is None else spec
        self._shards = _shards(self._folder)
        self._stored = StoredTensors(self._config, self._shards)
        self._check()
        left_out = ", without its tower" if self._config.tower else ""
        self.basis = f"real weights: {self._config.spec.name}, safetensors{left_out}"
        self.fingerprint = _fingerprint(sorted(set(self._shards.values())))

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        """As WeightSource.tensor; beside the result, one stored tensor is in memory at a time."""
        import torch

        result = torch.empty(tensor_shape(self.spec, name, layer), dtype=torch.float32)
        at = 0
        for piece in self._stored.pieces(name, layer):
            stored = self._read(piece)
            if result.ndim == 1 or name == "embedding":
                result[at : at + piece.rows] = stored
            else:
                result[:, at : at + piece.rows] = stored.T
            at += piece.rows
        return self._folded(result, name, layer)

    def embedding_rows(self, ids: torch.Tensor) -> torch.Tensor:
        """As weights.embedding_rows."""
        (piece,) = self._stored.pieces("embedding", None)
        rows = self.stored_tensor(piece.name)[ids + piece.start].float()
        return self._folded(rows, "embedding", None)

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor that the folder stores, whether or not the decoder reads it. Raises ConfigError."""
        found: dict[str, tuple[int, ...]] = {}
        for shard in sorted(set(self._shards.values())):
            with _opened(shard) as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    if self._shards.get(name) == shard:
                        found[name] = tuple(file.get_slice(name).get_shape())
        return found

    def stored_tensor(self, name: str) -> torch.Tensor:
        """A tensor as the folder stores it, [out, in]. Raises ConfigError."""
        with _opened(self._shards[name]) as file:
            whole: torch.Tensor = file.get_tensor(name)
        return whole

    def _read(self, piece: Piece) -> torch.Tensor:
        """The rows of a piece, [out, in] or [out], in the type they are stored in."""
        with _opened(self._shards[piece.name]) as file:
            stored = file.get_slice(piece.name)
            if piece.expert is None:
                whole: torch.Tensor = stored[piece.start : piece.stop]
                return whole
            own: torch.Tensor = stored[piece.expert]
        if piece.scales:
            from .mxfp4 import dequantised

            with _opened(self._shards[piece.scales]) as file:
                own = dequantised(own, file.get_slice(piece.scales)[piece.expert])
        return (own.T if piece.turned else own)[piece.start : piece.stop : piece.step]

    def _folded(self, x: torch.Tensor, name: str, layer: int | None) -> torch.Tensor:
        """A tensor with everything that its family does to it at each use."""
        if self._config.family.norm_plus_one and name.endswith("norm"):
            x += 1
        if (multiplier := self._config.multiplier(name)) != 1:
            x *= multiplier
        if layer is not None and name in ("wqkv", "bqkv", "q_norm", "k_norm"):
            order = self._stored.head_order(self.spec.layer(layer).attention)
            return x if order is None else reordered(x, name, self.spec, order)
        return x

    def _check(self) -> None:
        by_shard: dict[Path, list[Piece]] = {}
        read = set()
        for name, layer in every_tensor(self.spec):
            for piece in self._stored.pieces(name, layer):
                for stored in (piece.name, piece.scales):
                    if stored and stored not in self._shards:
                        raise ConfigError(f"{self._folder}: no safetensors file contains {stored!r}.")
                    read.add(stored)
                if piece.expert in (None, 0):  # one tensor holds all experts
                    by_shard.setdefault(self._shards[piece.name], []).append(piece)
                    if piece.scales:
                        scales = Piece(piece.scales, piece.shape[:-1], 0, 1, scales=piece.scales)
                        by_shard.setdefault(self._shards[piece.scales], []).append(scales)
        self._check_unread(read)
        for shard, pieces in by_shard.items():
            with _opened(shard) as file:
                held = set(file.keys())
                for piece in pieces:
                    if piece.name not in held:
                        raise ConfigError(f"{shard}: tensor {piece.name!r} is missing.")
                    stored = file.get_slice(piece.name)
                    has, kind = tuple(stored.get_shape()), stored.get_dtype()
                    kinds = ("U8",) if piece.scales else _FLOATS
                    if has != piece.shape or kind not in kinds:
                        wanted = "U8" if piece.scales else f"{', '.join(_FLOATS[:-1])} or {_FLOATS[-1]}"
                        raise ConfigError(
                            f"{shard}: tensor {piece.name!r} is {list(has)} in {kind}, but the model needs "
                            f"{list(piece.shape)} in {wanted}."
                        )

    def _check_unread(self, read: set[str]) -> None:
        if left := self._stored.unread(read):
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise ConfigError(
                f"{self._shards[left[0]]}: tensor {left[0]!r}{more} would be left unread.",
                f"A {self._config.kind} of this config.json does not have it.",
            )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file for reading; whatever goes wrong with it inside the block ends in a ConfigError."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except ConfigError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{path} is not a readable safetensors file: {str(error)[:120]}.") from error


def _shards(folder: Path) -> dict[str, Path]:
    """Each stored tensor's file, from the index or from the single file's own header."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict):
            raise ConfigError(f"{index} has no weight_map.")
        for shard in names.values():
            # A downloaded index must not make the program open files elsewhere.
            plain = isinstance(shard, str) and Path(shard).name == shard and len(shard) < 64
            if not plain or "\\" in shard or "\0" in shard:
                raise ConfigError(f"{index} names a shard outside its folder: {str(shard)[:60]!r}.")
        absent = sorted(shard for shard in set(names.values()) if not (folder / shard).is_file())
        if absent:
            raise ConfigError(f"{folder} is missing {len(absent)} of its weight files, including {absent[0]}.")
        return {name: folder / shard for name, shard in names.items()}
    if not single.is_file():
        pickles = [path.name for kind in ("*.bin", "*.pt", "*.pth") for path in sorted(folder.glob(kind))]
        if pickles:
            raise ConfigError(
                f"{folder} has its weights in {pickles[0]}, a pickle, which can run arbitrary code when loaded.",
                "Convert it: load it with transformers, then save_pretrained(folder) writes safetensors.",
            )
        raise ConfigError(f"{folder} has neither model.safetensors nor model.safetensors.index.json.")
    with _opened(single) as file:
        return dict.fromkeys(file.keys(), single)


def _fingerprint(shards: list[Path]) -> str:
    try:
        headers = []
        for shard in shards:
            with shard.open("rb") as file:
                headers.append((shard, 8 + int.from_bytes(file.read(8), "little")))
        return sampled_fingerprint(headers)
    except OSError as error:
        raise ConfigError(f"cannot read the weights: {error}.") from error
