# SPDX-License-Identifier: Apache-2.0
"""Going on with a sweep: what is missing runs, nothing runs twice, nothing is overwritten, edits reach no job."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sweeping import ROOT, left_over, lines, results, rows, run_sweep, sweep, table

from tt_transformers_v2.config.conf_folders import conf_dir, conf_dirs
from tt_transformers_v2.hardware import ConfigError
from tt_transformers_v2.sweep import engine, worker
from tt_transformers_v2.sweep import sweep_store as store
from tt_transformers_v2.sweep import sweep_tables as tables
from tt_transformers_v2.sweep.locks import job_lock

AXES = ("workload.batch=1,2,4,64", "device=n150,n300")


def inodes(folder):
    """Which file each result is: a result that is written again is another file."""
    return {path.parent.name: path.stat().st_ino for path in folder.glob("*/result.json")}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """An uninterrupted sweep."""
    folder = tmp_path_factory.mktemp("once") / "whole"
    assert sweep(folder, *AXES) == 0
    return folder


@pytest.fixture
def finished(once, tmp_path):
    """A copy of it, in `whole`: nothing in it says where it lies."""
    return Path(shutil.copytree(once, tmp_path / "whole"))


def test_the_same_command_in_the_same_folder_runs_only_what_is_missing(finished):
    whole, before = table(finished), inodes(finished)
    removed = sorted(before)[1]
    shutil.rmtree(finished / removed)
    assert sweep(finished, *AXES) == 0
    after = inodes(finished)
    assert {name: after[name] for name in before if name != removed} == {
        name: inode for name, inode in before.items() if name != removed
    }
    assert removed in after
    assert table(finished) == whole


def test_resuming_a_finished_sweep_runs_nothing_and_rebuilds_lost_tables(finished):
    whole, before = table(finished), inodes(finished)
    (finished / "results.csv").unlink()
    (finished / "results.jsonl").write_text('{"job": "torn')
    assert run_sweep([f"sweep.resume={finished}"], finished.parent / "unused") == 0
    assert inodes(finished) == before
    assert table(finished) == whole
    assert [line["job"] for line in lines(finished)] == [row["job"] for row in rows(finished)]
    assert not (finished.parent / "unused").exists()


def test_resume_last_takes_the_newest_sweep(finished):
    assert sweep(finished.parent / "newer", "seed=1,2") == 0
    shutil.rmtree(finished.parent / "newer" / sorted(inodes(finished.parent / "newer"))[0])
    assert run_sweep(["sweep.resume=last"], finished.parent / "unused") == 0
    assert len(results(finished.parent / "newer")) == 2


def test_an_interrupt_keeps_what_is_finished_and_leaves_nothing_half(tmp_path, interrupted_job, capsys):
    calls = interrupted_job(3)
    assert sweep(tmp_path, *AXES) == 130
    assert len(results(tmp_path)) == 2
    assert [row["status"] for row in rows(tmp_path) if row["status"] == "ok"] == ["ok", "ok"]
    assert f"sweep.resume={tmp_path}" in capsys.readouterr().err
    assert sweep(tmp_path, *AXES) == 0
    assert len(calls) == 3 + 4
    assert left_over(tmp_path) == []


def test_an_interrupt_between_a_result_and_its_row_loses_neither(tmp_path, monkeypatch, capsys):
    added = tables.Tables.add

    def interrupted(self, row):
        if row["job"].startswith("002"):
            raise KeyboardInterrupt
        added(self, row)

    monkeypatch.setattr(tables.Tables, "add", interrupted)
    assert sweep(tmp_path / "s", "seed=range(0,6)") == 130
    assert len(results(tmp_path / "s")) == 3
    assert [row["status"] for row in rows(tmp_path / "s")] == ["ok"] * 3
    assert "3 of 6 jobs done" in capsys.readouterr().out


def test_failed_jobs_run_again_only_on_request(tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        real = worker.run
        broken.setattr(worker, "run", lambda *a, **k: 1 / 0 if "device=n300" in a[2] else real(*a, **k))
        assert sweep(tmp_path, *AXES) == 1
    before = inodes(tmp_path)
    assert sweep(tmp_path, *AXES) == 1
    assert inodes(tmp_path) == before
    assert sweep(tmp_path, *AXES, "sweep.retry_failed=true") == 0
    assert [row["status"] for row in rows(tmp_path)].count("ok") == 6
    kept = [name for name in before if "n150" in name]
    assert {name: inodes(tmp_path)[name] for name in kept} == {name: before[name] for name in kept}


def refused(folder, *overrides):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "sweep.lock"}
    with pytest.raises(ConfigError) as error:
        sweep(folder, *overrides)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "sweep.lock"}
    assert before == after
    return str(error.value)


def test_another_sweep_does_not_go_into_the_same_folder(finished):
    assert "contains another sweep" in refused(finished, "workload.batch=1,2")
    assert "contains another sweep" in refused(finished, "workload.batch=8,16", f"sweep.resume={finished}")


def test_a_folder_that_is_no_sweep_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    assert "no sweep of this version" in refused(tmp_path, *AXES)
    with pytest.raises(ConfigError, match="is a file"):
        sweep(tmp_path / "precious.txt", *AXES)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 99}', "\x00\x01"])
def test_a_corrupt_result_is_named_and_nothing_overwritten(finished, content):
    path = next(finished.glob("*/result.json"))
    path.write_text(content)
    message = refused(finished, *AXES)
    assert str(path) in message
    assert "Remove it" in message


def test_the_result_of_another_configuration_is_refused(finished):
    first, second, *_ = sorted(finished.glob("*/result.json"))
    shutil.copy(first, second)
    assert "a different configuration" in refused(finished, *AXES)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("sweep.json", '{"plan_version": 99}'),
        ("sweep.json", "{"),
        ("sections.json", "{"),
        ("jobs.jsonl", '{"number": 0}\n'),
    ],
)
def test_a_folder_of_another_version_or_a_broken_plan_is_refused(finished, file, content):
    (finished / file).write_text(content)
    message = refused(finished, *AXES)
    assert str(finished) in message


def test_a_plan_that_was_cut_off_is_made_anew(finished):
    for path in [finished / "sweep.json", *finished.glob("0*/*"), *finished.glob("0*"), *finished.glob("results.*")]:
        path.unlink() if path.is_file() else path.rmdir()
    assert {path.name for path in finished.iterdir()} == {
        "sweep.lock",
        "jobs.jsonl",
        "sections.json",
        "frozen",
        "report.html",
    }
    assert sweep(finished, *AXES) == 0
    assert len(results(finished)) == 6


def test_two_sweeps_do_not_write_one_folder_and_a_dead_ones_lock_does_not_bar_it(finished, tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path\n"
            "from tt_transformers_v2.sweep.locks import sweep_lock\n"
            "with sweep_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)",
            str(finished),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        assert f"another sweep (process {holder.pid} on " in refused(finished, *AXES)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert sweep(finished, *AXES) == 0


def test_a_sweep_runs_on_a_file_system_without_locks(finished, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    shutil.rmtree(finished / sorted(inodes(finished))[0])
    assert sweep(finished, *AXES) == 0
    assert len(results(finished)) == 6
    assert left_over(finished) == []


def test_a_job_waits_for_the_worker_that_runs_it_until_that_ends_or_dies(tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from tt_transformers_v2.sweep.locks import job_lock\n"
        "with job_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    waited = threading.Event()

    def wait():
        with job_lock(tmp_path):
            waited.set()

    waiter = threading.Thread(target=wait)
    try:
        assert holder.stdout.readline() == "held\n"
        waiter.start()
        assert not waited.wait(0.3)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    waiter.join(10)
    assert waited.is_set()
    assert left_over(tmp_path) == []


def full_disk(descriptor, *rest):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_the_sweep_and_it_can_go_on(tmp_path, monkeypatch, finished):
    with monkeypatch.context() as full:
        # results.jsonl is the first to feel it.
        full.setattr(tables.os, "write", full_disk)
        with pytest.raises(ConfigError, match="No space left"):
            sweep(tmp_path / "s", *AXES)
    assert sweep(tmp_path / "s", *AXES) == 0
    assert table(tmp_path / "s") == table(finished)
    assert left_over(tmp_path / "s") == []


def test_a_result_that_cannot_be_written_is_no_failed_job(tmp_path, monkeypatch):
    from tt_transformers_v2.run import result_files as results_module
    from tt_transformers_v2.run import runner

    def unwritable(folder, result):
        with monkeypatch.context() as full:
            full.setattr(results_module.os, "fsync", full_disk)
            return results_module.write_result(folder, result)

    with monkeypatch.context() as full:
        full.setattr(runner, "write_result", unwritable)
        full.setattr(worker, "write_result", unwritable)
        with pytest.raises(ConfigError, match="No space left"):
            sweep(tmp_path, *AXES)
    assert results(tmp_path) == {}
    assert sweep(tmp_path, *AXES) == 0


def test_a_disk_full_while_planning_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "write_atomically", lambda *_, **__: full_disk(0))
    with pytest.raises(ConfigError, match="No space left"):
        sweep(tmp_path / "s", *AXES)
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_unwritable_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        sweep(tmp_path / "s", *AXES)


def test_a_folder_that_cannot_be_made():
    with pytest.raises(ConfigError, match="cannot write /proc/no/such"):
        sweep(engine.Path("/proc/no/such"), *AXES)


def test_a_worker_that_outlived_its_sweep_is_not_run_again(finished):
    plan = store.Store.open(finished)
    record = plan.record(0)
    conf = [str(path) for path in (finished / "frozen").iterdir()]
    task = worker.Task(record, str(finished / record["job"]), conf, plan.sweep["keys"])
    before = inodes(finished)
    assert worker.run_job(task).row["status"] == "ok"
    assert inodes(finished) == before


def test_a_job_that_is_no_longer_what_was_planned_fails_and_says_so(finished):
    plan = store.Store.open(finished)
    record = plan.record(0)
    shutil.rmtree(finished / record["job"])
    record["sections"]["config.workload"]["prompt_length"] += 1
    conf = [str(path) for path in (finished / "frozen").iterdir()]
    summary = worker.run_job(worker.Task(record, str(finished / record["job"]), conf, plan.sweep["keys"]))
    assert "no longer matches the plan" in summary.row["error"]


def test_editing_the_configuration_during_a_sweep_changes_no_later_job(tmp_path):
    """The package with a conf/ of its own: a device file and a rules file change while the second job runs."""
    copy = tmp_path / "package"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", copy / "conf")
    script = f"""
