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
from ..models.decoder import LayerWeights, decoder_layer, matrix_op
from ..models.rope import RotaryTables
from ..models.spec import ModelSpec
from ..models.weights import WeightSource, layer_tensors
from ..numerics import quantize
from .grid import Grid, column_groups
from .second_order import SingularHessian, calibrated, damping_for, factorised, hessian

# Rows of inputs that a matrix's error is measured on.
_MEASURED_ROWS = 1024
# An expert that sees fewer tokens than this share of its inputs is rounded to nearest.
LEAST_TOKENS = 0.1


@dataclass(frozen=True)
class Settings:
    """How matrices are rounded: `damping` is a share of the mean diagonal of a Hessian."""

    damping: float = 0.01
    act_order: bool = False


@dataclass(frozen=True)
class RoundedMatrix:
    """What became of a matrix.

    nearest, calibrated: the error of its outputs on the calibration text, relative to the outputs (norms), rounded to
    nearest and by second order; None for a matrix that saw no token. tokens: how many it saw. damping: what was
    added to the Hessian, a share of its mean diagonal; None where it stayed at nearest.
    """

    layer: int
    matrix: str
    grid: str
    tokens: int
    damping: float | None
    nearest: float | None
    calibrated: float | None


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
) -> RoundedLayer:
    """Rounds the matrices of a layer that `grids` names, in float32, on inputs x [windows, tokens, hidden].

    `x` has gone through the layers before as they were rounded, and so has each matrix's input through the matrices
    before it. `progress` gets a matrix's name when it is done. Raises ConfigError for weights that are not finite, and
    for inputs whose Hessian stays singular.
    """
    ops = _RoundingOps(source, layer, grids, settings, progress)
    weights = NamedWeights(source, layer, ops.names)
    output = decoder_layer(ops, source.spec, weights, x, tables)
    done = RoundedLayer(output, ops.matrices, ops.rows)
    for name in grids:  # experts that no token was sent to
        if name not in done.matrices:
            weight = weights[name]
            done.matrices[name] = grids[name].nearest(weight)
            done.rows.append(RoundedMatrix(layer, name, str(grids[name]), 0, None, None, None))
    return done


class NamedWeights(LayerWeights):
    """A layer's tensors, checked as they are read; `names` says whose a tensor is."""

    def __init__(self, source: WeightSource, layer: int, names: dict[int, str]) -> None:
        super().__init__(source, layer)
        self._names = names

    def __getitem__(self, name: str) -> Tensor:
        tensor = super().__getitem__(name)
        if not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise ConfigError(
                f"{name} of layer {self.layer} has {bad} weights that are not finite.",
                "The model's files are damaged: get them again.",
            )
        self._names[id(tensor)] = name
        return tensor


class _RoundingOps(ReferenceOps):
    """The reference, but that a matrix of `grids` is rounded when it meets its inputs."""

    name = "rounding"

    def __init__(
        self,
        source: WeightSource,
        layer: int,
        grids: Mapping[str, Grid],
        settings: Settings,
        progress: Callable[[str], None],
    ) -> None:
        self._spec, self._layer, self._grids = source.spec, layer, grids
        self._settings, self._progress = settings, progress
        self.names: dict[int, str] = {}
        self.matrices: dict[str, Tensor] = {}
        self.rows: list[RoundedMatrix] = []

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, op: ModelOp) -> Tensor:
        name = self.names.pop(id(weight))
        grid = self._grids.get(name)
        if grid is None:  # what packing makes of a bf16 matrix
            return super().linear(x, quantize(weight, "bf16"), bias, op)
        rounded, damping = rounded_matrix(self._spec, name, self._layer, weight, x, grid, self._settings)
        self.matrices[name] = rounded
        self.rows.append(_errors(self._layer, name, weight, rounded, x, grid, damping))
        self._progress(name)
        return super().linear(x, rounded, bias, op)


def rounded_matrix(
    spec: ModelSpec, name: str, layer: int, weight: Tensor, x: Tensor, grid: Grid, settings: Settings
) -> tuple[Tensor, float | None]:
    """A matrix [in, out] rounded on its inputs x [..., in], and its damping (RoundedMatrix).

    Raises ConfigError for inputs whose Hessian stays singular.
    """
    inputs = x.shape[-1]
    tokens = x.numel() // inputs
    if tokens < LEAST_TOKENS * inputs:
        return grid.nearest(weight), None
    try:
        damping = damping_for(settings.damping, tokens, inputs)
        factor = factorised(hessian(x), damping, act_order=settings.act_order)
    except SingularHessian as why:
        raise ConfigError(
            f"the inputs of {name} in layer {layer} have a singular Hessian: {why}.",
            "Use more of the calibration text (quantize.tokens) or a larger quantize.damping.",
        ) from None
    return calibrated(weight, factor, grid, column_groups(spec, name, weight.shape[1])), factor.damping


def _errors(
    layer: int, name: str, weight: Tensor, rounded: Tensor, x: Tensor, grid: Grid, damping: float | None
) -> RoundedMatrix:
    """What became of a matrix, measured on some of its inputs."""
    tokens = x.numel() // x.shape[-1]
    seen = x.reshape(tokens, -1)[:: max(1, tokens // _MEASURED_ROWS)]
    scale = torch.linalg.norm(seen @ weight).clamp_min(1e-30)
    nearest, own = (float(torch.linalg.norm(seen @ (weight - q)) / scale) for q in (grid.nearest(weight), rounded))
    return RoundedMatrix(layer, name, str(grid), tokens, damping, nearest, own)


def matrices_of(source: WeightSource, layer: int) -> list[str]:
    """Canonical names of a layer's matrices that matmuls of their own multiply by."""
    return [name for name, shape in layer_tensors(source.spec, layer).items() if len(shape) == 2 and matrix_op(name)]
