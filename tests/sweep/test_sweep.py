# SPDX-License-Identifier: Apache-2.0
"""What a sweep runs, leaves out and leaves behind."""

import json
import shutil

import pytest
from sweeping import left_over, lines, results, rows, run_sweep, sweep, table

from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.hardware import ConfigError


def test_every_job_has_a_folder_named_by_number_values_and_hash_and_a_row(tmp_path):
    assert sweep(tmp_path, "device=n150,t3k", "workload.batch=1,2") == 0
    names = list(results(tmp_path))
    assert [name.rsplit("_", 1)[0] for name in names] == ["000_n150_1", "001_n150_2", "002_t3k_1", "003_t3k_2"]
    assert [name.rsplit("_", 1)[1] for name in names] == [r["config_hash"] for r in results(tmp_path).values()]
    assert [row["job"] for row in rows(tmp_path)] == names
    assert [row["job"] for row in lines(tmp_path)] == names
    assert {row["status"] for row in rows(tmp_path)} == {"ok"}
    assert [row["workload.batch"] for row in rows(tmp_path)] == ["1", "2", "1", "2"]
    assert left_over(tmp_path) == []


def test_a_sweep_gives_what_single_runs_give(tmp_path):
    from tt_transformers_v2.config.composition import compose
    from tt_transformers_v2.config.overrides import check_overrides
    from tt_transformers_v2.config.resolve import resolve
    from tt_transformers_v2.run.runner import run

    sweep(tmp_path / "sweep", "device=n150,t3k", "compute.mlp.math_fidelity=HiFi4")
    for result in results(tmp_path / "sweep").values():
        checked = check_overrides(result["overrides"])
        alone = run(resolve(compose(checked.texts), checked.typed), tmp_path, result["overrides"])
        for key in ("config", "config_hash", "performance", "findings", "rules"):
            assert result[key] == json.loads(json.dumps(alone[key])), key


def test_a_second_sweep_in_a_removed_folder_reads_its_own_files(tmp_path):
    own, folder = tmp_path / "conf", tmp_path / "sweep"
    (own / "workload").mkdir(parents=True)

    @in_own_context
    def contexts(context):
        (own / "workload" / "mine.yaml").write_text(f"defaults: [default]\ncontext: {context}\n")
        add_conf_dir(own)
        assert sweep(folder, "workload=mine", "workload.batch=1,2") == 0
        return {result["config"]["workload"]["context"] for result in results(folder).values()}

    assert contexts(1024) == {1024}
    shutil.rmtree(folder)
    assert contexts(2048) == {2048}


def test_settings_of_the_sweep_do_not_enter_the_configuration(tmp_path):
    sweep(tmp_path / "a", "workload.batch=1,2")
    sweep(tmp_path / "b", "workload.batch=1,2", "sweep.max_failures=3", "launcher.timeout_minutes=5")
    assert table(tmp_path / "a") == table(tmp_path / "b")
    assert all("sweep" not in result["config"] for result in results(tmp_path / "b").values())


def test_combinations_that_cannot_be_are_skipped_with_the_reason(tmp_path, capsys):
    assert sweep(tmp_path, "device=n150,p150x2", "model=llama1b,llama70b", "workload.batch=1,64") == 0
    by_job = {row["job"][:3]: row for row in rows(tmp_path)}
    assert by_job["000"]["status"] == "ok"
    assert by_job["001"]["status"] == "skipped"
    assert "32 users" in by_job["001"]["error"]
    assert "does not fit on N150" in by_job["002"]["error"]
    assert len(results(tmp_path)) == sum(row["status"] == "ok" for row in rows(tmp_path)) == 3
    assert "skipped 001" in capsys.readouterr().err


def sweep_refused(folder, *overrides):
    with pytest.raises(ConfigError) as refused:
        sweep(folder, *overrides)
    return str(refused.value)


def test_on_invalid_fail_runs_nothing_and_leaves_nothing(tmp_path):
    message = sweep_refused(tmp_path / "s", "workload.batch=1,64,128", "sweep.on_invalid=fail")
    assert "2 of 3 jobs are invalid" in message
    assert "workload.batch=64" in message
    assert not (tmp_path / "s").exists()


def test_a_sweep_of_which_nothing_can_be_is_a_mistake(tmp_path):
    message = sweep_refused(tmp_path / "s", "workload.batch=64,128")
    assert "no valid jobs" in message
    assert not (tmp_path / "s").exists()


