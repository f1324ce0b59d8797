# SPDX-License-Identifier: Apache-2.0
"""Matrix products with weights, laid over the cores as `plans` says."""

from __future__ import annotations

import dataclasses
from typing import Any

from ....hardware.op_table import DECODE, ModelOp
from ....planning import plans
from ....planning.typed_programs import check_blocks
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
        inputs, outputs = weight.shape[-2], weight.shape[-1]
        decode = self.run.phase == DECODE or op.one_tile
        kernel, out = self._kernel(op), self._activations(op)
        return (self._decode_matmul if decode else self._prefill_matmul)(op, x, weight, inputs, outputs, kernel, out)

    def _decode_matmul(self, op: ModelOp, x: Any, weight: Any, inputs: int, outputs: int, kernel: Any, out: Any) -> Any:
        import ttnn

        rows, grid = self._rows(x), self.run.grid
        if not weight.is_sharded():
            flat = self._interleaved(op.op_group, x)
            return self.do(
                op.op_group,
                lambda _: ttnn.linear(
                    flat, weight, memory_config=self._place(), compute_kernel_config=kernel, dtype=out
                ),
            )
        plan = plans.decode_matmul(
            inputs,
            outputs,
            rows=rows,
            grid=grid,
            readers_per_bank=self.run.readers_per_bank,
        )
        plan, fixed = self._chosen(op, plan)
        spread = to_ttnn.width_sharded(rows, inputs, plan.cores, grid)
        sharded = self.do(f"{op.op_group} shard", lambda _: ttnn.to_memory_config(x, spread))

        def multiplied(tried: Any) -> Any:
            check_blocks(op.op_group, tried, inputs)
            return ttnn.linear(
                sharded,
                weight,
                program_config=to_ttnn.program_config(tried),
                memory_config=ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG,
                compute_kernel_config=kernel,
                dtype=out,
            )

        product = self.do(op.op_group, multiplied, plan, fixed=fixed)
        return self._interleaved(op.op_group, product)

    def _prefill_matmul(
        self, op: ModelOp, x: Any, weight: Any, inputs: int, outputs: int, kernel: Any, out: Any
    ) -> Any:
        import ttnn

        rows = self._rows(x)
        at_once = plans.rows_at_once(rows, self.run.row_limit)
        shaped = ttnn.reshape(x, [1, rows // at_once, at_once, inputs]) if at_once < rows else x
        plan = plans.prefill_matmul(
            inputs, outputs, rows=at_once, grid=self.run.grid, fp32_dest_acc_en=kernel.fp32_dest_acc_en
        )
        plan = dataclasses.replace(plan, fuse_batch=at_once == rows)
        plan, fixed = self._chosen(op, plan)
        product = self.do(
            op.op_group,
            lambda tried: ttnn.linear(
                shaped,
                weight,
                program_config=to_ttnn.program_config(tried),
                memory_config=ttnn.DRAM_MEMORY_CONFIG,
                compute_kernel_config=kernel,
                dtype=out,
            ),
            plan,
            fixed=fixed,
        )
        return ttnn.reshape(product, [1, 1, rows, outputs]) if at_once < rows else product
