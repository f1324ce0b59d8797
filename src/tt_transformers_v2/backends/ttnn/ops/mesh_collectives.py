# SPDX-License-Identifier: Apache-2.0
"""Sums and gathers over the chips of a mesh axis."""

from __future__ import annotations

from typing import Any

from .. import conversions as to_ttnn
from .op_settings import Settings


class Collectives(Settings):
    """What ops need from the other chips."""

    def _sum(self, what: str, x: Any, axis: int, *, scatter: bool = False) -> Any:
        """Sum along a mesh axis, of which each chip keeps all or (`scatter`) its part.

        On 2-D meshes it travels in the `ccl` format, as in tt_transformers.
        """
        import ttnn

        carried = to_ttnn.dtype(self.config.precision.ccl) if self.run.split.hidden > 1 else x.dtype
        sent = self._interleaved(what, x)
        if sent.dtype != carried:
            sent = self.do(f"{what} typecast", lambda _, sent=sent: ttnn.typecast(sent, carried))
        along: dict[str, Any] = {"cluster_axis": axis, "topology": self._topology(), "memory_config": self._place()}
        if scatter:
            kernel = self._fixed_kernel("reduce_scatter")
            summed = self.do(
                f"{what} reduce_scatter",
                lambda _: ttnn.reduce_scatter(sent, dim=3, compute_kernel_config=kernel, **along),
            )
        else:
            summed = self.do(f"{what} all_reduce", lambda _: ttnn.all_reduce(sent, **along))
        if summed.dtype == x.dtype:
            return summed
        return self.do(f"{what} typecast", lambda _: ttnn.typecast(summed, x.dtype))

    def _gather(self, what: str, x: Any, axis: int) -> Any:
        import ttnn

        return self.do(
            f"{what} all_gather",
            lambda _: ttnn.all_gather(
                x, dim=3, cluster_axis=axis, topology=self._topology(), memory_config=self._place()
            ),
        )
