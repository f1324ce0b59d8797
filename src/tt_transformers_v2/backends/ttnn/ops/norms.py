# SPDX-License-Identifier: Apache-2.0
"""Root-mean-square norms: on one core row by row, spread over cores, or over the chips that share the hidden size."""

from __future__ import annotations

import math
from typing import Any

from ....common.units import TILE
from ....hardware.op_table import NORM, PREFILL
from ....models.spec import ModelSpec
from ....planning import plans
from .. import conversions as to_ttnn
from .decoder_run import HeadNorm, SumNorm
from .mesh_collectives import Collectives


class Norms(Collectives):
    """`rms_norm` and `norm_all_heads` of models.decoder.Ops."""

    def rms_norm(self, x: Any, weight: Any, eps: float) -> Any:
        """x / rms(x) * weight over the last dimension, all of it where chips share the hidden size."""

        kernel, split = self._kernel(NORM), self.run.split
        of_head, of_sum = isinstance(weight, HeadNorm), isinstance(weight, SumNorm)
        weight = weight.weight if of_head or of_sum else weight
        if self.run.fractured and not of_head:
            normed = self._distributed_norm(x, weight, eps, kernel, split.heads_axis)
            return normed if of_sum else self._gather("rms_norm", normed, split.heads_axis)
        if split.hidden > 1 and not of_head:
            return self._distributed_norm(x, weight, eps, kernel, split.hidden_axis)
        if self.run.phase == PREFILL or of_head:
            return self._row_norm(x, weight, eps, kernel)
        normed = self._sharded_norm(x, weight, eps, kernel)
        return self._interleaved("rms_norm", normed) if of_sum else normed

    def norm_all_heads(self, qkv: Any, q_norm: Any, k_norm: Any, spec: ModelSpec) -> Any:
        """A chip's qkv [1, 1, rows, width] with a norm over all of q and one over all of k, those of all chips.

        A KV head that several chips have counts as often in each of them, which leaves the mean as it is.
        """
        import ttnn

        kernel, split = self._kernel(NORM), self.run.split
        x, rows = self._interleaved("norm_all_heads", qkv), self._rows(qkv)
        q, kv = split.q_heads(spec) * spec.head_dim, split.kv_heads(spec) * spec.head_dim
        parts = []
        for first, last, weight in ((0, q, q_norm), (q, q + kv, k_norm), (q + kv, q + 2 * kv, None)):
            part = self.do(
                "norm_all_heads slice",
                lambda _, first=first, last=last: ttnn.slice(
                    x, [0, 0, 0, first], [1, 1, rows, last], memory_config=self._place()
                ),
            )
            if weight is not None and split.heads > 1:
                part = self._distributed_norm(part, weight, spec.norm_eps, kernel, split.heads_axis)
            elif weight is not None:
                part = self._row_norm(part, weight, spec.norm_eps, kernel)
            parts.append(part)
        return self.do("norm_all_heads concat", lambda _: ttnn.concat(parts, dim=-1, memory_config=self._place()))

    def _row_norm(self, x: Any, weight: Any, eps: float, kernel: Any) -> Any:
        flat = self._interleaved("norm", x)
        return self._whole_norm(flat, weight, eps, kernel, to_ttnn.row_norm_program(), self._place())

    def _whole_norm(self, x: Any, weight: Any, eps: float, kernel: Any, program: Any, place: Any) -> Any:
        """The norm of rows that a chip has whole."""
        import ttnn

        return self.do(
            "rms_norm",
            lambda _: ttnn.rms_norm(
                x,
                weight=weight,
                epsilon=eps,
                program_config=program,
                memory_config=place,
                compute_kernel_config=kernel,
            ),
        )

    def _sharded_norm(self, x: Any, weight: Any, eps: float, kernel: Any) -> Any:
        import ttnn

        rows, width, grid = self._rows(x), x.shape[-1], self.run.grid
        tiles = width // TILE
        cores = plans.storage_cores(tiles, grid)
        columns, grid_rows = plans.core_rectangle(cores, grid)
        spread = to_ttnn.width_sharded(rows, width, cores, grid)
        sharded = self.do("rms_norm shard", lambda _: ttnn.to_memory_config(x, spread))
        program = ttnn.LayerNormShardedMultiCoreProgramConfig(
            compute_with_storage_grid_size=ttnn.CoreCoord(columns, grid_rows),
            subblock_w=plans.largest_divisor(tiles // cores, 4),
            block_h=math.ceil(rows / TILE),
            block_w=tiles // cores,
            inplace=False,
            **to_ttnn.NORM_SUMS,
        )
        return self._whole_norm(sharded, weight, eps, kernel, program, spread)

    def _distributed_norm(self, x: Any, weight: Any, eps: float, kernel: Any, axis: int) -> Any:
        """Each chip squares its columns; the sums travel along a mesh axis."""
        import ttnn

        flat, program = self._interleaved("rms_norm", x), to_ttnn.row_norm_program()
        stats = self.do(
            "rms_norm stats",
            lambda _: ttnn.rms_norm_pre_all_gather(
                flat, program_config=program, compute_kernel_config=kernel, dtype=ttnn.bfloat16
            ),
        )
        stats = self._gather("rms_norm stats", stats, axis)
        return self.do(
            "rms_norm",
            lambda _: ttnn.rms_norm_post_all_gather(
                flat,
                stats,
                epsilon=eps,
                weight=weight,
                dtype=flat.dtype,
                program_config=program,
                memory_config=self._place(),
                compute_kernel_config=kernel,
            ),
        )
