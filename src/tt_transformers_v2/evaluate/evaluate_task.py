# SPDX-License-Identifier: Apache-2.0
"""task=evaluate, for the runner."""

from __future__ import annotations

from ..common.terminal import ProgressLine
from ..config.experiment_schema import Task
from ..run.tasks import Job, Outcome, runs


@runs(Task.evaluate)
def evaluate_task(job: Job) -> Outcome:
    """The `evaluation` section."""
    from .harness import evaluation_section, require_harness

    require_harness(job.experiment.config.evaluate)
    with ProgressLine(f"evaluation of {job.experiment.spec.name}", enabled=job.show_progress) as progress:
        return Outcome({"evaluation": evaluation_section(job.experiment, progress.update)})
