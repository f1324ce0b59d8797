# SPDX-License-Identifier: Apache-2.0
"""task=preflight, for the runner."""

from __future__ import annotations

from ..common.terminal import ProgressLine
from ..config.experiment_schema import Task
from ..run.tasks import Job, Outcome, runs


@runs(Task.preflight)
def preflight_task(job: Job) -> Outcome:
    """The `preflight` section; a failure where ttnn refused an op."""
    from .preflight_result import failure_of, preflight_section

    with ProgressLine(f"preflight of {job.experiment.spec.name}", enabled=job.show_progress) as progress:
        section = preflight_section(job.experiment, progress.update)
    return Outcome({"preflight": section}, failure_of(section))
