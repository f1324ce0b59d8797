# SPDX-License-Identifier: Apache-2.0
"""The sweeper that Hydra finds by its place; the work is done in tt_transformers_v2.sweep."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

_NAME = f"{__name__}.TTTransformersSweeper"
_OWN_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

ConfigStore.instance().store(
    group="hydra/sweeper", name="tt_transformers", node={"_target_": _NAME}, provider="tt_transformers_v2"
)


class TTTransformersSweeper(Sweeper):
    """Plans, checks and freezes every job, then runs them by the `launcher` group of the configuration."""

    def setup(self, *, hydra_context: Any, task_function: Callable[..., Any], config: DictConfig) -> None:
        """Keeps what Hydra hands over before `sweep`: its context, the configuration and the main function."""
        self.hydra_context = hydra_context
        self.config = config
        self.task_function = task_function

    def sweep(self, arguments: list[str]) -> None:
        """Runs the sweep that the overrides `arguments` ask for.

        Raises ConfigError for a mistake of the user's, and SystemExit with the exit code when a job failed or the sweep
        was interrupted: Hydra drops what a sweeper returns.
        """
        from pathlib import Path

        from tt_transformers_v2.common.errors import ConfigError
        from tt_transformers_v2.report import write_report
        from tt_transformers_v2.sweep.engine import run_sweep

        assert self.config is not None
        launcher = self.config.hydra.launcher
        if launcher is not None and launcher.get("_target_") != _OWN_LAUNCHER:
            raise ConfigError("this sweeper has its own launchers.", "Use launcher=joblib, not hydra/launcher=….")
        if not getattr(self.task_function, "runs_experiments", False):
            raise ConfigError(
                "this sweeper runs only tt_transformers_v2 experiments, not your own function.",
                "Add hydra/sweeper=basic.",
            )
        code = run_sweep(arguments, Path(str(self.config.hydra.sweep.dir)), write_report)
        if code:
            sys.exit(code)
