# SPDX-License-Identifier: Apache-2.0
"""Jobs that take their process down, as running out of memory or a crash in a compiled library does."""

import os
import signal

from tt_transformers_v2.sweep.worker import run_job


def run_or_die(task):
    """run_job, but the process of the job with seed=2 is killed."""
    if "seed=2" in task.record["overrides"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return run_job(task)


def run_chunk_or_die(tasks):
    return [run_or_die(task) for task in tasks]
