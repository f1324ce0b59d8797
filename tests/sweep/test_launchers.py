# SPDX-License-Identifier: Apache-2.0
"""Every launcher gives the same table, and a job that takes its process down fails alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dying
import pytest
from sweeping import ROOT, command_line, left_over, results, rows, sweep, table

from tt_transformers_v2.hardware import ConfigError
from tt_transformers_v2.sweep.launchers import with_joblib, with_submitit

pytest.importorskip("joblib")
pytest.importorskip("submitit")

AXES = ("workload.batch=1,2,64", "device=n150,n300")
LAUNCHERS = {
    "joblib": ["launcher=joblib"],
    "submitit_local": ["launcher=submitit_local", "launcher.jobs_per_task=3"],
}


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in_process")
    assert sweep(folder, *AXES) == 0
    return table(folder)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_workers_make_the_table_of_one_process(tmp_path, launcher, in_process):
    """As a user starts it, from another folder: workers find a package that only the script's own path shows."""
    done = command_line(
        "--multirun",
        *AXES,
        "task=performance",
        "model=llama1b",
        *LAUNCHERS[launcher],
        f"hydra.sweep.dir={tmp_path / 's'}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert [dict(sorted(row.items())) for row in table(tmp_path / "s")] == [
        dict(sorted(row.items())) for row in in_process
    ]
    assert left_over(tmp_path / "s") == []


def test_a_sweep_started_by_one_launcher_goes_on_by_another(tmp_path, in_process, interrupted_job):
    interrupted_job(3)
    assert sweep(tmp_path, *AXES) == 130
    assert sweep(tmp_path, *AXES, "launcher=joblib") == 0
    assert table(tmp_path) == in_process


# submitit waits 15 seconds for the results of a process that is gone.
@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_a_job_that_kills_its_process_fails_alone(tmp_path, launcher, monkeypatch):
    monkeypatch.setattr(with_joblib, "run_job", dying.run_or_die)
    monkeypatch.setattr(with_submitit, "run_chunk", dying.run_chunk_or_die)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    assert sweep(tmp_path, "seed=0,1,2,3,4,5", *LAUNCHERS[launcher]) == 1
    assert [row["status"] for row in rows(tmp_path)] == ["ok", "ok", "failed", "ok", "ok", "ok"]
    assert "the worker process died" in rows(tmp_path)[2]["error"]
    assert left_over(tmp_path) == []


def test_slurm_without_slurm_is_said_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="sbatch is not on the PATH"):
        sweep(tmp_path / "s", *AXES, "launcher=submitit_slurm")
    assert list(tmp_path.iterdir()) == []


SBATCH = """#!/bin/sh
# A stand-in for sbatch: remembers what it was given, starts the job and says a number.
echo "$@" >> {log}; script="$1"; cat "$script" >> {log}
grep -v '^#SBATCH' "$script" > "$script.sh"
SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=1 \\
  PATH={bin}:$PATH sh "$script.sh" >/dev/null 2>&1 &
echo "Submitted batch job 7"
"""


SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do case "$1" in --*=*|--unbuffered) shift;; *) shift 2;; esac; done
"$@"
"""


def test_what_slurm_is_asked_for(tmp_path, monkeypatch):
    """With stand-ins for sbatch, srun and sacct: the options of the sweep arrive, and so do the results."""
    tools, log = tmp_path / "bin", tmp_path / "log"
    tools.mkdir()
    for name, text in {
        "sbatch": SBATCH.format(log=log, bin=tools),
        "srun": SRUN,
        "sacct": "#!/bin/sh\necho 'JobID|State|NodeList'\necho '7|RUNNING|here'\n",
        "scancel": "#!/bin/sh\n",
    }.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    options = ["launcher.slurm={partition: long, account: mine}", "launcher.workers=1", "launcher.timeout_minutes=3"]
    assert sweep(tmp_path / "s", "seed=1,2", "launcher=submitit_slurm", *options) == 0
    assert len(results(tmp_path / "s")) == 2
    asked = log.read_text()
    for option in ("--partition=long", "--account=mine", "--cpus-per-task=4", "--mem=16GB", "--time=49"):
        assert f"#SBATCH {option}" in asked, asked


def test_workers_end_when_their_sweep_is_killed(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "run.py"), "--multirun", "seed=range(0,200)", "task=performance"]
    process = subprocess.Popen(
        [*command, "launcher=joblib", f"hydra.sweep.dir={tmp_path / 's'}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: len(list((tmp_path / "s").glob("*/result.json"))) > 2)
        workers = children_of(process.pid)
        assert len(workers) >= 2
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(alive(pid) for pid in workers))


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.1)


def children_of(pid):
    """Processes that `pid` has started and not yet seen end."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.slow
def test_ray_makes_the_table_of_one_process(tmp_path, in_process, monkeypatch):
    pytest.importorskip("ray")
    assert sweep(tmp_path / "s", *AXES, "launcher=ray") == 0
    assert table(tmp_path / "s") == in_process
    from tt_transformers_v2.sweep.launchers import with_ray

    monkeypatch.setattr(with_ray, "run_job", dying.run_or_die)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    assert sweep(tmp_path / "dying", "seed=0,1,2,3", "launcher=ray") == 1
    assert [row["status"] for row in rows(tmp_path / "dying")] == ["ok", "ok", "failed", "ok"]
