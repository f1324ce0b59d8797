# SPDX-License-Identifier: Apache-2.0
"""Sweeps that are killed at random moments, and a very long one. Minutes long: pytest -m slow."""

import random
import re
import shutil
import subprocess
import sys
import time

import pytest
from sweeping import ROOT, command_line, left_over, lines, results, rows, table

from tt_transformers_v2.sweep.worker import LOG_FILE

pytestmark = pytest.mark.slow

SWEEPS, MOST_KILLS = 20, 6
AXES = ("device=n150,n300,t3k", "workload.batch=1,2,4,8", "precision=accuracy,performance")
COMMAND = ("--multirun", *AXES, "task=performance", "model=llama8b")


def start(folder, *more):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "run.py"), *COMMAND, *more, f"hydra.sweep.dir={folder}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def inodes(folder):
    return {path.parent.name: path.stat().st_ino for path in folder.glob("*/result.json")}


def uninterrupted(folder, launcher):
    """A whole sweep: its table, and how long it took in seconds."""
    started = time.monotonic()
    process = start(folder, f"launcher={launcher}")
    assert process.wait(timeout=120) == 0
    assert len(results(folder)) == 24
    return table(folder), time.monotonic() - started


@pytest.mark.parametrize("launcher", ["in_process", "joblib"])
def test_killed_and_resumed_sweeps_end_as_if_nothing_had_happened(tmp_path, launcher):
    expected, _ = uninterrupted(tmp_path / "plain", "in_process")
    _, seconds = uninterrupted(tmp_path / "whole", launcher)
    chance = random.Random(20)
    kills = interesting = 0
    for number in range(SWEEPS):
        folder = tmp_path / str(number)
        seen = {}
        for _ in range(MOST_KILLS):
            process = start(folder, f"launcher={launcher}")
            if chance.random() < 0.5:
                # Most of the time goes into starting Python; aim at planning and running.
                time.sleep(seconds * chance.uniform(0.3, 1.1))
            else:
                while process.poll() is None and len(inodes(folder)) == len(seen):
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.1))
            process.kill()
            if process.wait() == 0:
                break
            kills += 1
            now = inodes(folder)
            assert seen.items() <= now.items(), "a finished job was run again"
            interesting += len(now) > len(seen)
            seen = now
        process = start(folder, f"launcher={launcher}")
        assert process.wait(timeout=120) == 0
        assert seen.items() <= inodes(folder).items(), "a finished job was run again"
        assert table(folder) == expected
        assert [line["job"] for line in lines(folder)] == [row["job"] for row in expected]
        assert set(results(folder)) == {row["job"] for row in expected}
        assert left_over(folder) == []
        assert not list(folder.glob(f"*/{LOG_FILE}"))
        shutil.rmtree(folder)
    print(f"{launcher}: {SWEEPS} sweeps of {len(expected)} jobs, {kills} kills, {interesting} of them between two jobs")
    assert kills >= SWEEPS
    assert interesting >= SWEEPS // 2


def test_ten_thousand_predictions_in_one_sweep(tmp_path):
    """Under three minutes on two cores. The page at the end takes what memory there is beyond that of a small sweep."""

    def measured(jobs):
        folder = tmp_path / str(jobs)
        axes = (f"workload.prompt_length=range(128,{128 + jobs // 4})", "workload.batch=1,2,4,8")
        command = ("--multirun", *axes, "task=performance", "model=llama1b", f"hydra.sweep.dir={folder}")
        script = (
            "import resource, subprocess, sys, time; t = time.monotonic(); "
            "code = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL).returncode; "
            "print('measured', code, time.monotonic() - t, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        run = [sys.executable, "-c", script, str(ROOT / "scripts" / "run.py"), *command]
        done = subprocess.run(run, capture_output=True, text=True, timeout=900)
        code, seconds, kilobytes = re.search(r"measured (\S+) (\S+) (\S+)", done.stdout).groups()
        assert code == "0", done.stderr
        assert len(rows(folder)) == jobs
        return float(seconds), int(kilobytes) / 1024

    _, small = measured(400)
    seconds, large = measured(10_000)
    print(f"10,000 jobs in {seconds:.0f} s; {small:.0f} MB at 400 jobs, {large:.0f} MB at 10,000")
    assert seconds < 180
    assert large < small + 192


def test_the_benchmark_runs_and_finds_a_tenth_of_hydras_overhead():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "sweep.py"), "--jobs", "40"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"([\d.]+) times", done.stdout)[1]) >= 10


def test_the_command_line_resumes_after_a_kill_by_sweep_resume(tmp_path):
    process = start(tmp_path / "s")
    while not list((tmp_path / "s").glob("*/result.json")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = command_line("--multirun", f"sweep.resume={tmp_path / 's'}")
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "s")) == 24
