# SPDX-License-Identifier: Apache-2.0
"""device=auto: which device this machine is, as ttnn sees it. Nothing here imports ttnn."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from ..common.errors import ConfigError
from ..config.device_presets import DevicePresets
from ..config.groups import device_types
from ..config.overrides import ThisMachine
from ..hardware.enums import DispatchCoreType
from ..hardware.schema import DeviceSpec

LOOK = "tt_transformers_v2.run.card_job:look"
LONGEST_LOOK = 120.0  # seconds
# ttnn's name of a kind of system -> the device type in capitals, where they are not alike.
CLUSTERS = {
    "GALAXY": "WH_GALAXY",
    "BLACKHOLE_GALAXY": "BH_GALAXY",
    "SIMULATOR_WORMHOLE_B0": "N150",
    "SIMULATOR_BLACKHOLE": "P150",  # with all of its DRAM banks, which a P100 has not
}


@lru_cache(maxsize=1)
def machine_device() -> ThisMachine:
    """The option of conf/device that this machine is and the grid it has where that is another, said on standard error.

    Asks ttnn in a process of its own, once: a simulator's chips have all their cores, a card's may have lost some.

    Raises ConfigError when the machine has neither a card nor a simulator, and when no device file describes it.
    """
    from ..backends.ttnn.process.availability import require_ttnn
    from ..backends.ttnn.process.failures import TtnnFailure
    from ..backends.ttnn.process.isolated import run_isolated

    instead = "Choose a device, such as device=n150."
    if not require_ttnn("device=auto", instead=instead).runs_programs:
        raise ConfigError("device=auto needs a card or a simulator, and this machine has none.", instead)
    some = DevicePresets.get_config("N150").spec  # the job opens what it finds, so any will do
    try:
        seen = run_isolated(LOOK, {}, device=some, mock=False, timeout_s=LONGEST_LOOK)
    except TtnnFailure as failure:
        said = f": {failure.said}" if failure.said else ""
        log = f" Full output: {failure.log}" if failure.log else ""
        raise ConfigError(
            f"device=auto: ttnn could not query this machine's cards{said}", f"Choose a device.{log}"
        ) from None
    kind = device_of(seen)
    option = device_types()[kind]
    own = grid_overrides(DevicePresets.get_config(kind).spec, seen["grid"])
    print(f"device=auto: this machine is {kind} ({' '.join((f'device={option}', *own))})", file=sys.stderr)
    if seen["grid"] is None:
        print(f"warning: ttnn could not open it to see its grid: {seen['why']}", file=sys.stderr)
    return ThisMachine(option, own)


def grid_overrides(spec: DeviceSpec, grid: list[int] | None) -> tuple[str, ...]:
    """What to type so that `spec` has the `grid` (columns, rows of cores for programs) that ttnn reports; None says
    nothing."""
    if grid is None or grid == spec.grid:
        return ()
    field = "compute_grid" if spec.dispatch_core_type is DispatchCoreType.WORKER else "compute_grid_eth"
    return (f"device.{field}=[{grid[0]},{grid[1]}]",)


def device_of(seen: dict[str, Any]) -> str:
    """The device type of a machine whose `cluster` (ttnn's name), `arch` and number of `chips` are given.

    Raises ConfigError when several device files or none describe it.
    """
    alike = []
    for kind in device_types():
        system = DevicePresets.get_config(kind).spec
        if (system.chip.arch.value, system.chips) == (seen["arch"], seen["chips"]):
            alike.append(kind)
    name = CLUSTERS.get(seen["cluster"], seen["cluster"].replace("_X", "X"))
    found = [kind for kind in alike if kind.upper() == name] or alike
    if len(found) == 1:
        return found[0]
    what = f"{seen['chips']} {seen['arch']} chips (ttnn calls them {seen['cluster']})"
    if not found:
        raise ConfigError(f"device=auto: no device file describes {what}.", "Choose the most similar device.")
    raise ConfigError(
        f"device=auto: {what} could be {' or '.join(found)}.", f"Choose one, such as device={device_types()[found[0]]}."
    )
