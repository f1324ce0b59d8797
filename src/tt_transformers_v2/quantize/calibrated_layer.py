# SPDX-License-Identifier: Apache-2.0
"""One layer rounded while the calibration text flows through it: each matrix when its inputs are all there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..backends.reference import ReferenceOps
from ..common.errors import ConfigError
from ..hardware.op_table import ModelOp
from ..models.decoder import decoder_layer, matrix_op
from ..models.named_weights import NamedWeights
from ..models.rope import RotaryTables
from ..models.spec import ModelSpec
from ..models.weights import WeightSource, layer_tensors
from ..numerics import quantize
from .grid import Grid, column_groups, packed_nearest
from .second_order import Factor, SingularHessian, calibrated, damping_for, factorised, hessian

# Rows of inputs that a matrix's error is measured on.
_MEASURED_ROWS = 1024
# An expert that sees fewer tokens than this share of its inputs is rounded to nearest.
LEAST_TOKENS = 0.1


@dataclass(frozen=True)
class Settings:
    """How matrices are rounded: `damping` is a share of the mean diagonal of a Hessian. With `original_inputs` each
    matrix sees what comes through the model's own weights, not what they were rounded to before it."""

    damping: float = 0.01
    act_order: bool = False
    original_inputs: bool = False


@dataclass(frozen=True)
class RoundedMatrix:
    """What became of a matrix.

    nearest, calibrated: the error of its outputs on the calibration text, relative to the outputs (norms), rounded to
    nearest and by second order; None for a matrix that saw no token. tokens: how many it saw. damping: what was
    added to the Hessian, a share of its mean diagonal; None where it stayed at nearest. asked: whether it was to be
    calibrated.
    """

    layer: int
    matrix: str
    grid: str
    tokens: int
    damping: float | None
    nearest: float | None
    calibrated: float | None
    asked: bool = True


@dataclass
class RoundedLayer:
    """A layer's rounded matrices by canonical name, float32 [in, out], what became of each, and the layer's output."""

    output: Tensor
    matrices: dict[str, Tensor] = field(default_factory=dict)
    rows: list[RoundedMatrix] = field(default_factory=list)


def round_layer(
    source: WeightSource,
    layer: int,
    grids: Mapping[str, Grid],
    x: Tensor,
    tables: RotaryTables,
    settings: Settings,
    progress: Callable[[str], None] = lambda name: None,
    left: Mapping[str, Grid] | None = None,
) -> RoundedLayer:
    """Rounds the matrices of a layer that `grids` names, in float32, on inputs x [windows, tokens, hidden].

    `x` has gone through the layers before as they were rounded, and so has each matrix's input through the matrices
    before it, but with `settings.original_inputs`. Matrices of `left` are rounded to nearest. `progress` gets a
    matrix's name when it is done. Raises ConfigError for weights that are not finite, and for inputs whose Hessian
    stays singular.
    """
    ops = _RoundingOps(source, layer, grids, settings, progress, left or {})
    weights = FiniteWeights(source, layer, ops.names)
    output = decoder_layer(ops, source.spec, weights, x, tables)
    done = RoundedLayer(output, ops.matrices, ops.rows)
    for name, grid in {**grids, **(left or {})}.items():  # experts that no token was sent to
        if name not in done.matrices:
            done.matrices[name] = packed_nearest(source.spec, name, weights[name], grid)
            done.rows.append(RoundedMatrix(layer, name, str(grid), 0, None, None, None, name in grids))
    return done


class FiniteWeights(NamedWeights):
    """NamedWeights that are checked as they are read."""

    def __getitem__(self, name: str) -> Tensor:
        tensor = super().__getitem__(name)
        if not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise ConfigError(
                f"{name} of layer {self.layer} has {bad} weights that are not finite.",
                "The model's files are damaged: get them again.",
            )
        return tensor


