# SPDX-License-Identifier: Apache-2.0
"""Calibrated weights of single matrices, each independent of what becomes of the others: for whoever chooses formats
layer by layer. All is kept on disk, so that asking again costs a read, and an interrupted walk goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
from .calibrated_layer import Factors, FiniteWeights, Settings, rounded_matrix
from .grid import Grid
from .quantized_folder import save_tensors

Wanted = Mapping[str, Sequence[Grid]]
# Modules of this room that the kept values depend on.
_CODE = ("calibrated_layer", "grid", "grid_rounding", "rounding_choices", "second_order")
_HINT = "Free some space, then run the same command again."


class RoundingChoices:
    """The calibrated forms of a model's matrices, on inputs that come through the model's own weights in float32: those
    that task=quantize writes with quantize.inputs=original, to the last bit.

    Where a whole configuration is chosen, `round_layer` gives somewhat better weights: there a layer sees what the
    layers before it became.
    """

    def __init__(self, source: WeightSource, windows: Tensor, folder: Path, settings: Settings | None = None) -> None:
        """`windows` are token ids int64 [windows, tokens] to calibrate on. Results are kept in a folder below `folder`
        that is named `key`, after all they depend on."""
        self.source, self._windows = source, windows
        self.settings = settings or Settings(original_inputs=True)
        code = code_version(*(f"quantize/{name}.py" for name in _CODE))
        named = repr((code, source.fingerprint, source.spec.identity, tuple(windows.shape), self.settings)).encode()
        self.key = hashlib.sha256(named + windows.numpy().tobytes()).hexdigest()[:16]
        self._folder = folder / self.key
        self._tables = rope_tables(source.spec, torch.arange(windows.shape[1]))

    def weight(self, name: str, layer: int, grid: Grid) -> Tensor:
        """The matrix `name` of a layer rounded to `grid`, float32 [in, out]. Raises ConfigError as `round_layer` does,
        and where the disk is full."""
        kept = _read(self._file(name, layer, grid))
        if kept is None:
            self._make(layer, {name: [grid]})
            kept = _read(self._file(name, layer, grid))
            assert kept is not None
        return kept.float()

    def missing(self, layer: int, wanted: Wanted) -> dict[str, list[Grid]]:
        """What of `wanted` is not kept yet."""
        found = {
            name: [grid for grid in grids if not self._file(name, layer, grid).exists()]
            for name, grids in wanted.items()
        }
        return {name: grids for name, grids in found.items() if grids}

    def make(self, layer: int, wanted: Wanted) -> bool:
        """Makes what of `wanted`, matrices of a layer in several grids, is not kept yet, in one pass through the layer;
        whether there was anything. Layers one after the other take one walk through the model."""
        missing = self.missing(layer, wanted)
        if missing:
            self._make(layer, missing)
        return bool(missing)

    def _make(self, layer: int, missing: Wanted) -> None:
        ops = _ChoosingOps(self, layer, missing)
        self._through(layer, ops)
        for name, grids in missing.items():
            for grid in grids:
                if not self._file(name, layer, grid).exists():  # an expert that no token reached
                    weight = self.source.tensor(name, layer)
                    self.keep(name, layer, grid, rounded_matrix(self.source.spec, name, weight, None, grid))

    def keep(self, name: str, layer: int, grid: Grid, weight: Tensor) -> None:
        """Writes a matrix in bfloat16, which holds all values of a grid."""
        save_tensors({"weight": weight.bfloat16().contiguous()}, self._file(name, layer, grid), _HINT)

    def _hidden(self, layer: int) -> Tensor:
        """The hidden states before a layer, from those of the layer that is kept last before it."""
        states, first = None, layer
        while first > 0 and (states := _read(self._states(first))) is None:
            first -= 1
        if states is None:
            states = functional.embedding(self._windows, self.source.tensor("embedding"))
        for own in range(first, layer):
            states = self._run(own, _PlainOps(), states)
        return states

    def _through(self, layer: int, ops: _PlainOps) -> None:
        """Runs a layer, and leaves what the next one begins with in place of what this one did."""
        states = self._run(layer, ops, self._hidden(layer))
        if layer + 1 < self.source.spec.num_layers:
            save_tensors({"weight": states.contiguous()}, self._states(layer + 1), _HINT)
        for path in self._folder.glob("hidden-*"):
            if path != self._states(layer + 1):
                path.unlink(missing_ok=True)

    def _run(self, layer: int, ops: _PlainOps, states: Tensor) -> Tensor:
        weights = FiniteWeights(self.source, layer, ops.names)
        return decoder_layer(ops, self.source.spec, weights, states, self._tables)

    def _states(self, layer: int) -> Path:
        return self._folder / f"hidden-{layer}.safetensors"

    def _file(self, name: str, layer: int, grid: Grid) -> Path:
        return self._folder / f"{layer}-{name}-{grid.fmt}{'-high' if grid.high_only else ''}.safetensors"


class _PlainOps(ReferenceOps):
    """The reference, which knows the names of the matrices it is given."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}


class _ChoosingOps(_PlainOps):
    """The same, which rounds what is wanted and goes on with the model's own weights."""

    def __init__(self, choices: RoundingChoices, layer: int, wanted: Wanted) -> None:
        super().__init__()
        self._choices, self._layer, self._wanted = choices, layer, wanted
        self._factors = Factors(layer, choices.settings)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: ModelOp) -> Tensor:
        name = self.names.pop(id(weight))
        grids = self._wanted.get(name, ())
        factor = self._factors.of(name, x) if grids else None
        for grid in grids:
            rounded = rounded_matrix(self._choices.source.spec, name, weight, factor, grid)
            self._choices.keep(name, self._layer, grid, rounded)
        return super().linear(x, weight, bias, op)


def _read(path: Path) -> Tensor | None:
    """The tensor that was kept, or None where none is or it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            kept: Tensor = file.get_tensor("weight")
    except (SafetensorError, OSError):
        return None
    return kept
