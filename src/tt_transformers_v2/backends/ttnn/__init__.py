# SPDX-License-Identifier: Apache-2.0
"""The real ttnn library: on a card, or on the description of one that lets it check programs without running them.

Nothing here imports ttnn at import time; `isolated.run_isolated` does in a process of its own.
"""

from __future__ import annotations

from typing import NoReturn

from ...common.command_names import command
from ...common.errors import ConfigError
from ...hardware.schema import DeviceConfig
from .process.availability import require_card


def open_ttnn(hardware: DeviceConfig) -> NoReturn:
    """Raises ConfigError: says what the machine lacks, or what does run models on it.

    ttnn runs a whole experiment in a process of its own, not one op of a model in this one.
    """
    require_card("backend=ttnn", str(hardware.device_type))
    raise ConfigError(
        "Model.forward does not run on a card.",
        f"Run the experiment (`{command('run')} backend=ttnn`), or pass MultiHeadAttention an open device.",
    )
