# SPDX-License-Identifier: Apache-2.0
"""What the tests of the ttnn room share."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tt_transformers_v2.backends.ttnn.process.isolated import run_isolated
from tt_transformers_v2.config.conf_folders import read_yaml
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.hardware.schema import DeviceSpec

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the tests' own; what one test has built, the next finds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run(cache: Path) -> Callable[..., dict[str, Any]]:
    """Runs a job on a described system, named or given: one of ttnn_jobs.py, or `module:function`."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("ttnn has wheels for Linux on x86_64 only")
    if PYTHON not in read_yaml("ttnn/versions.yaml")["pythons"]:
        pytest.skip(f"ttnn has no wheel for Python {PYTHON}")

    def run(job: str, device: str | DeviceSpec = "N150", **payload: Any) -> dict[str, Any]:
        options = {"timeout_s": 120.0, "cache": cache} | payload.pop("options", {})
        target = job if ":" in job else f"ttnn_jobs:{job}"
        return run_isolated(target, payload, device=system(device), mock=True, **options)

    return run


def system(device: str | DeviceSpec) -> DeviceSpec:
    if isinstance(device, DeviceSpec):
        return device
    spec = DevicePresets.get_config(device).system
    assert spec is not None
    return spec