class Factors:
    """The factors of Hessians of what matrices of a layer see; those that see one tensor share its."""

    def __init__(self, layer: int, settings: Settings) -> None:
        self._layer, self._settings = layer, settings
        self._seen: Tensor | None = None
        self._factor: Factor | None = None

    def of(self, name: str, x: Tensor) -> Factor | None:
        """The factor for inputs x [..., in] of the matrix `name`; None where they are too few tokens.

        Raises ConfigError for inputs whose Hessian stays singular.
        """
        if x is self._seen:
            return self._factor
        inputs = x.shape[-1]
        tokens = x.numel() // inputs
        self._seen = self._factor = None  # before another one is made
        if tokens >= LEAST_TOKENS * inputs:
            try:
                damping = damping_for(self._settings.damping, tokens, inputs)
                self._factor = factorised(hessian(x), damping, act_order=self._settings.act_order)
            except SingularHessian as why:
                raise ConfigError(
                    f"the inputs of {name} in layer {self._layer} have a singular Hessian: {why}.",
                    "Use more of the calibration text (quantize.tokens) or a larger quantize.damping.",
                ) from None
        self._seen = x
        return self._factor


class _RoundingOps(ReferenceOps):
    """The reference, but that a matrix of `grids` or `left` is rounded when it meets its inputs."""

    name = "rounding"

    def __init__(
        self,
        source: WeightSource,
        layer: int,
        grids: Mapping[str, Grid],
        settings: Settings,
        progress: Callable[[str], None],
        left: Mapping[str, Grid],
    ) -> None:
        self._spec, self._layer, self._grids, self._left = source.spec, layer, grids, left
        self._factors, self._original, self._progress = Factors(layer, settings), settings.original_inputs, progress
        self.names: dict[int, str] = {}
        self.matrices: dict[str, Tensor] = {}
        self.rows: list[RoundedMatrix] = []

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: ModelOp) -> Tensor:
        name = self.names.pop(id(weight))
        if name in self._grids or name in self._left:
            self._round(name, x, weight)
            self._progress(name)
        if self._original:
            return super().linear(x, weight, bias, op)
        # What packing makes of a bf16 matrix is what a card has, too.
        rounded = self.matrices[name] if name in self.matrices else quantize(weight, "bf16")
        return super().linear(x, rounded, bias, op)

    def _round(self, name: str, x: Tensor, weight: Tensor) -> None:
        asked = name in self._grids
        grid = self._grids[name] if asked else self._left[name]
        factor = self._factors.of(name, x) if asked else None
        nearest = packed_nearest(self._spec, name, weight, grid)
        rounded = nearest if factor is None else rounded_matrix(self._spec, name, weight, factor, grid)
        seen = _some_of(x)
        scale = torch.linalg.norm(seen @ weight).clamp_min(1e-30)
        own, plain = (float(torch.linalg.norm(seen @ (weight - each)) / scale) for each in (rounded, nearest))
        damping = None if factor is None else factor.damping
        tokens = x.numel() // x.shape[-1]
        self.matrices[name] = rounded
        self.rows.append(RoundedMatrix(self._layer, name, str(grid), tokens, damping, plain, own, asked))


def rounded_matrix(spec: ModelSpec, name: str, weight: Tensor, factor: Factor | None, grid: Grid) -> Tensor:
    """A matrix [in, out] rounded for inputs of which `factor` is; to nearest without."""
    if factor is None:
        return packed_nearest(spec, name, weight, grid)
    return calibrated(weight, factor, grid, column_groups(spec, name, weight.shape[1]))


def _some_of(x: Tensor) -> Tensor:
    """Rows of inputs x [..., in] to measure on, evenly spread."""
    rows = x.reshape(-1, x.shape[-1])
    return rows[:: max(1, len(rows) // _MEASURED_ROWS)]


def matrices_of(source: WeightSource, layer: int) -> list[str]:
    """Canonical names of a layer's matrices that matmuls of their own multiply by."""
    return [name for name, shape in layer_tensors(source.spec, layer).items() if len(shape) == 2 and matrix_op(name)]
