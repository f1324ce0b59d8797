# SPDX-License-Identifier: Apache-2.0
"""Sweeps that Optuna steers, what a job returns to other sweepers, and results.parquet."""

import sys

import pytest
from sweeping import rows, sweep

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.sweep.samplers import best_trials, read_objectives

optuna = pytest.importorskip("optuna")

AXES = (
    "precision.mlp_weights=BF16,BFP8,BFP4",
    "precision.attention_weights=BF16,BFP8,BFP4",
    "compute.mlp.math_fidelity=LoFi,HiFi2,HiFi4",
    "workload.batch=1,8,32",
)
WANTED = (
    "sweep.sampler=optuna",
    "sweep.trials=15",
    "sweep.objectives=['max decode_tokens_per_s_per_user','min ttft_ms']",
)


def chosen(folder):
    return sorted(row["job"] for row in rows(folder) if row["status"] == "ok")


def test_optuna_runs_as_many_jobs_as_asked_and_finds_fast_ones(tmp_path):
    assert sweep(tmp_path / "some", *AXES, *WANTED) == 0
    assert sweep(tmp_path / "all", *AXES) == 0
    found, every = rows(tmp_path / "some"), rows(tmp_path / "all")
    ran = [row for row in found if row["status"] == "ok"]
    assert len(ran) == 15
    speeds = sorted(
        (float(row["decode_tokens_per_s_per_user"]) for row in every if row["status"] == "ok"), reverse=True
    )
    best = max(float(row["decode_tokens_per_s_per_user"]) for row in ran)
    assert best >= speeds[len(speeds) // 10]


def test_the_same_seed_chooses_the_same_jobs(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sweep(tmp_path / name, *AXES, *WANTED, f"sweep.seed={seed}")
    assert chosen(tmp_path / "a") == chosen(tmp_path / "b") != chosen(tmp_path / "c")


def test_a_resumed_sweep_goes_on_to_further_trials(tmp_path):
    sweep(tmp_path / "s", *AXES, *WANTED)
    first = set(chosen(tmp_path / "s"))
    assert sweep(tmp_path / "s", *AXES, *WANTED) == 0
    assert first < set(chosen(tmp_path / "s"))


def test_trials_end_where_combinations_do(tmp_path):
    assert sweep(tmp_path / "s", "workload.batch=1,8", "precision.mlp_weights=BFP8,BFP4", *WANTED) == 0
    assert len(chosen(tmp_path / "s")) == 4


def test_combinations_that_cannot_be_are_failed_trials(tmp_path):
    assert sweep(tmp_path / "s", "device=n150,t3k", "model=llama1b,llama70b", "workload.batch=1,2,3", *WANTED) == 0
    assert all("70b" not in job for job in chosen(tmp_path / "s") if "n150" in job)


def test_best_trials_are_those_that_nothing_beats():
    objectives = read_objectives(["max tokens_per_s", "min kl_divergence"])
    made = [
        {"status": "ok", "tokens_per_s": 3.0, "kl_divergence": 0.3},
        {"status": "ok", "tokens_per_s": 2.0, "kl_divergence": 0.1},
        {"status": "ok", "tokens_per_s": 1.0, "kl_divergence": 0.2},
        {"status": "failed", "tokens_per_s": 9.0, "kl_divergence": 0.0},
        {"status": "ok", "tokens_per_s": None, "kl_divergence": 0.0},
    ]
    assert best_trials(made, objectives) == made[:2]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["sweep.sampler=optuna"], "something to optimise"),
        (["sweep.objectives=['max kl_divergenc']"], "kl_divergence"),
        (["sweep.objectives=[kl_divergence]"], "not an objective"),
        (["sweep.sampler=optuno"], "optuna"),
        (["sweep.sampler=optuna", "sweep.trials=0"], "at least"),
    ],
)
def test_bad_settings_are_said_before_planning(tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        sweep(tmp_path / "s", *AXES, *overrides)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("module", "overrides"),
    [("optuna", list(WANTED)), ("pyarrow", ["sweep.parquet=true"])],
)
def test_a_missing_package_is_said_with_the_way_to_get_it(tmp_path, monkeypatch, module, overrides):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "pyarrow":
        import importlib.util

        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(ConfigError, match="pip install"):
        sweep(tmp_path / "s", *AXES, *overrides)


def test_parquet_has_the_rows_of_the_csv_with_their_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    sweep(tmp_path / "s", "workload.batch=1,8", "sweep.parquet=true")
    table = parquet.read_table(tmp_path / "s" / "results.parquet").to_pylist()
    for ours, theirs in zip(table, rows(tmp_path / "s"), strict=True):
        assert ours["job"] == theirs["job"]
        assert ours["decode_tokens_per_s_per_user"] == pytest.approx(float(theirs["decode_tokens_per_s_per_user"]))
        assert ours["error"] is None
