# SPDX-License-Identifier: Apache-2.0
"""The weights that calibrated options of a search stand for: made in one walk through the model, and kept."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..accuracy.evaluation_text import EvaluationTokens
from ..config.quantize_schema import QuantizeConfig
from ..config.search_schema import Rounding
from ..hardware.op_table import LM_HEAD
from ..hardware.schema import DeviceConfig
from ..models.decoder import matrix_op
from ..models.weights import WeightSource
from ..numerics import quantize
from ..quantize.calibrated_layer import Settings, matrices_of
from ..quantize.chosen_matrices import check_tokens
from ..quantize.grid import Grid, grid_of
from ..quantize.rounding_choices import RoundingChoices
from .space import Assignment, Option, Place, configured

Progress = Callable[[str, int, int | None], None]
Matrices = Mapping[tuple[str, int], Grid]
# Bytes of float32 matrices kept in memory; what was not used for longest goes first.
MOST_BYTES = 4 << 30


@dataclass(frozen=True)
class CalibrationText:
    """The text, and how many tokens of each text in it were skipped, which the search itself uses."""

    tokens: EvaluationTokens
    skip: int


class CalibratedOptions:
    """Calibrated matrices of `source`, on inputs that come through its own weights, so that each is the same whatever
    becomes of the others."""

    def __init__(self, source: WeightSource, text: CalibrationText, settings: QuantizeConfig, folder: Path) -> None:
        self.source, self.text, self.settings = source, text, settings
        how = Settings(settings.damping, settings.act_order, original_inputs=True)
        self._choices = RoundingChoices(source, torch.stack(text.tokens.windows), folder, how)
        self._wanted: list[dict[str, list[Grid]]] = [{} for _ in range(source.spec.num_layers)]
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._bytes = 0
        self.warnings: list[str] = []

    @property
    def key(self) -> str:
        """Sixteen hex digits that are equal where the weights are."""
        return self._choices.key

    def want(self, changes: Iterable[tuple[Place, Option]], hardware: DeviceConfig) -> None:
        """Says which options `make` is for, made on top of `hardware`.

        Raises ConfigError where the text is too short.
        """
        for place, option in changes:
            if option.rounding is Rounding.nearest:
                continue
            changed = configured(hardware, {place: option}, self.source.spec.num_layers)
            for (name, layer), grid in self.matrices({place: option}, changed).items():
                grids = self._wanted[layer].setdefault(name, [])
                if grid not in grids:
                    grids.append(grid)
        self.warnings = check_tokens(self.source, self._wanted, self.text.tokens.count)

    def make(self, deadline: float, progress: Progress) -> None:
        """Makes what is wanted and not kept yet, layer by layer, until `deadline` (time.monotonic).

        Raises ConfigError for weights that are not finite, singular Hessians and a full disk.
        """
        layers = len(self._wanted)
        for layer in range(layers):
            if time.monotonic() > deadline:
                break
            progress("calibrated rounding", layer, layers)
            self._choices.make(layer, self._wanted[layer])

    def matrices(self, assignment: Assignment, hardware: DeviceConfig) -> dict[tuple[str, int], Grid]:
        """Name and layer of every matrix that an assignment has calibrated, on `hardware`, which it made; its grid."""
        found = {}
        for place, option in assignment.items():
            if option.rounding is Rounding.calibrated:
                for name in matrices_of(self.source, place.layer):
                    grid = grid_of(hardware, name, place.layer)
                    if matrix_op(name).tensor_group == place.site and grid is not None:
                        found[name, place.layer] = grid
        return found

    def weights(self, assignment: Assignment, hardware: DeviceConfig) -> WeightSource:
        """The model's weights with what an assignment has calibrated; the model's own where that is nothing."""
        matrices = self.matrices(assignment, hardware)
        return RoundedWeights(self, matrices) if matrices else self.source

    def tensor(self, name: str, layer: int, grid: Grid) -> Tensor:
        """A calibrated matrix, float32 [in, out], not to be changed; the same object as long as it is in memory."""

        def read() -> Tensor:
            self._choices.make(layer, self._wanted[layer])  # with this one all others of the layer
            return self._choices.weight(name, layer, grid)

        return self._in_memory((name, layer, grid), read)

    def head(self) -> Tensor:
        """The LM head as a folder has it, in bfloat16, from which it may be packed into another format."""
        own = self.source.tensor(LM_HEAD.matrix)
        stored = self._in_memory(LM_HEAD.matrix, lambda: quantize(own, "bf16"))
        return own if torch.equal(stored, own) else stored

    def _in_memory(self, key: Hashable, read: Callable[[], Tensor]) -> Tensor:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        found = self._kept[key] = read()
        self._bytes += found.nbytes
        while self._bytes > MOST_BYTES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return found

    def record(self) -> dict[str, Any]:
        """The text and the settings, for the result."""
        settings = self.settings
        return {
            "text": self.text.tokens.name,
            "tokens": self.text.tokens.count,
            "window": settings.window,
            "damping": settings.damping,
            "act_order": settings.act_order,
            "warnings": self.warnings,
        }


class RoundedWeights:
    """A WeightSource: a model's weights, some of its matrices calibrated, as a folder of them would have the rest."""

    def __init__(self, of: CalibratedOptions, matrices: Matrices) -> None:
        source = of.source
        self.spec, self.basis = source.spec, source.basis
        self.synthetic, self.fingerprint = source.synthetic, source.fingerprint
        self._of, self._matrices = of, matrices

    def tensor(self, name: str, layer: int | None = None) -> Tensor:
        """As WeightSource.tensor, but not to be changed by the caller."""
        if layer is not None and (name, layer) in self._matrices:
            return self._of.tensor(name, layer, self._matrices[name, layer])
        return self._of.head() if name == LM_HEAD.matrix else self._of.source.tensor(name, layer)
