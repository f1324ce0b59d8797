# SPDX-License-Identifier: Apache-2.0
"""The sweeps of conf/experiment: every job of each can be, and each runs on a model small enough for a test."""

import math
import re

import pytest
from sweeping import ROOT, command_line, results, rows, run_sweep

from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.sweep.job_plan import plan_jobs
from tt_transformers_v2.sweep.request import read_request

JOBS = {
    "bfp4_by_layer": 8,
    "fidelity_by_op_group": 10,
    "kv_cache_formats": 6,
    "precision_over_devices": 2 * 3 * len(groups()["device"]),
}
SHAPE = {"hidden_dim": 64, "num_layers": 30, "num_heads": 2, "num_kv_heads": 1, "head_dim": 32, "vocab_size": 512}
TINY = [
    *(f"model.{key}={value}" for key, value in SHAPE.items()),
    "model.intermediate_dim=128",
    "model.package=null",
    "backend.numerics=fast",
]


@pytest.fixture
def one_thread():
    """Tiny products take longer to share out among threads than to compute."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def planned(name, *more):
    request = read_request([f"experiment={name}", *more])
    return list(plan_jobs(request.axes, math.prod(len(axis.points) for axis in request.axes)))


def test_every_named_sweep_is_known_here():
    assert set(groups()["experiment"]) == set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_its_jobs_differ_and_can_be(name):
    jobs = planned(name)
    assert len(jobs) == JOBS[name]
    left_out = {job.status: job.reason for job in jobs if job.status != "planned"}
    assert set(left_out) <= ({"skipped"} if name == "precision_over_devices" else set())
    assert all("does not fit" in reason for reason in left_out.values())


@pytest.mark.parametrize("name", JOBS)
def test_it_runs_in_a_small_form(name, tmp_path, one_thread):
    more = [*TINY, "workload.tokens=32", "workload.window=32"]
    if name == "precision_over_devices":
        more = ["model=llama1b", "device=n150,p150"]
    assert run_sweep([f"experiment={name}", *more], tmp_path) == 0
    assert {row["status"] for row in rows(tmp_path)} == {"ok"}
    figure = "decode_tokens_per_s_per_user" if name == "precision_over_devices" else "pcc"
    assert len({row[figure] for row in rows(tmp_path)}) > 1
    (hashes,) = {len({result["config_hash"] for result in results(tmp_path).values()})}
    assert hashes == len(rows(tmp_path))


@pytest.mark.parametrize("name", JOBS)
def test_its_file_and_the_page_say_how_to_run_it(name):
    command = f"python scripts/run.py --multirun experiment={name}"
    assert command in (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    assert re.search(rf"`{name}`", (ROOT / "docs" / "sweeps.md").read_text())


def test_a_named_sweep_without_multirun_is_refused(tmp_path):
    done = command_line("experiment=kv_cache_formats", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "Add --multirun" in done.stderr
    assert not (tmp_path / "run").exists()
