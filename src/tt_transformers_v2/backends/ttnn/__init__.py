# SPDX-License-Identifier: Apache-2.0
"""The real ttnn library on a card. Today it looks for a card and says what is missing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import NoReturn

from ...hardware.errors import ConfigError
from ...hardware.schema import DeviceConfig


def open_ttnn(hardware: DeviceConfig) -> NoReturn:
    """Raises ConfigError: this release does not run models through ttnn yet, and says first what the machine lacks."""
    if importlib.util.find_spec("ttnn") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ConfigError(
            f"backend=ttnn needs the ttnn package, which is not installed (Python {version}).",
            "It has wheels for Python 3.10 and 3.12. Use backend=emulated.",
        )
    if not any(Path("/dev").glob("tenstorrent/*")):
        raise ConfigError(
            f"backend=ttnn needs a Tenstorrent card ({hardware.device_type} is configured), and this machine has none.",
            "Use backend=emulated.",
        )
    raise ConfigError("backend=ttnn does not run models in this release.", "Use backend=emulated.")
