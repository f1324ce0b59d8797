# SPDX-License-Identifier: Apache-2.0
"""The `programs` of a result's `accuracy` section: by which plan every matmul and attention were computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..config.layers import write_select
from ..hardware.op_table import EXPERT_MATRICES, MATRICES, PHASES, SDPA, ModelOp
from ..hardware.schema import DeviceConfig
from ..planning.op_plans import Planned
from ..planning.plans import SdpaPlan

Used = tuple[ModelOp, str, DeviceConfig, Planned]
# Phase, configuration, plan and its origin.
Attended = tuple[str, DeviceConfig, SdpaPlan, str]


def programs_section(
    used: Iterable[Used], attended: Iterable[Attended], hardware: DeviceConfig, num_layers: int
) -> list[dict[str, Any]]:
    """A row for each op, phase, kind of layers and different plan: matmuls in the order of the table of ops, then
    attention. Prompts of several lengths may have several plans.

    in0_block_w: tiles of K in a block. inputs, outputs: of a chip's part of the matrix, in elements. cores: that
    compute, grid: as columns x rows where they are a rectangle that the program names. plan: "as planned", "fitted"
    (a preflight of the same configuration found that the first plan does not fit L1) or "typed". Of attention:
    q_chunk_size, k_chunk_size in tokens, and exp_approx_mode.
    """
    order = [*MATRICES.values(), *EXPERT_MATRICES.values()]
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
    for phase, own, chunks, origin in sorted(attended, key=lambda row: PHASES.index(row[0])):
        rows.append(
            {
                "op": SDPA.name,
                "phase": phase,
                "layers": layers.get(id(own)),
                "q_chunk_size": chunks.q_chunk_size,
                "k_chunk_size": chunks.k_chunk_size,
                "exp_approx_mode": chunks.exp_approx_mode,
                "fp32_dest_acc_en": own.kernel(SDPA, phase).fp32_dest_acc_en,
                "grid": [chunks.columns, chunks.rows],
                "plan": origin,
            }
        )
    return [row for at, row in enumerate(rows) if row not in rows[:at]]
