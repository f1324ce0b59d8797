# SPDX-License-Identifier: Apache-2.0
"""What every op looks up: the settings of its layer, where its result goes, and the recorder it runs through."""

from __future__ import annotations

import math
from typing import Any

from ....common.units import TILE
from ....hardware.enums import Placement
from ....hardware.op_table import PREFILL, ModelOp
from ....hardware.schema import DeviceConfig
from ....planning import plans
from ....planning.fixed_kernels import FIXED_KERNELS
from ....planning.op_plans import OpPlans
from ....planning.plans import Plan
from .. import conversions as to_ttnn
from ..recording.recorder import OpRefused
from .decoder_run import Run


class Settings:
    """One layer's settings on a run."""

    def __init__(self, run: Run, config: DeviceConfig, layer: int = 0) -> None:
        self.run, self.config, self.layer = run, config, layer
        self.plans = OpPlans(
            config, programs=run.programs, readers_per_bank=run.readers_per_bank, row_limit=run.row_limit
        )

    def do(self, name: str, call: Any, plan: Plan | None = None, *, fixed: bool = False) -> Any:
        """What the run's recorder makes of `call`. `fixed`: the user chose the plan, so no other may be tried."""
        try:
            return self.run.recorder.run(name, call, plan, fixed=fixed)
        except OpRefused as refusal:
            refusal.phase = self.run.phase
            raise

    def _kernel(self, op: ModelOp) -> Any:
        return to_ttnn.compute_kernel_config(self.config.kernel(op, self.run.phase))

    def _fixed_kernel(self, name: str) -> Any:
        return to_ttnn.compute_kernel_config(FIXED_KERNELS[name])

    def _activations(self, op: ModelOp) -> Any:
        return to_ttnn.dtype(self.config.activations(op))

    def _place(self) -> Any:
        """Prefill's activations are too large for L1 and always lie in DRAM."""
        placement = Placement.DRAM if self.run.phase == PREFILL else self.config.memory.activations_placement
        return to_ttnn.memory_config(placement)

    def _elementwise(self, x: Any) -> Any:
        """Where the result of an elementwise op goes: in decode with use_height_sharding, spread by rows over cores."""
        if self.run.phase == PREFILL or not self.config.memory.use_height_sharding:
            return self._place()
        rows, width = self._rows(x), x.shape[-1]
        tiles = math.ceil(rows / TILE)
        return to_ttnn.height_sharded(rows, width, plans.storage_cores(tiles, self.run.grid), self.run.grid)

    def _interleaved(self, what: str, x: Any) -> Any:
        import ttnn

        if not x.is_sharded():
            return x
        return self.do(f"{what} unshard", lambda _: ttnn.to_memory_config(x, self._place()))

    def _as(self, x: Any, dtype: Any, what: str) -> Any:
        """The tensor in another format, or as it is where it has that."""
        import ttnn

        return x if x.dtype == dtype else self.do(f"{what} typecast", lambda _: ttnn.typecast(x, dtype))

    def _rows(self, x: Any) -> int:
        return int(x.shape[-2])

    def _topology(self) -> Any:
        import ttnn

        whole = self.run.split.chips == self.config.spec.chips
        return ttnn.Topology.Ring if self.config.spec.topology == "ring" and whole else ttnn.Topology.Linear