import sys
sys.path.insert(0, {str(copy / "src")!r})
from pathlib import Path
from tt_transformers_v2.report import write_report
from tt_transformers_v2.sweep import engine, worker
from tt_transformers_v2.config.conf_folders import conf_dir
assert conf_dir() == Path({str(copy / "conf")!r})
real, calls = worker.run, []
def editing(*arguments, **settings):
    calls.append(1)
    if len(calls) == int(sys.argv[2]):
        for name in ("workload/default.yaml", "model/llama1b.yaml", "rules/tttv1.yaml", "config.yaml"):
            path = Path({str(copy / "conf")!r}) / name
            path.write_text(path.read_text().replace("prompt_length: 128", "prompt_length: 4096")
                .replace("num_layers: 16", "num_layers: 3").replace("ff1_ff3: lofi", "ff1_ff3: hifi4")
                .replace("seed: 0", "seed: 99"))
    if len(calls) == int(sys.argv[3]):
        raise KeyboardInterrupt
    return real(*arguments, **settings)
worker.run = editing
axes = ["task=performance", "model=llama1b", "workload.batch=1,2,4,8"]
sys.exit(engine.run_sweep(axes, Path(sys.argv[1]), write_report))
"""

    def start(folder, edit_at, stop_at):
        command = [sys.executable, "-c", script, str(tmp_path / folder), str(edit_at), str(stop_at)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        return done.returncode, done.stderr

    assert start("calm", 0, 0)[0] == 0
    code, errors = start("edited", 2, 4)
    assert code == 130, errors
    code, errors = start("edited", 0, 0)  # the last job runs in another process, after the edit
    assert code == 0, errors
    assert table(tmp_path / "edited") == table(tmp_path / "calm")
    assert {r["config"]["seed"] for r in results(tmp_path / "edited").values()} == {0}
    assert start("later", 0, 0)[0] == 0
    config = next(iter(results(tmp_path / "later").values()))["config"]
    told = (config["seed"], config["workload"]["prompt_length"], config["compute"]["ff1_ff3"]["math_fidelity"])
    assert told == (99, 4096, "HiFi4"), "the edits reach a new sweep"


def test_the_usual_configuration_is_read_again_after_a_sweep(finished):
    assert conf_dirs() == (conf_dir(),)


def test_the_plan_can_be_read_without_the_package(finished):
    planned = [json.loads(line) for line in (finished / "jobs.jsonl").read_text().splitlines()]
    assert [record["status"] for record in planned] == ["planned"] * 6 + ["skipped"] * 2
    assert all(record["overrides"] and record["job"] for record in planned)
