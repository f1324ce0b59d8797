# SPDX-License-Identifier: Apache-2.0
"""A configuration that was chosen with calibrated weights, measured without them."""

from __future__ import annotations

from pathlib import Path

from .experiment_schema import OF_WEIGHTS, ExperimentConfig, Task
from .findings import Finding, Severity, declare, found
from .quantize_schema import RECORD

ID = "calibrated-weights-unused"
declare(
    ID,
    Severity.warning,
    "`quantize.calibrated`, as a search's tuning file has it, where quality is measured without `quantize.weights`",
)


def calibrated_weights_findings(config: ExperimentConfig) -> list[Finding]:
    """A warning where matrices are to be calibrated and the weights measured are the model's own."""
    settings, path = config.quantize, config.model.path
    if not settings.calibrated or settings.weights or config.task not in (*OF_WEIGHTS, Task.evaluate):
        return []
    if path is not None and (Path(path).expanduser() / RECORD).is_file():  # the calibrated folder as a model of its own
        return []
    what = f"quantize.calibrated names matrices in {', '.join(settings.calibrated)}, and none are calibrated here."
    why = "The model's own weights are packed, each value rounded to the nearest."
    fix = "Write the folder with task=quantize and the same tuning, then add quantize.weights=DIR."
    if config.task is Task.evaluate:
        fix = "Write the folder with task=quantize and the same tuning, then use it as model.path=DIR."
    return [found(ID, what, why, fix)]
