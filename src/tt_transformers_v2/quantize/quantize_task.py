# SPDX-License-Identifier: Apache-2.0
"""task=quantize, for the runner."""

from __future__ import annotations

from ..common.terminal import ProgressLine
from ..config.experiment_schema import Task
from ..run.performance import performance_section
from ..run.tasks import Job, Outcome, runs


@runs(Task.quantize)
def quantize_task(job: Job) -> Outcome:
    """The `quantize` section, and `performance` of the configuration that the weights are for."""
    from .quantize_job import run_quantize

    experiment = job.experiment
    with ProgressLine(f"quantize of {experiment.spec.name}", enabled=job.show_progress) as progress:
        section = run_quantize(experiment, progress.update)
    return Outcome({"quantize": section, "performance": performance_section(experiment)})
