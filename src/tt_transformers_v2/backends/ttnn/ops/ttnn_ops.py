# SPDX-License-Identifier: Apache-2.0
"""models.decoder.Ops on ttnn: the same decoder, with tensors that live on the chips of a mesh.

Activations are [1, 1, rows, width] per chip: `rows` are a prompt's tokens in prefill, users in decode. Prefill works in
DRAM; decode where memory.activations_placement says, with activations spread over the cores that a matmul reads from.
"""

from __future__ import annotations

from typing import Any

from ....hardware.op_table import DECODE, EMBEDDING, RESIDUAL_ADD, ModelOp
from .activations import Activations
from .decoder_run import OF_A_SUM, OF_HEADS, HeadNorm, SumNorm
from .experts import Experts
from .heads import Heads
from .matmuls import Matmuls
from .norms import Norms


class TtnnOps(Matmuls, Norms, Heads, Activations, Experts):
    """One layer's settings on a run; `at_layer` gives another's."""

    name = "ttnn"

    def at_layer(self, layer: int) -> TtnnOps:
        """The same run with the settings and the KV cache of one layer."""
        return TtnnOps(self.run, self.config.for_layer(layer), layer)

    def matrix(self, weight: Any, op: ModelOp) -> Any:
        """The weight on the mesh in the format of its tensor group; for the LM head a list of its columns in parts."""
        return self.run.weights.matrix(weight, self.config.precision.of(op.tensor_group), self.config)

    def layer_matrix(self, weights: Any, name: str, op: ModelOp) -> Any:
        """`matrix` of a layer's tensor by its name."""
        return self.matrix(weights[name], op)

    def vector(self, weight: Any) -> Any:
        """A norm's weight, a bias or sinks on the mesh, that of a head's norm as HeadNorm, that of a norm after
        attention or MLP as SumNorm; rotary tables are there already and come back as they are."""
        name = weight if isinstance(weight, str) else getattr(weight, "name", None)
        attention = self.run.spec.layer(self.layer).attention
        if name == "sinks":
            scale = attention.scale_for(self.run.spec.head_dim)
            return self.run.weights.sinks(weight, scale, decode=self.run.phase == DECODE)
        placed = self.run.weights.vector(weight, fractured=self.run.fractured)
        if name in OF_A_SUM:
            return SumNorm(placed)
        return HeadNorm(placed) if name in OF_HEADS and attention.qk_norm == "head" else placed

    def embed(self, tokens: Any, table: Any) -> Any:
        """The hidden state of `tokens`, a uint32 tensor [1, 1, 1, rows]; each chip looks up its columns."""
        import ttnn

        stored = self.run.weights.table(table, self.config.precision.embedding)
        rows = self.do(
            "embedding",
            lambda _: ttnn.embedding(
                tokens, stored, layout=ttnn.TILE_LAYOUT, dtype=self._activations(EMBEDDING), memory_config=self._place()
            ),
        )
        rows = ttnn.unsqueeze_to_4D(rows)
        if self.run.split.heads == 1 or self.run.fractured:
            return rows
        return self._gather("embedding", rows, self.run.split.heads_axis)

    def reduce(self, x: Any, op: ModelOp) -> Any:
        """x [1, 1, rows, width] summed over the heads' axis; in prefill on a 1-D mesh a chip keeps its columns only."""
        if self.run.split.heads == 1:
            return x
        return self._sum(op.half, x, self.run.split.heads_axis, scatter=self.run.fractured)

    def biased(self, x: Any, bias: Any, op: ModelOp) -> Any:
        """x as `reduce` gave it plus the bias of its matrix, of which each chip has as many columns."""
        import ttnn

        return self.do(
            f"{op.op_group} bias",
            lambda _: ttnn.add(x, bias, dtype=self._activations(op), memory_config=self._place()),
        )

    def add(self, x: Any, y: Any) -> Any:
        """x + y, in the format of the attention path's activations."""
        import ttnn

        return self.do(
            "add",
            lambda _: ttnn.add(x, y, dtype=self._activations(RESIDUAL_ADD), memory_config=self._elementwise(x)),
        )
