# SPDX-License-Identifier: Apache-2.0
"""Running a model again from the layer that changed.

The base configuration's hidden states before every layer, and between its attention and its MLP, are kept from one
whole run. A variant that differs in one layer starts there: what comes before is the same to the last bit. Its own
layer runs in the variant's settings, the later ones in the base's.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..backends.emulated.emulated_ops import EmulatedOps
from ..backends.emulated.prepared_weights import PreparedWeights
from ..hardware.schema import DeviceConfig
from ..models.decoder import (
    LayerWeights,
    attention_half,
    each_layer,
    final_hidden,
    head_matrix,
    logits_of,
    mlp_half,
)
from ..models.rope import rope_tables
from ..models.weights import WeightSource
from ..planning.op_plans import OpPlans
from .space import HEAD, SITES, Place
from .target import Divergence, Target


class Replay:
    """The base run of `hardware` on the target's text, and variants of it.

    `prepared` keeps weights ready to be multiplied; `source` should then return the same tensors each time. `plans`
    are those of the base; variants have the same, on their own hardware.
    `layers_run` counts the layers computed so far, the base's included (two halves are one layer).
    """

    def __init__(
        self,
        source: WeightSource,
        target: Target,
        hardware: DeviceConfig,
        numerics: str,
        prepared: PreparedWeights | None = None,
        plans: OpPlans | None = None,
    ) -> None:
        self.source, self.target, self.hardware, self.numerics = source, target, hardware, numerics
        self.layers_run = 0.0
        self._prepared = prepared
        self._plans = OpPlans(hardware) if plans is None else plans
        self._weights = list(each_layer(source))
        self._ops = self._open(hardware)
        self._tables = rope_tables(source.spec, torch.arange(target.windows.shape[1]))
        self._before: list[Tensor] = []
        self._between: list[Tensor] = []
        x = self._ops.embed(target.windows, source.tensor("embedding"))
        for weights in self._weights:
            self._before.append(x)
            x = self._attention(self._ops, weights, x)
            self._between.append(x)
            x = self._mlp(self._ops, weights, x)
        self._last = x
        self.base = self._compare(self._ops, x)

    def variant(self, place: Place, hardware: DeviceConfig, source: WeightSource | None = None) -> Divergence:
        """The divergence with the settings that `hardware` has at `place` and the weights that `source` has in its
        layer (None: the base's); everywhere else they are the base's."""
        changed = self._open(hardware)
        if place.site == HEAD:
            return self._compare(changed, self._last)
        own, *later = self._weights[place.layer :]
        if source is not None:
            own = LayerWeights(source, place.layer)
        x = self._between[place.layer]
        if SITES[place.site].half == "attention":
            x = self._attention(changed, own, self._before[place.layer])
        x = self._through(self._ops, later, self._mlp(changed, own, x))
        return self._compare(self._ops, x)

    def whole(self, hardware: DeviceConfig, source: WeightSource | None = None) -> Divergence:
        """The divergence of another configuration, run from the first layer to the last, with the weights of `source`
        (None: the base's)."""
        ops, source = self._open(hardware), self.source if source is None else source
        x = ops.embed(self.target.windows, source.tensor("embedding"))
        return self._compare(ops, self._through(ops, each_layer(source), x), source)

    def _open(self, hardware: DeviceConfig) -> EmulatedOps:
        return EmulatedOps(hardware, self.numerics, self._prepared, plans=self._plans.on(hardware))

    def _through(self, ops: EmulatedOps, layers: Iterable[LayerWeights], x: Tensor) -> Tensor:
        for weights in layers:
            x = self._mlp(ops, weights, self._attention(ops, weights, x))
        return x

    def _attention(self, ops: EmulatedOps, weights: LayerWeights, x: Tensor) -> Tensor:
        self.layers_run += 0.5
        return attention_half(ops.at_layer(weights.layer), self.source.spec, weights, x, self._tables)

    def _mlp(self, ops: EmulatedOps, weights: LayerWeights, x: Tensor) -> Tensor:
        self.layers_run += 0.5
        return mlp_half(ops.at_layer(weights.layer), self.source.spec, weights, x)

    def _compare(self, ops: EmulatedOps, x: Tensor, source: WeightSource | None = None) -> Divergence:
        source = self.source if source is None else source
        hidden = final_hidden(ops, source.spec, source, x).flatten(0, 1)
        head = head_matrix(ops, source)
        return self.target.divergence(lambda rows: logits_of(ops, self.source.spec, head, hidden[rows]))
