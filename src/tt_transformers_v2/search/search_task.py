# SPDX-License-Identifier: Apache-2.0
"""task=search and task=sensitivity, for the runner."""

from __future__ import annotations

from ..common.terminal import ProgressLine
from ..config.experiment_schema import Task
from ..run.performance import performance_section
from ..run.tasks import Job, Outcome, runs


@runs(Task.search, Task.sensitivity)
def search_task(job: Job) -> Outcome:
    """The `search` section, and `performance` of the configuration that the search started from."""
    from .search_job import run_search

    experiment = job.experiment
    with ProgressLine(f"{experiment.config.task} of {experiment.spec.name}", enabled=job.show_progress) as progress:
        section = run_search(experiment, job.folder, progress.update)
    return Outcome({"search": section, "performance": performance_section(experiment)})
