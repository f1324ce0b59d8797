# SPDX-License-Identifier: Apache-2.0
"""A model's tensors as a Hugging Face folder stores them, in bfloat16: some new ones among those of its files."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.errors import ConfigError
from ..common.files import write_atomically
from .config_values import read_json
from .gguf_config import GgufConfig
from .gguf_tokenizer import gguf_tokenizer
from .gguf_weights import GgufWeights
from .head_order import reordered
from .huggingface import SafetensorsWeights
from .huggingface_config import FolderConfig
from .huggingface_values import config_of_gguf, tokenizer_settings_of_gguf
from .spec import ModelSpec
from .stored_tensors import Piece, StoredTensors
from .weights import GLOBAL_TENSORS, layer_tensors

if TYPE_CHECKING:
    import torch

Matrices = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True)
class Stored:
    """A tensor of the folder to be: its shape, and the canonical tensors that it is made of with their pieces."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, Piece], ...]


class StoredModel:
    """What a folder with a model's tensors holds: config.json, the tokenizer's files, and tensors in bfloat16.

    A model from a Hugging Face folder keeps its names and files, one from a GGUF file gets those of its family.
    """

    def __init__(self, source: SafetensorsWeights | GgufWeights, place: Path, scratch: Path) -> None:
        """`place` is where `source` was read from; config.json of a GGUF's model is tried in `scratch`, which exists.

        Raises ConfigError for a model that a folder cannot hold in bfloat16.
        """
        self._source, self._place = source, place
        self.spec: ModelSpec = source.spec
        if isinstance(source, SafetensorsWeights):
            self._config = FolderConfig(place)
            if self._config.quantised:
                raise ConfigError(f"{place} has experts in MXFP4, which cannot be written.", "Use another model.")
            self._names: Mapping[str, tuple[int, ...]] | None = source.stored_shapes()
            self.config_json = read_json(place / "config.json")
            # transformers 5 calls it dtype, and reads either.
            self.config_json["dtype" if "dtype" in self.config_json else "torch_dtype"] = "bfloat16"
        else:
            self.config_json = config_of_gguf(GgufConfig(place))
            write_atomically(scratch / "config.json", json.dumps(self.config_json, indent=2))
            self._config, self._names = FolderConfig(scratch), None
            _check_same(self._config.spec, self.spec, place)
        self._tensors = StoredTensors(self._config, () if self._names is None else self._names)

    def of_layer(self, layer: int) -> list[Stored]:
        """The stored tensors of a layer, by name."""
        prefix = f"{self._tensors.prefix}layers.{layer}."
        return self._made_of(layer_tensors(self.spec, layer), layer, prefix)

    def of_model(self) -> list[Stored]:
        """The stored tensors that belong to no layer: embedding, norm, a head of its own, what else the folder has."""
        names = [name for name in GLOBAL_TENSORS if name != "lm_head" or self._has_head()]
        found = self._made_of(dict.fromkeys(names), None, None)
        if self._names is not None:
            layers = tuple(f"{self._tensors.prefix}layers.{i}." for i in range(self.spec.num_layers))
            known = {each.name for each in found}
            found += [
                Stored(name, shape, ())
                for name, shape in sorted(self._names.items())
                if name not in known and not name.startswith(layers)
            ]
        return found

    def tensors(self, stored: list[Stored], layer: int | None, matrices: Matrices) -> dict[str, torch.Tensor]:
        """The tensors `stored` of a layer, bfloat16 as they are written, with `matrices` by canonical name, float32
        [in, out], in place of the source's."""
        return {each.name: self._tensor(each, layer, matrices) for each in stored}

    def check_exact(self, name: str) -> None:
        """Raises ConfigError for a canonical matrix whose values would change on their way through the folder."""
        multiplier = self._config.multiplier(name)
        if math.frexp(multiplier)[0] != 0.5:
            raise ConfigError(
                f"{self._config.kind} multiplies {name} by {multiplier:g} at each use, which a folder cannot hold "
                "without rounding its values again.",
                "Keep its format BF16, or use another model.",
            )

    def write_settings(self, folder: Path) -> None:
        """config.json and the tokenizer's files. Raises ConfigError."""
        if self._place.is_dir():
            for path in sorted(self._place.iterdir()):
                wanted = path.suffix in (".json", ".model", ".txt", ".jinja") and ".safetensors" not in path.name
                if path.is_file() and wanted and path.name != "config.json":
                    write_atomically(folder / path.name, path.read_bytes())
        else:
            text = gguf_tokenizer(self._place).to_json()
            write_atomically(folder / "tokenizer.json", text)
            settings = tokenizer_settings_of_gguf(GgufConfig(self._place))
            write_atomically(folder / "tokenizer_config.json", json.dumps(settings, indent=2, ensure_ascii=False))
        write_atomically(folder / "config.json", json.dumps(self.config_json, indent=2, ensure_ascii=False))

    def _has_head(self) -> bool:
        return self._tensors.head is not None if self._names is not None else not self.spec.tie_embeddings

    def _made_of(self, names: Mapping[str, Any], layer: int | None, prefix: str | None) -> list[Stored]:
        parts: dict[str, list[tuple[str, Piece]]] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for name in names:
            for piece in self._tensors.pieces(name, layer):
                parts.setdefault(piece.name, []).append((name, piece))
                shapes[piece.name] = piece.shape
        if self._names is not None and prefix is not None:
            shapes |= {name: shape for name, shape in self._names.items() if name.startswith(prefix)}
        return [Stored(name, shapes[name], tuple(parts.get(name, ()))) for name in sorted(shapes)]

    def _tensor(self, stored: Stored, layer: int | None, matrices: Matrices) -> torch.Tensor:
        import torch

        new = [name for name, _ in stored.parts if name in matrices]
        if isinstance(self._source, SafetensorsWeights):
            whole = self._source.stored_tensor(stored.name)
            if whole.is_floating_point():  # a tower may hold whole numbers
                whole = whole.to(torch.bfloat16)
            if not new:
                return whole.contiguous()
        else:
            whole = torch.empty(stored.shape, dtype=torch.bfloat16)
        offsets = self._offsets(stored, layer)
        for name, piece in stored.parts:
            if self._names is not None and name not in matrices:
                continue
            x = matrices[name] if name in matrices else self._source.tensor(name, layer)
            self._put(whole, self._unfolded(x, name, layer), name, piece, offsets[name, piece.name])
        return whole.contiguous()

    def _offsets(self, stored: Stored, layer: int | None) -> dict[tuple[str, str], int]:
        """Where in a canonical tensor's outputs each of its pieces begins."""
        found = {}
        for name, _ in stored.parts:
            at = 0
            for piece in self._tensors.pieces(name, layer):
                found[name, piece.name] = at
                at += piece.rows
        return found

    @staticmethod
    def _put(whole: torch.Tensor, x: torch.Tensor, name: str, piece: Piece, at: int) -> None:
        own = x[at : at + piece.rows] if x.ndim == 1 or name == "embedding" else x[:, at : at + piece.rows].T
        target = whole if piece.expert is None else whole[piece.expert]
        (target.T if piece.turned else target)[piece.start : piece.stop : piece.step] = own

    def _unfolded(self, x: torch.Tensor, name: str, layer: int | None) -> torch.Tensor:
        """A canonical tensor as it is stored: the opposite of what loading a folder does."""
        if layer is not None and name in ("wqkv", "bqkv", "q_norm", "k_norm"):
            order = self._tensors.head_order(self.spec.layer(layer).attention)
            if order is not None:
                x = reordered(x, name, self.spec, np.argsort(order).tolist())
        multiplier = self._config.multiplier(name)
        if multiplier != 1:
            x = x / multiplier
        return x - 1 if self._config.family.norm_plus_one and name.endswith("norm") else x


def _check_same(stated: ModelSpec, spec: ModelSpec, place: Path) -> None:
    """Raises ConfigError where config.json does not say the model of a GGUF file."""
    import dataclasses

    for field in dataclasses.fields(ModelSpec):
        if field.name not in ("name", "family", "max_context", "_metadata"):
            own, theirs = getattr(spec, field.name), getattr(stated, field.name)
            if own != theirs and not (isinstance(own, float) and math.isclose(own, theirs, rel_tol=1e-6)):
                raise ConfigError(
                    f"{place}: no config.json can describe this model: {field.name} would be {str(theirs)[:60]}, "
                    f"but is {str(own)[:60]}.",
                    "Use the model's Hugging Face folder.",
                )


def each_size(model: StoredModel) -> Iterator[int]:
    """Bytes of every tensor to be written."""
    for layer in range(model.spec.num_layers):
        yield from (2 * math.prod(each.shape) for each in model.of_layer(layer))
    yield from (2 * math.prod(each.shape) for each in model.of_model())


def room_beside(folder: Path) -> int:
    """Bytes free on the disk that `folder` is or will be on."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free
