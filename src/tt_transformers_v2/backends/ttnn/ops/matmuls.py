# SPDX-License-Identifier: Apache-2.0
"""Matrix products with weights, laid over the cores as planning.op_plans says."""

from __future__ import annotations

from typing import Any

from ....hardware.op_table import DECODE, ModelOp
from ....planning.op_plans import Planned
from ....planning.plans import DramShardedPlan
from .. import conversions as to_ttnn
from .mesh_collectives import Collectives


class Matmuls(Collectives):
    """`linear` of models.decoder.Ops."""

    def linear(self, x: Any, weight: Any, bias: Any | None, op: ModelOp) -> Any:
        """x [1, 1, rows, in] @ weight [in, out] + bias; of a weight in parts the columns stand side by side.

        On a 2-D mesh, partial products are summed over the hidden axis. Raises ConfigError for a user's blocks that do
        not divide the inner width.
        """
        parts = weight if isinstance(weight, list) else [weight]
        if self.run.fractured and op.inputs_over == "hidden" and x.shape[-1] < parts[0].shape[-2]:
            # No norm came before, which would have gathered what the chips hold of the hidden state.
            x = self._gather(op.op_group, x, self.run.split.heads_axis)
        products = [self._matmul(x, part, op) for part in parts]
        import ttnn

        out = products[0]
        if len(products) > 1:
            out = self.do(f"{op.op_group} concat", lambda _: ttnn.concat(products, dim=-1))
        if op.inputs_over == "hidden" and self.run.split.hidden > 1:
            out = self._sum(op.op_group, out, self.run.split.hidden_axis)
        if bias is None:
            return out
        return self.do(
            f"{op.op_group} bias",
            lambda _: ttnn.add(out, bias, dtype=self._activations(op), memory_config=self._place()),
        )

    def _matmul(self, x: Any, weight: Any, op: ModelOp) -> Any:
        rows = self._rows(x)
        planned = self.plans.matmul(op, self.run.phase, rows, weight.shape[-2], weight.shape[-1])
        plan = planned.plan
        if isinstance(plan, DramShardedPlan):
            return self._by_shards(op, x, weight, planned, plan.cores)
        if self.run.phase == DECODE or op.one_tile:
            return self._linear(op, self._interleaved(op.op_group, x), weight, planned, self._place())
        return self._prompt(op, x, weight, planned)

    def _by_shards(self, op: ModelOp, x: Any, weight: Any, planned: Planned, cores: int) -> Any:
        """A decode matmul: activations spread over `cores`, the weight over the DRAM banks."""
        import ttnn

        spread = to_ttnn.width_sharded(planned.rows, planned.inputs, cores, self.plans.grid)
        sharded = self.do(f"{op.op_group} shard", lambda _: ttnn.to_memory_config(x, spread))
        product = self._linear(op, sharded, weight, planned, ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG)
        return self._interleaved(op.op_group, product)

    def _prompt(self, op: ModelOp, x: Any, weight: Any, planned: Planned) -> Any:
        """A prefill matmul, as many rows at a time as its plan is for."""
        import ttnn

        rows, at_once = planned.rows, planned.rows_at_once
        parts = at_once < rows
        shaped = ttnn.reshape(x, [1, rows // at_once, at_once, x.shape[-1]]) if parts else x
        product = self._linear(op, shaped, weight, planned, ttnn.DRAM_MEMORY_CONFIG)
        return ttnn.reshape(product, [1, 1, rows, weight.shape[-1]]) if parts else product

    def _linear(self, op: ModelOp, x: Any, weight: Any, planned: Planned, place: Any) -> Any:
        import ttnn

        kernel, out = self._kernel(op), self._activations(op)
        return self.do(
            op.op_group,
            lambda tried: ttnn.linear(
                x,
                weight,
                program_config=to_ttnn.program_config(tried),
                memory_config=place,
                compute_kernel_config=kernel,
                dtype=out,
            ),
            planned.plan,
            fixed=self.plans.fixed(op, self.run.phase, planned.plan),
        )