def test_a_folder_of_the_users_survives_a_refused_sweep(tmp_path):
    sweep_refused(tmp_path, "workload.batch=64,128")
    assert tmp_path.exists() is False or list(tmp_path.iterdir()) == []


def test_equal_configurations_run_once(tmp_path, capsys):
    assert sweep(tmp_path, "device=n150,N150", "workload.batch=1,2") == 0
    assert [row["status"] for row in rows(tmp_path)] == ["ok", "ok", "skipped", "skipped"]
    assert rows(tmp_path)[2]["error"] == f"the same configuration as {rows(tmp_path)[0]['job']}"
    assert len(results(tmp_path)) == 2
    assert "left out 2 duplicates" in capsys.readouterr().err


def test_a_failed_job_stops_no_other_and_is_said_at_once_with_its_log(tmp_path, broken_job, capsys):
    broken_job("workload.batch=2")
    assert sweep(tmp_path, "workload.batch=1,2,3") == 1
    assert [row["status"] for row in rows(tmp_path)] == ["ok", "failed", "ok"]
    name = rows(tmp_path)[1]["job"]
    assert results(tmp_path)[name]["error"] == "RuntimeError: a mistake of ours"
    assert results(tmp_path)[name]["config"]["workload"]["batch"] == 2
    log = tmp_path / name / "run.log"
    assert "Traceback" in log.read_text()
    said = capsys.readouterr().err
    assert f"failed: {name}: RuntimeError: a mistake of ours" in said
    assert str(log) in said


def test_max_failures_stops_the_rest(tmp_path, broken_job, capsys):
    broken_job("task=performance")
    assert sweep(tmp_path, "workload.batch=1,2,3,4", "sweep.max_failures=2") == 1
    assert len(results(tmp_path)) == 2
    assert "stopped after 2 failed jobs" in capsys.readouterr().err
    assert sweep(tmp_path, "workload.batch=1,2,3,4") == 1
    assert len(results(tmp_path)) == 4


def test_a_job_that_takes_too_long_fails(tmp_path, monkeypatch):
    import time

    from tt_transformers_v2.sweep import worker

    monkeypatch.setattr(worker, "run", lambda *_, **__: time.sleep(30))
    assert sweep(tmp_path, "workload.batch=1", "launcher.timeout_minutes=0.002") == 1
    assert "not finished within 0.002 minutes" in rows(tmp_path)[0]["error"]


def test_pairs_of_the_command_line(tmp_path):
    pairs = "sweep.pairs=[{device: n150, model: llama8b}, {device: t3k, model: llama70b}]"
    assert run_sweep(["task=performance", pairs, "precision=accuracy,performance"], tmp_path) == 0
    found = [(row["device"], row["model"], row["precision"]) for row in rows(tmp_path)]
    assert found == [
        ("n150", "llama8b", "accuracy"),
        ("n150", "llama8b", "performance"),
        ("t3k", "llama70b", "accuracy"),
        ("t3k", "llama70b", "performance"),
    ]


def test_interpolation_between_values_is_composed_by_hydra_and_frozen(tmp_path):
    assert sweep(tmp_path, "workload.prompt_length=128,256", "workload.context=${workload.prompt_length}") == 0
    contexts = [result["config"]["workload"]["context"] for result in results(tmp_path).values()]
    assert contexts == [128, 256]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sweep.on_invalid=skip,fail", "seed=1,2"], "applies to the whole sweep"),
        (["launcher=in_process,joblib", "seed=1,2"], "applies to the whole sweep"),
        (["sweep.on_invalid=maybe"], "not a OnInvalid"),
        (["sweep.max_failures=0"], "at least 1"),
        (["sweep.maxfailures=1"], "Did you mean sweep.max_failures"),
        (["launcher=job_lib"], "Did you mean launcher=joblib"),
        (["launcher.workers=0"], "at least 1"),
        (["sweep.resume=/nowhere"], "is not a sweep"),
        (["sweep.resume=last"], "no sweep in"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_made(tmp_path, overrides, message):
    assert message in sweep_refused(tmp_path / "s", *overrides)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_sweep(tmp_path):
    with pytest.raises(ConfigError, match="nothing to sweep"):
        run_sweep([], tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named_with_the_command_that_brings_it(tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = sweep_refused(tmp_path / "s", "workload.batch=1,2", "launcher=joblib")
    assert "pip install 'tt-transformers-v2[joblib]'" in message
    assert list(tmp_path.iterdir()) == []
