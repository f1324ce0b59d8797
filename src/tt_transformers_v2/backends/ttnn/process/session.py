# SPDX-License-Identifier: Apache-2.0
"""Inside the process that runs ttnn: opens a system and asks ttnn about ops without running them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ....common.errors import ConfigError
from ....hardware.schema import DeviceConfig, DeviceSpec
from .. import conversions as to_ttnn
from .availability import MOCK, require_card
from .failures import own_words


@dataclass(frozen=True)
class Usage:
    """Bytes of L1 on the fullest core while an op runs, as ttnn accounts for them; `total` is their peak together."""

    circular_buffers: int
    tensors: int
    dataflow_buffers: int
    scratchpad: int
    total: int


@dataclass(frozen=True)
class Captured:
    """What ttnn says of one call. `value` is what the call returned, None when `error` tells why ttnn refused.

    The op that fails reports no buffers of its own: take the bytes from `error`.
    """

    value: Any
    usage: Usage
    error: str | None


@contextmanager
def open_mesh(config: DeviceConfig | DeviceSpec, mock: bool, *, l1_small_size: int = 0) -> Iterator[Any]:
    """The system as a ttnn mesh device of the configured shape, closed on the way out whatever happens.

    `l1_small_size` is in bytes per core; the trace region is the configuration's. Systems of more than one chip get
    their fabric first. Raises ConfigError when there is neither a described system (`mock`) nor a card, and what ttnn
    raises when it cannot open it.
    """
    import ttnn

    spec = config.system if isinstance(config, DeviceConfig) else config
    if spec is None:
        raise ConfigError("this configuration does not name a device to open.", "Compose it from a device preset.")
    if not mock:
        require_card("ttnn", str(spec.device_type))
    elif MOCK not in os.environ:
        raise ConfigError("ttnn has no device description in this process.", "Run the job through run_isolated.")
    with ExitStack() as closing:
        if (fabric := to_ttnn.fabric_config(spec)) is not None:
            ttnn.set_fabric_config(fabric)
            closing.callback(ttnn.set_fabric_config, ttnn.FabricConfig.DISABLED)
        mesh = ttnn.open_mesh_device(**to_ttnn.open_arguments(config, l1_small_size))
        closing.callback(ttnn.close_mesh_device, mesh)
        yield mesh


def differences(mesh: Any, spec: DeviceSpec) -> list[str]:
    """What is otherwise on the opened system than its device file says, one sentence each."""
    grid, banks = mesh.compute_with_storage_grid_size(), mesh.dram_grid_size()
    pairs = {
        "architecture": (mesh.arch().name.lower(), spec.chip.arch.value),
        "number of chips": (mesh.get_num_devices(), spec.chips),
        "mesh": (list(mesh.shape), spec.mesh_shape),
        "compute grid": ([grid.x, grid.y], spec.grid),
        "number of DRAM banks": (banks.x * banks.y, spec.chip.dram_banks),
    }
    return [
        f"{spec.device_type}: the {what} is {here}, but the device file says {said}."
        for what, (here, said) in pairs.items()
        if here != said
    ]


def captured(call: Callable[[], Any]) -> Captured:
    """What ttnn says of a call that makes ops: it checks them and lays out their buffers, and runs nothing."""
    import ttnn

    value, error = None, None
    ttnn.graph.begin_graph_capture(ttnn.graph.RunMode.NO_DISPATCH)
    try:
        value = call()
    except RuntimeError as refusal:
        error = own_words(str(refusal)) or "RuntimeError"
    except (TypeError, ValueError) as mismatch:  # this version of ttnn does not take what it was given
        error = f"{type(mismatch).__name__}: {own_words(str(mismatch))}"
    finally:
        trace = ttnn.graph.end_graph_capture()
    return Captured(value, _usage(ttnn.graph.extract_resource_usage_per_core(trace)), error)


def _usage(peak: Any) -> Usage:
    return Usage(
        circular_buffers=peak.peak_cb,
        tensors=peak.peak_l1,
        dataflow_buffers=peak.peak_dataflow_buffer,
        scratchpad=peak.peak_scratchpad,
        total=peak.peak_total,
    )
