# SPDX-License-Identifier: Apache-2.0
"""What MLflow and TensorBoard are told, where they are installed; what is said where they are not."""

import importlib.util

import pytest
from sweeping import rows, sweep

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.sweep.trackers import figures, settings_of

INSTALLED = {name: importlib.util.find_spec(name) is not None for name in ("mlflow", "tensorboard")}


def test_a_row_gives_its_numbers_and_its_settings():
    row = {"job": "0_a", "workload.batch": "8", "status": "ok", "ttft_ms": 5, "fits": True, "kl_divergence": None}
    row |= {"config_hash": "abc", "error": None}
    assert figures(row) == {"ttft_ms": 5.0}
    assert settings_of(row) == {"workload.batch": "8", "config_hash": "abc"}


@pytest.mark.skipif(not INSTALLED["mlflow"], reason="mlflow is not installed")
def test_mlflow_has_a_run_for_each_job(tmp_path):
    from mlflow import MlflowClient

    assert sweep(tmp_path / "s", "workload.batch=1,8", "sweep.trackers=[mlflow]") == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 's' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("s").experiment_id])
    by_batch = {run.data.params["workload.batch"]: run for run in runs}
    for row in rows(tmp_path / "s"):
        run = by_batch[row["workload.batch"]]
        assert run.data.metrics["ttft_ms"] == pytest.approx(float(row["ttft_ms"]))
        assert run.info.status == "FINISHED"


@pytest.mark.skipif(not INSTALLED["tensorboard"], reason="tensorboard is not installed")
def test_tensorboard_has_the_figures_of_each_job(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert sweep(tmp_path / "s", "workload.batch=1,8", "sweep.trackers=[tensorboard]") == 0
    for row in rows(tmp_path / "s"):
        events = EventAccumulator(str(tmp_path / "s" / "tensorboard" / row["job"])).Reload()
        (scalar,) = events.Scalars("ttft_ms")
        assert scalar.value == pytest.approx(float(row["ttft_ms"]), rel=1e-5)


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_a_tracker_that_is_missing_is_said_before_jobs_run(tmp_path, monkeypatch, name):
    from tt_transformers_v2.sweep import trackers

    monkeypatch.setattr(trackers, "find_spec", lambda module: None)
    with pytest.raises(ConfigError, match=f"tt-transformers-v2.{name}"):
        sweep(tmp_path / "s", "workload.batch=1,8", f"sweep.trackers=[{name}]")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [(["sweep.trackers=[mlflo]"], "mlflow"), (["sweep.mlflow_uri=sqlite:///a.db"], "mlflow_uri requires")],
)
def test_bad_trackers_are_refused(tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        sweep(tmp_path / "s", "workload.batch=1,8", *overrides)
