# SPDX-License-Identifier: Apache-2.0
"""The job of test_conversions.py that needs an open system."""

from __future__ import annotations

import itertools
from typing import Any

from tt_transformers_v2.backends.ttnn import conversions
from tt_transformers_v2.backends.ttnn.process.child import Job
from tt_transformers_v2.backends.ttnn.process.session import open_mesh
from tt_transformers_v2.hardware.enums import DataFormat, DispatchCoreType
from tt_transformers_v2.hardware.schema import MemoryConfig


def opened(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """What ttnn's allocator says of a system: bytes by kind of buffer, banks, what a matrix of weights takes of a bank.

    `matrix` is [inputs, outputs] of the weights, `l1_small_size` in bytes per core.
    """
    import ttnn

    inputs, outputs = payload["matrix"]
    with open_mesh(job.device, job.mock, l1_small_size=payload["l1_small_size"]) as mesh:

        def view(kind: str) -> Any:
            return ttnn.get_memory_view(mesh, getattr(ttnn.BufferType, kind))

        taken = {}
        for wide, data_format in itertools.product((True, False), DataFormat):
            place = conversions.weight_memory_config(MemoryConfig(use_width_sharding=wide), job.device, inputs, outputs)
            before = view("DRAM").total_bytes_allocated_per_bank
            made = ttnn.empty([inputs, outputs], conversions.dtype(data_format), ttnn.TILE_LAYOUT, mesh, place)
            taken[f"{data_format} {'sharded' if wide else 'interleaved'}"] = (
                view("DRAM").total_bytes_allocated_per_bank - before
            )
            ttnn.deallocate(made)
        return {
            "l1_small": view("L1_SMALL").total_bytes_per_bank,
            "trace": view("TRACE").total_bytes_per_bank * view("TRACE").num_banks,
            "banks": view("DRAM").num_banks,
            "taken": taken,
            "dispatch": {kind.value: conversions.dispatch_core_config(kind).type.name for kind in DispatchCoreType},
            "mesh_shape": list(mesh.shape),
        }
