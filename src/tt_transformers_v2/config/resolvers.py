# SPDX-License-Identifier: Apache-2.0
"""What conf/config.yaml interpolates: where results go, what the groups offer, and how commands are called."""

from __future__ import annotations

import inspect
from typing import Any

from ..common.checkout import outputs_dir
from ..common.command_names import command
from .option_texts import listing


def register_resolvers() -> None:
    """Teaches OmegaConf the `${tt_outputs:}`, `${tt_groups:}` and `${tt_command:run}` of conf/config.yaml."""
    from omegaconf import OmegaConf

    # OmegaConf 2.4 warns of the older name; before it, the newer one means something else.
    renamed = "replace" in inspect.signature(OmegaConf.register_resolver).parameters
    register: Any = OmegaConf.register_resolver if renamed else OmegaConf.register_new_resolver
    register("tt_outputs", lambda: str(outputs_dir()), replace=True)
    register("tt_groups", listing, replace=True)
    register("tt_command", command, replace=True)
