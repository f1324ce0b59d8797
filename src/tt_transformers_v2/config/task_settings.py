# SPDX-License-Identifier: Apache-2.0
"""Settings that belong to some tasks, refused with others, so that none is ignored."""

from __future__ import annotations

from ..common.errors import ConfigError
from .experiment_schema import OF_WEIGHTS, SEARCHING, BackendName, ExperimentConfig, Task


def check_task(config: ExperimentConfig) -> None:
    """Raises ConfigError for a folder of calibrated weights that the task neither writes nor measures with."""
    task, quantize = config.task, config.quantize
    if task is Task.quantize:
        if quantize.weights:
            raise ConfigError("task=quantize writes weights and uses none.", "Set quantize.out, not quantize.weights.")
        if not quantize.out:
            raise ConfigError("task=quantize needs a folder to write.", "Add quantize.out=DIR.")
        if config.backend.name is not BackendName.emulated:
            raise ConfigError(
                f"task=quantize measures with backend=emulated, not {config.backend.name}.", "Leave backend unset."
            )
    elif quantize.out:
        raise ConfigError(f"quantize.out is set, but task={task} writes no weights.", "Add task=quantize.")
    elif quantize.calibrated and task in SEARCHING:
        raise ConfigError(
            f"quantize.calibrated is set, but task={task} chooses the layers itself.",
            "Set quantize.calibrated=null; search.rounding=[nearest,calibrated] is the choice.",
        )
    elif quantize.weights and task not in OF_WEIGHTS:
        raise ConfigError(
            f"quantize.weights is set, but task={task} measures nothing with them.",
            f"Use it with task={' or task='.join(map(str, OF_WEIGHTS))}, or model.path={quantize.weights} alone.",
        )
