# SPDX-License-Identifier: Apache-2.0
"""The real ttnn library: on a card, or on the description of one that lets it check programs without running them.

Nothing here imports ttnn at import time; `isolated.run_isolated` does in a process of its own.
"""

from __future__ import annotations

from typing import NoReturn

from ...hardware.errors import ConfigError
from ...hardware.schema import DeviceConfig
from .availability import require_card


def open_ttnn(hardware: DeviceConfig) -> NoReturn:
    """Raises ConfigError: this release does not run models through ttnn yet, and says first what the machine lacks."""
    require_card("backend=ttnn", str(hardware.device_type))
    raise ConfigError("backend=ttnn does not run models in this release.", "Use backend=emulated.")
