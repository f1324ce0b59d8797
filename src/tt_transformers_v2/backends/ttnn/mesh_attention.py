# SPDX-License-Identifier: Apache-2.0
"""One attention block on a mesh that somebody else has opened: api.attention's on a card."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from ...common.errors import ConfigError
from ...common.units import TILE
from ...hardware.op_table import RESIDUAL_ADD
from ...hardware.schema import DeviceConfig
from ...models.decoder import LayerWeights, attention_block
from ...models.weights import WeightSource
from ...planning.split import Split
from .mesh_model import TtnnModel
from .ops.ttnn_ops import TtnnOps
from .process.session import differences
from .recording.autofit import Fitting, memory_named
from .recording.recorder import Recorder
from .weights.host_weights import CacheShape, Handles, HostWeights


class AttentionOnMesh:
    """Causal attention over float32 [batch, tokens, hidden], one of the batch after the other.

    The mesh stays open. Weights are converted once, for the longest input so far. `recorder` runs the ops; None runs
    them with smaller programs where L1 overflows. Raises ConfigError for a mesh that is not the system `config`
    describes, for data parallelism, and, when called, for memory that is too small.
    """

    def __init__(self, mesh: Any, config: DeviceConfig, source: WeightSource, recorder: Recorder | None = None) -> None:
        found = differences(mesh, config.spec)
        if found:
            raise ConfigError(" ".join(found), "Pass the hw_config of the open device.")
        if config.parallelism.data_parallel_size > 1:
            raise ConfigError(
                "MultiHeadAttention on a device does not support data parallelism.", "Use one data-parallel group."
            )
        self.mesh, self.config, self.source = mesh, config, source
        self.recorder: Recorder = recorder or Fitting(autofit=True)
        self._model: TtnnModel | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Attention over x float32 [batch, tokens, hidden], like x. Raises ConfigError where memory is too small."""
        rows = math.ceil(x.shape[1] / TILE) * TILE
        padded = functional.pad(x, (0, 0, 0, rows - x.shape[1]))
        with memory_named(str(self.config.device_type)):
            model = self._for(rows)
            return torch.stack([_attended(model, row)[: x.shape[1]] for row in padded])

    def _for(self, rows: int) -> TtnnModel:
        if self._model is None or self._model.kv.tokens < rows:
            weights = HostWeights(
                self.source,
                Split.of(self.config, self.source.spec),
                self.mesh,
                kv=CacheShape(1, rows, None),
                lm_head_columns=self.source.spec.vocab_size,
                disk=None,
            )
            self._model = TtnnModel(weights, self.config, self.recorder)
        return self._model


def _attended(model: TtnnModel, x: Tensor) -> Tensor:
    """Attention over [tokens, hidden], tokens in whole tiles."""
    run, tables = model.prompt(len(x), 0, 0)
    ops, form = TtnnOps(run, model.config), model.config.activations(RESIDUAL_ADD)
    placed = model.weights.split_hidden(x[None, None], form)
    weights = LayerWeights(Handles(model.spec), 0)  # type: ignore[arg-type]
    attended = attention_block(ops, model.spec, weights, placed, tables)
    # In prefill on a 1-D mesh every chip of the heads' axis keeps its part of the sum, else all have the same.
    over_hidden = 3 if model.weights.split.hidden > 1 else None
    return model.weights.whole(attended, 3 if run.fractured else None, over_hidden)[0, 0]
