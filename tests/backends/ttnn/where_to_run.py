# SPDX-License-Identifier: Apache-2.0
"""Where the jobs of test_on_device.py run: on a described system, on a card, or on the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import places
from tt_transformers_v2.backends.ttnn.process import availability
from tt_transformers_v2.backends.ttnn.process.availability import SIMULATOR
from tt_transformers_v2.backends.ttnn.process.isolated import run_isolated
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.config.groups import device_types
from tt_transformers_v2.hardware.enums import DispatchCoreType
from tt_transformers_v2.hardware.schema import DeviceSpec
from tt_transformers_v2.run.this_machine import device_of

IDENTIFY = "tt_transformers_v2.run.card_job:identify"
LONGEST = 3600.0  # seconds of a job on a simulator, which computes a layer in minutes
NOTHING = f"no Tenstorrent device and {SIMULATOR} is not set"
SIMULATED = {"wormhole_b0": "N150", "blackhole": "P150"}  # the device files nearest to one simulated chip

Answer = dict[str, Any]


def system(device: str | DeviceSpec) -> DeviceSpec:
    if isinstance(device, DeviceSpec):
        return device
    spec = DevicePresets.get_config(device).system
    assert spec is not None
    return spec


@dataclass(frozen=True)
class Place:
    """A system that jobs run on. `real`: programs are run, on a card or on the simulator; else ttnn only checks them.

    `overrides` make an experiment for it. Every job gets a process, because ttnn opens one system per process.
    """

    spec: DeviceSpec
    overrides: tuple[str, ...]
    cache: Path
    real: bool

    def run(self, job: str, *overrides: str, **payload: Any) -> Answer:
        payload |= {"overrides": [*self.overrides, *overrides], "home": str(self.cache)}
        if not self.real:
            return run_isolated(job, payload, device=self.spec, mock=True, timeout_s=300.0, cache=self.cache)
        with simulator_visible():
            return run_isolated(job, payload, device=self.spec, mock=False, timeout_s=LONGEST, cache=self.cache)


@contextmanager
def simulator_visible() -> Iterator[None]:
    """The simulator that tests/conftest.py hides, in the environment again; nothing where there is none."""
    with pytest.MonkeyPatch.context() as patch:
        if places.SIMULATOR is not None:
            patch.setenv(SIMULATOR, places.SIMULATOR)
        yield


def present() -> str | None:
    """Why there is nothing to run programs on; None where there is a card or a simulator."""
    if places.SIMULATOR is not None and not Path(places.SIMULATOR).exists():
        return f"{SIMULATOR} names {places.SIMULATOR}, which does not exist"
    return None if availability.look_around().cards or places.SIMULATOR else NOTHING


def this_machines(cache: Path) -> Place:
    """The card or simulator of this machine, with the grid and the banks that it opens with.

    A simulated chip has all its cores, a real one those that were not harvested.
    """
    with simulator_visible():
        some = system("N150")  # the job opens nothing, so any will do
        seen = run_isolated(IDENTIFY, {}, device=some, mock=False, timeout_s=LONGEST, cache=cache)
        one_simulated = places.SIMULATOR is not None and seen["chips"] == 1
        kind = SIMULATED[seen["arch"]] if one_simulated else device_of(seen)
        spec = system(kind)
        opened = run_isolated("ttnn_device_jobs:opened", {}, device=spec, mock=False, timeout_s=LONGEST, cache=cache)
    grid = "compute_grid" if spec.dispatch_core_type is DispatchCoreType.WORKER else "compute_grid_eth"
    found = [f"device={device_types()[kind]}", f"device.{grid}={opened['grid']}"]
    return Place(spec, (*found, f"device.chip.dram_banks={opened['banks']}"), cache, real=True)
