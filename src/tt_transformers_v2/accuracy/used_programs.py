# SPDX-License-Identifier: Apache-2.0
"""The `programs` of a result's `accuracy` section: by which plan every matmul was computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..config.layers import write_select
from ..hardware.op_table import MATRICES, PHASES, ModelOp
from ..hardware.schema import DeviceConfig
from ..planning.op_plans import Planned

Used = tuple[ModelOp, str, DeviceConfig, Planned]


def programs_section(used: Iterable[Used], hardware: DeviceConfig, num_layers: int) -> list[dict[str, Any]]:
    """A row for each op, phase and kind of layers, in the order of the table of ops.

    in0_block_w: tiles of K in a block. inputs, outputs: of a chip's part of the matrix, in elements. cores: that
    compute, grid: as columns x rows where they are a rectangle that the program names. plan: "as planned", "fitted"
    (a preflight of the same configuration found that the first plan does not fit L1) or "typed".
    """
    order = list(MATRICES.values())
    layers = {id(own): write_select(list(same)) for own, same in hardware.layer_kinds(num_layers)}
    rows = []
    for op, phase, own, planned in sorted(used, key=lambda row: (PHASES.index(row[1]), order.index(row[0]))):
        kernel, plan = own.kernel(op, phase), planned.plan
        rows.append(
            {
                "op": op.name,
                "phase": phase,
                "layers": layers.get(id(own)) if op.in_layer else None,
                "inputs": planned.inputs,
                "outputs": planned.outputs,
                "in0_block_w": plan.in0_block_w,
                "fp32_dest_acc_en": kernel.fp32_dest_acc_en,
                "packer_l1_acc": kernel.packer_l1_acc,
                "cores": planned.cores,
                "grid": planned.grid,
                "plan": planned.origin,
            }
        )
    return rows
