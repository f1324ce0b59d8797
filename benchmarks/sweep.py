#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a sweep adds to each job: python benchmarks/sweep.py [--jobs N].

Predictions are swept as whole processes. The overhead of a job is the process's time less that of a sweep of one job,
per further job, less the time the job itself takes (resolving the configuration and predicting it).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.run.performance import performance_section

ROOT = Path(__file__).resolve().parent.parent
JOB = ("task=performance", "model=llama1b")


def process_seconds(jobs: int, folder: Path) -> float:
    command = [
        sys.executable,
        str(ROOT / "scripts" / "run.py"),
        "--multirun",
        f"workload.prompt_length=range(128,{128 + jobs})",
    ]
    started = time.perf_counter()
    subprocess.run(
        [*command, *JOB, f"hydra.sweep.dir={folder / str(jobs)}"],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started


def job_seconds(repeats: int = 50) -> float:
    """A job without any sweep around it."""
    checked = check_overrides(list(JOB))
    started = 0.0
    for number in range(repeats + 5):
        if number == 5:
            started = time.perf_counter()
        performance_section(resolve(compose(checked.texts), checked.typed))
    return (time.perf_counter() - started) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs of the sweep")
    jobs = parser.parse_args().jobs
    alone = job_seconds()
    with tempfile.TemporaryDirectory() as folder:
        one, many = (process_seconds(count, Path(folder)) for count in (1, jobs))
    each = (many - one) / (jobs - 1)
    print(
        f"{1e3 * each:.1f} ms a job, {1e3 * (each - alone):.1f} ms of it overhead; the job alone {1e3 * alone:.1f} ms"
    )


if __name__ == "__main__":
    main()
