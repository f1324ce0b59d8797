# SPDX-License-Identifier: Apache-2.0
"""Which matrices of a model are calibrated, which stay rounded to nearest, and whether a text is long enough for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..common.errors import ConfigError
from ..config.layers import selected_layers
from ..config.resolve import Experiment
from ..models.decoder import matrix_op
from ..models.weights import WeightSource, tensor_shape
from .calibrated_layer import LEAST_TOKENS, matrices_of
from .grid import Grid, grid_of

Grids = list[dict[str, Grid]]


def chosen_matrices(experiment: Experiment, source: WeightSource) -> tuple[Grids, Grids]:
    """The grids of each layer's matrices in a block format, by canonical name: those that `quantize.calibrated` means,
    and the others, which are rounded to nearest, all bits that their format has.

    Raises ConfigError for layers that are not there, for a site that is in no block format in a layer named, and where
    nothing is to be calibrated.
    """
    layers = source.spec.num_layers
    found: Grids = [
        {
            name: grid
            for name in matrices_of(source, layer)
            if (grid := grid_of(experiment.hardware, name, layer)) is not None
        }
        for layer in range(layers)
    ]
    if not any(found):
        raise ConfigError(
            "no layer has a matrix in BFP8 or BFP4: there is nothing to calibrate.",
            "Set precision.mlp_weights=BFP4, or another precision or tuning.",
        )
    if experiment.config.quantize.calibrated is None:
        return found, [{} for _ in found]
    asked = {
        site: set(selected_layers(select, layers, f"quantize.calibrated.{site}"))
        for site, select in experiment.config.quantize.calibrated.items()
    }
    for site, own in asked.items():
        plain = [layer for layer in sorted(own) if all(matrix_op(name).tensor_group != site for name in found[layer])]
        if plain:
            raise ConfigError(
                f"quantize.calibrated.{site} names layer {plain[0]}, whose {site} is in no block format.",
                "Give it BFP8 or BFP4, or leave the layer out.",
            )
    calibrated: Grids = [{} for _ in found]
    left: Grids = [{} for _ in found]
    for layer, every in enumerate(found):
        for name, grid in every.items():
            if layer in asked.get(matrix_op(name).tensor_group, ()):
                calibrated[layer][name] = grid
            else:
                left[layer][name] = Grid(grid.fmt)
    return calibrated, left


def check_tokens(source: WeightSource, grids: Sequence[Mapping[str, object]], tokens: int) -> list[str]:
    """What is to be said of matrices with more inputs than there are tokens, of those that each layer's `grids` name.

    Raises ConfigError below a tenth.
    """
    warnings = {}
    for layer, own in enumerate(grids):
        for name in own:
            inputs = tensor_shape(source.spec, name, layer)[0]
            if name.startswith("expert") or tokens >= inputs:
                continue
            least = -(-inputs // round(1 / LEAST_TOKENS))
            if tokens < least:
                raise ConfigError(
                    f"{tokens} tokens are too few to calibrate {name}, which has {inputs} inputs: it takes {least}.",
                    f"Set quantize.tokens={inputs} or more.",
                )
            warnings[name] = (
                f"{name} has {inputs} inputs, more than {tokens} tokens can tell apart: its Hessian is damped "
                f"{inputs / tokens:.1f} times as much. Set quantize.tokens={inputs} or more."
            )
    return list(warnings.values())
