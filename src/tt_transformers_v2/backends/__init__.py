# SPDX-License-Identifier: Apache-2.0
"""Where a model is computed: each backend implements models.decoder.Ops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from ..hardware.schema import DeviceConfig
    from ..models.decoder import Ops


def open_backend(name: str, hardware: DeviceConfig) -> Ops:
    """The backend `name` for a hardware configuration. Raises ConfigError when it cannot run here."""
    if name == "reference":
        from .reference import ReferenceOps

        return ReferenceOps()
    if name == "emulated":
        from .emulated.emulated_ops import EmulatedOps

        return EmulatedOps(hardware)
    if name == "ttnn":
        from .ttnn import open_ttnn

        return open_ttnn(hardware)
    raise ConfigError(f"no backend named {name!r}.", did_you_mean(name, ["emulated", "reference", "ttnn"], "backend="))
