# SPDX-License-Identifier: Apache-2.0
"""Experts: the router's choice, and every expert computed for all rows, with a share of 0 where it was not chosen.

ttnn.sparse_matmul would compute chosen experts only, but of several users or tokens each has experts of its own, and
its kernels hang where a count that only the router knows is not exact. So every token's products are those of all
experts, `count` where the model needs `top_k`; what a share of 0 adds changes no bit of the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....hardware.op_table import RESIDUAL_ADD
from ....models.layer_spec import ExpertsSpec
from .op_settings import Settings


class Experts(Settings):
    """`route` and `mixed` of models.decoder.Ops."""

    def route(self, scores: Any, experts: ExpertsSpec) -> tuple[Any, Any]:
        """The chosen experts [1, 1, rows, top_k] and the shares of all, bfloat16 [1, 1, rows, experts], 0 where an
        expert was not chosen. Of equal scores the lower number wins."""
        import ttnn

        place, rows = self._place(), self._rows(scores)
        scores = self._as(scores, ttnn.bfloat16, "router")
        if scores.shape[-1] != experts.count:  # its matrix is whole tiles wide
            scores = self.do(
                "router slice",
                lambda _, scores=scores: ttnn.slice(
                    scores, [0, 0, 0, 0], [1, 1, rows, experts.count], memory_config=place
                ),
            )
        after = experts.router == "top_k_then_softmax"
        ranked = scores if after else self._softmax(scores)
        shares, chosen = self.do(
            "router topk",
            lambda _: ttnn.topk(
                ranked, experts.top_k, dim=-1, largest=True, sorted=True, memory_config=place, stable=True
            ),
        )
        if after:
            shares = self._softmax(shares)
        elif experts.normalised:
            shares = self._normalised(shares)
        none = self.do(
            "router zeros",
            lambda _: ttnn.zeros_like(scores, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, memory_config=place),
        )
        spread = self.do(
            "router scatter", lambda _: ttnn.scatter(none, dim=-1, index=chosen, src=shares, memory_config=place)
        )
        return chosen, spread

    def mixed(self, x: Any, chosen: Any, shares: Any, expert: Callable[[Any, int, Any], Any]) -> Any:
        """The sum over all experts, in the order of their numbers, of share times output, in the format of the residual
        stream; in prefill on a 1-D mesh a chip's columns of it, as `reduce` gives them."""
        import ttnn

        count = int(shares.shape[-1])
        rows, form, place = self._rows(x), self._activations(RESIDUAL_ADD), self._place()
        x = self._interleaved("experts", x)
        total = None
        for number in range(count if self.run.experts_asked is None else min(count, self.run.experts_asked)):
            output = expert(self, number, x)
            share = self.do(
                "experts share",
                lambda _, number=number: ttnn.slice(
                    shares, [0, 0, 0, number], [1, 1, rows, number + 1], memory_config=place
                ),
            )
            part = self.do(
                "experts mul",
                lambda _, output=output, share=share: ttnn.mul(
                    output, share, fast_and_approximate_mode=False, dtype=form, memory_config=place
                ),
            )
            if total is None:
                total = part
                continue
            total = self.do(
                "experts add",
                lambda _, total=total, part=part: ttnn.add(total, part, dtype=form, memory_config=place),
            )
        return total

    def _softmax(self, x: Any) -> Any:
        import ttnn

        place, kernel = self._place(), self._fixed_kernel("router softmax")
        return self.do(
            "router softmax",
            lambda _: ttnn.softmax(x, dim=-1, memory_config=place, compute_kernel_config=kernel, numeric_stable=True),
        )

    def _normalised(self, shares: Any) -> Any:
        """Shares divided by their sum."""
        import ttnn

        place, kernel = self._place(), self._fixed_kernel("router sum")
        whole = self.do(
            "router sum",
            lambda _: ttnn.sum(shares, dim=-1, keepdim=True, memory_config=place, compute_kernel_config=kernel),
        )
        return self.do(
            "router div",
            lambda _: ttnn.div(
                shares, whole, fast_and_approximate_mode=False, dtype=ttnn.bfloat16, memory_config=place
            ),
        )
