# SPDX-License-Identifier: Apache-2.0
"""Sweeps as a user types them: whole processes, their exit codes and what they print; the plugin as Hydra finds it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from sweeping import ROOT, command_line, left_over, results, rows, table

from in_process import typed_here


def test_every_device_with_every_mode_and_three_models(tmp_path):
    done = command_line(
        "--multirun",
        "device=glob(*)",
        "precision=accuracy,performance",
        "model=llama1b,llama8b,llama70b",
        "task=performance",
        f"hydra.sweep.dir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path)
    assert len(found) == 14 * 2 * 3
    skipped = [row for row in found if row["status"] == "skipped"]
    assert {row["status"] for row in found} == {"ok", "skipped"}
    assert {row["model"] for row in skipped} == {"llama70b"}
    assert all("does not fit on" in row["error"] for row in skipped)
    assert "n150" in {row["device"] for row in skipped}
    assert "best" in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.startswith("│")]) == len(found) - len(skipped)


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["--multirun", "device=n150,n151"], 2, "Did you mean device=n150?"),
        (["--multirun", "device=glob(z*)"], 2, "matches no device"),
        (["--multirun", "workload.batch=64,128"], 2, "no valid jobs"),
        (["--multirun", "workload.batch=1,64", "sweep.on_invalid=fail"], 2, "1 of 2 jobs are invalid"),
        (["sweep.max_failures=2"], 2, "Add --multirun"),
        (["launcher=joblib"], 2, "Add --multirun"),
        (["--multirun", "seed=1,2", "hydra/launcher=basic", "hydra/sweeper=nosuch"], 2, "nosuch"),
    ],
)
def test_mistakes_are_answered_in_few_lines_and_leave_nothing(arguments, code, hint, tmp_path):
    words = [*arguments, "task=performance", f"hydra.sweep.dir={tmp_path / 's'}"]
    # The last is Hydra's own mistake: there a whole process shows that nothing of Hydra's is printed.
    done = command_line(*words) if hint == "nosuch" else typed_here([str(ROOT / "scripts/run.py"), *words], ROOT)
    assert done.returncode == code, done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_failed_job_gives_exit_code_1(tmp_path):
    done = command_line("--multirun", "model.package=no_such", "seed=1,2", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 1
    assert [row["status"] for row in rows(tmp_path)] == ["failed", "failed"]
    assert done.stderr.count("failed: ") == 2
    assert str(tmp_path / rows(tmp_path)[0]["job"] / "run.log") in done.stderr


def test_configuration_of_ones_own_and_a_folder_relative_to_where_one_is(tmp_path):
    (tmp_path / "mine" / "workload").mkdir(parents=True)
    (tmp_path / "mine" / "workload" / "long.yaml").write_text("prompt_length: 2048\n")
    done = command_line(
        "--config-dir",
        "mine",
        "--multirun",
        "workload=default,long",
        "workload.context=${workload.prompt_length}",
        "task=performance",
        "hydra.sweep.dir=here",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lengths = [result["config"]["workload"]["context"] for result in results(tmp_path / "here").values()]
    assert lengths == [128, 2048]


JOBS = 50  # of an interrupted sweep: they take seconds, and the interrupt comes after the first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_ends_with_130_and_goes_on_where_it_stopped(tmp_path, number):
    folder = tmp_path / "s"
    sweep = ["--multirun", f"seed=range(0,{JOBS})", "task=performance", f"hydra.sweep.dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "run.py"), *sweep],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A test run that a shell put into the background ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    finished = len(results(folder))
    assert 0 < finished < JOBS
    assert [row["status"] for row in rows(folder)] == ["ok"] * finished
    assert left_over(folder) == []
    done = command_line("--multirun", f"sweep.resume={folder}")
    assert done.returncode == 0, done.stderr
    assert len(table(folder)) == JOBS


def test_an_application_of_ones_own_is_told_that_this_sweeper_runs_experiments(tmp_path):
    application = tmp_path / "app.py"
    application.write_text(
        "import hydra\n"
        "from tt_transformers_v2.config.resolvers import register_resolvers\n"
        "register_resolvers()\n"
        f"@hydra.main(config_path={str(ROOT / 'conf')!r}, config_name='config', version_base='1.3')\n"
        "def main(cfg): print('job', cfg.device.device_type)\n"
        "main()\n"
    )
    command = [sys.executable, str(application), "--multirun", "device=n150,t3k", f"hydra.sweep.dir={tmp_path / 's'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Add hydra/sweeper=basic" in done.stderr
    done = subprocess.run([*command, "hydra/sweeper=basic"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "job T3K" in done.stdout
