# SPDX-License-Identifier: Apache-2.0
"""Calibrated weights of single matrices, each independent of what becomes of the others: for whoever chooses formats
layer by layer. All is kept on disk, so that asking again costs a read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as functional
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..accuracy.code_version import code_version
from ..backends.reference import ReferenceOps
from ..hardware.op_table import ModelOp
from ..models.decoder import decoder_layer
from ..models.rope import rope_tables
from ..models.weights import WeightSource
from .calibrated_layer import NamedWeights, Settings, rounded_matrix
from .grid import Grid
from .quantized_folder import save_tensors

Choices = dict[tuple[str, Grid], Tensor]


class RoundingChoices:
    """The calibrated forms of a model's matrices, on inputs that come through the model's own weights in float32.

    Where a whole configuration is chosen, `round_layer` gives somewhat better weights: there a layer sees what the
    layers before it became.
    """

    def __init__(self, source: WeightSource, windows: Tensor, folder: Path, settings: Settings | None = None) -> None:
        """`windows` are token ids int64 [windows, tokens] to calibrate on. Results are kept in a folder below `folder`
        that is named after all they depend on."""
        self.source, self._windows, self._settings = source, windows, settings or Settings()
        named = repr((code_version(), source.fingerprint, tuple(windows.shape), self._settings)).encode()
        digest = hashlib.sha256(named + windows.numpy().tobytes()).hexdigest()[:16]
        self._folder = folder / digest
        self._tables = rope_tables(source.spec, torch.arange(windows.shape[1]))

    def weight(self, name: str, layer: int, grid: Grid) -> Tensor:
        """The matrix `name` of a layer rounded to `grid`, float32 [in, out]. Raises ConfigError as `round_layer` does,
        and where the disk is full."""
        return self.weights(layer, {name: [grid]})[name, grid]

    def weights(self, layer: int, wanted: dict[str, Sequence[Grid]]) -> Choices:
        """Several matrices of a layer in several grids, of which those that are not kept take one pass of the layer."""
        found: Choices = {}
        missing: dict[str, list[Grid]] = {}
        for name, grids in wanted.items():
            for grid in grids:
                kept = _read(self._file(name, layer, grid))
                if kept is None:
                    missing.setdefault(name, []).append(grid)
                else:
                    found[name, grid] = kept.float()
        if missing:
            ops = _ChoosingOps(self.source, layer, missing, self._settings)
            self._through(layer, ops)
            for (name, grid), weight in ops.found.items():
                save_tensors({"weight": weight.bfloat16().contiguous()}, self._file(name, layer, grid))
            for name, grids in missing.items():
                for grid in grids:
                    if (name, grid) not in ops.found:  # an expert that no token reached
                        ops.found[name, grid] = grid.nearest(self.source.tensor(name, layer))
            found |= ops.found
        return found

    def _hidden(self, layer: int) -> Tensor:
        """The hidden states before a layer."""
        if layer == 0:
            return functional.embedding(self._windows, self.source.tensor("embedding"))
        path = self._folder / f"hidden-{layer}.safetensors"
        states = _read(path)
        if states is None:
            states = self._through(layer - 1, _PlainOps())
            save_tensors({"weight": states.contiguous()}, path)
        return states

    def _through(self, layer: int, ops: _PlainOps) -> Tensor:
        weights = NamedWeights(self.source, layer, ops.names)
        return decoder_layer(ops, self.source.spec, weights, self._hidden(layer), self._tables)

    def _file(self, name: str, layer: int, grid: Grid) -> Path:
        return self._folder / f"{layer}-{name}-{grid.fmt}{'-high' if grid.high_only else ''}.safetensors"


class _PlainOps(ReferenceOps):
    """The reference, which knows the names of the matrices it is given."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}


class _ChoosingOps(_PlainOps):
    """The same, which rounds what is wanted and goes on with the model's own weights."""

    def __init__(self, source: WeightSource, layer: int, wanted: dict[str, list[Grid]], settings: Settings) -> None:
        super().__init__()
        self._spec, self._layer, self._wanted, self._settings = source.spec, layer, wanted, settings
        self.found: Choices = {}

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: ModelOp) -> Tensor:
        name = self.names.pop(id(weight))
        for grid in self._wanted.get(name, ()):
            self.found[name, grid], _ = rounded_matrix(self._spec, name, self._layer, weight, x, grid, self._settings)
        return super().linear(x, weight, bias, op)


def _read(path: Path) -> Tensor | None:
    """The tensor that was kept, or None where none is or it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            kept: Tensor = file.get_tensor("weight")
    except (SafetensorError, OSError):
        return None
    return kept
