# SPDX-License-Identifier: Apache-2.0
"""The schema as Hydra knows it: `tt_transformers_v2/schema` in ConfigStore, for this application and any other."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from .experiment_schema import ExperimentConfig
from .quick_composition import SCHEMA


def store_schema() -> None:
    """Registers the schema; a second time changes nothing."""
    group, _, name = SCHEMA.partition("/")
    ConfigStore.instance().store(
        group=group, name=name, node=ExperimentConfig, package="_global_", provider="tt_transformers_v2"
    )
