# SPDX-License-Identifier: Apache-2.0
"""What the tests of the ttnn room share: described systems, and the device or simulator that this machine may have."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from where_to_run import Answer, Place, present, system, this_machines

from tt_transformers_v2.backends.ttnn.process.isolated import run_isolated
from tt_transformers_v2.config.conf_folders import read_yaml
from tt_transformers_v2.hardware.schema import DeviceSpec

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the tests' own; what one test has built, the next finds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def wheel() -> None:
    """Skips where ttnn has no wheel."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("ttnn has wheels for Linux on x86_64 only")
    if PYTHON not in read_yaml("ttnn/versions.yaml")["pythons"]:
        pytest.skip(f"ttnn has no wheel for Python {PYTHON}")


@pytest.fixture(scope="session")
def run(cache: Path, wheel: None) -> Callable[..., Answer]:
    """Runs a job on a described system, named or given: one of ttnn_jobs.py, or `module:function`."""

    def run(job: str, device: str | DeviceSpec = "N150", **payload: Any) -> Answer:
        options = {"timeout_s": 120.0, "cache": cache} | payload.pop("options", {})
        target = job if ":" in job else f"ttnn_jobs:{job}"
        return run_isolated(target, payload, device=system(device), mock=True, **options)

    return run


@pytest.fixture(scope="session")
def device(cache: Path, wheel: None) -> Place:
    """The card or simulator of this machine; skips where there is none."""
    missing = present()
    if missing:
        pytest.skip(missing)
    return this_machines(cache)


@pytest.fixture(params=["described", pytest.param("device", marks=pytest.mark.device)])
def place(request: pytest.FixtureRequest, cache: Path, wheel: None) -> Place:
    """A described N150, on which a test shows all but the numbers, and what this machine has, where it shows them."""
    if request.param == "device":
        return request.getfixturevalue("device")
    return Place(system("N150"), ("device=n150",), cache, real=False)
