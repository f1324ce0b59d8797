# SPDX-License-Identifier: Apache-2.0
"""Jobs in a process of their own: what comes back, also when it goes wrong, and what ttnn says of ops there."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from card_environment import SET_FOR_A_CARD
from tt_transformers_v2.backends.ttnn.process import availability, isolated
from tt_transformers_v2.backends.ttnn.process.failures import TtnnFailure
from tt_transformers_v2.backends.ttnn.process.isolated import run_isolated
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.device_presets import DevicePresets

Run = Callable[..., dict[str, Any]]

FF1_OF_8B = [32, 4096, 14336]
L1_OF_WORMHOLE = 1499136  # bytes


def gone(pid: int) -> bool:
    """Whether a process has ended, which takes a moment after a signal."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_the_result_and_progress_arrive_whatever_the_job_prints(run: Run, cache: Path) -> None:
    seen: list[dict[str, Any]] = []
    answer = run("echo", "T3K", steps=3, options={"on_progress": seen.append})
    assert answer["payload"] == {"steps": 3}
    assert (answer["device"], answer["mock"]) == ("T3K", True)
    assert answer["pid"] != os.getpid()
    assert seen == [{"step": 0}, {"step": 1}, {"step": 2}]
    assert not list((cache / "logs").glob("*echo*"))


def test_the_jobs_environment_is_the_descriptions_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TT_METAL_SIMULATOR", "/opt/sim")
    monkeypatch.setenv("TTNN_CONFIG_OVERRIDES", "{}")
    before = dict(os.environ)
    there = run("environment")
    assert dict(os.environ) == before
    assert "TT_METAL_SIMULATOR" not in there
    assert "TTNN_CONFIG_OVERRIDES" not in there
    assert there["TT_METAL_MOCK_CLUSTER_DESC_PATH"].endswith("cluster.yaml")
    assert there["TT_LOGGER_LEVEL"] == "off"


def test_nothing_that_is_set_for_a_card_reaches_a_described_system(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run("environment")
    chips = run("opens", "T3K")
    for name, value in SET_FOR_A_CARD.items():
        monkeypatch.setenv(name, value)
    there = run("environment")
    differing = {name for name in {*alone, *there} if alone.get(name) != there.get(name)}
    assert differing <= {"TT_METAL_LOGS_PATH", "TT_METAL_MOCK_CLUSTER_DESC_PATH"}  # a folder of each process's own
    assert run("opens", "T3K") == chips


@pytest.mark.parametrize("home", [None, ""])
def test_a_process_without_a_home_gets_one(run: Run, monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    """As services start; ttnn crashes without."""
    monkeypatch.setenv("HOME", "")
    if home is None:
        monkeypatch.delenv("HOME")
    assert Path(run("environment")["HOME"]).is_dir()
    assert run("opens", "N150")


def test_an_exception_becomes_ttnns_sentence_and_a_log(run: Run) -> None:
    message = "TT_FATAL @ /project/a.cpp:7: a == b\ninfo:\nthe shapes differ\nbacktrace:\n --- main"
    with pytest.raises(TtnnFailure, match=r"ttnn raised an error on N150: the shapes differ\. Full output") as refusal:
        run("raises", message=message)
    assert refusal.value.said == "the shapes differ"
    assert refusal.value.log is not None
    assert "Traceback" in refusal.value.log.read_text()


def test_a_users_mistake_stays_one(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"^seven is too many\. Try six\.$"):
        run("raises_a_users_mistake")


def test_an_abort_is_told_with_the_last_words(run: Run) -> None:
    with pytest.raises(TtnnFailure, match=r"crashed \(SIGABRT\), saying: the sky fell\."):
        run("aborts")


def test_an_end_without_a_result_is_told(run: Run) -> None:
    with pytest.raises(TtnnFailure, match="exited with status 3 and no result"):
        run("leaves")


def test_a_job_that_hangs_is_ended_with_all_it_started(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "GRACE", 0.2)
    seen: list[dict[str, Any]] = []
    start = time.monotonic()
    with pytest.raises(TtnnFailure, match="did not finish within 1 s"):
        run("hangs", options={"timeout_s": 1, "on_progress": seen.append})
    assert time.monotonic() - start < 5
    assert gone(seen[0]["sleeper"])


def test_an_interrupted_parent_ends_the_job(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "GRACE", 0.2)
    seen: list[int] = []

    def interrupt(progress: dict[str, Any]) -> None:
        seen.append(progress["sleeper"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("hangs", options={"on_progress": interrupt})
    assert gone(seen[0])


def test_without_a_description_a_card_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    without = dataclasses.replace(availability.look_around(), cards=(), simulator=None)
    monkeypatch.setattr(availability, "look_around", lambda: without)
    spec = DevicePresets.get_config("N150").system
    assert spec is not None
    with pytest.raises(ConfigError, match=r"needs (a Tenstorrent card or a simulator|the ttnn package)"):
        run_isolated("ttnn_jobs:opens", {}, device=spec, mock=False, timeout_s=60)


def test_ttnn_says_what_a_matmul_needs_on_a_core(run: Run) -> None:
    answer = run("linear", shape=FF1_OF_8B, weights="bfloat4_b")
    assert answer["error"] is None
    assert answer["shape"] == [1, 1, 32, 14336]
    assert 0 < answer["usage"]["total"] < L1_OF_WORMHOLE
    assert answer["usage"]["tensors"] == 32 * 14336 * 2 // 64  # the output, spread over 64 cores
    assert answer["usage"]["total"] >= answer["usage"]["tensors"] + answer["usage"]["dataflow_buffers"]


def test_ttnn_says_that_a_matmul_does_not_fit(run: Run) -> None:
    program = {
        "compute_with_storage_grid_size": [8, 4],
        "in0_block_w": 64,
        "out_subblock_h": 1,
        "out_subblock_w": 2,
        "per_core_M": 1,
        "per_core_N": 14,
        "fuse_batch": True,
        "fused_activation": None,
        "mcast_in0": True,
    }
    answer = run("linear", shape=FF1_OF_8B, weights="bfloat16", program=program)
    assert answer["shape"] is None
    assert answer["error"].startswith("Statically allocated")
    assert answer["error"].endswith(f"beyond max L1 size of {L1_OF_WORMHOLE} B")


def test_two_chips_exchange_what_they_hold(run: Run) -> None:
    answer = run("all_gather", "N300")
    assert (answer["shape"], answer["error"]) == ([1, 1, 32, 2048], None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TG", "WH_GALAXY", "BH_GALAXY"])
@pytest.mark.parametrize(("axis", "chips"), [(0, 8), (1, 4)])
def test_a_galaxy_exchanges_along_either_axis(run: Run, name: str, axis: int, chips: int) -> None:
    answer = run("all_gather", name, cluster_axis=axis)
    assert (answer["shape"], answer["error"]) == ([1, 1, 32, 1024 * chips], None)


def test_two_at_once_on_an_empty_cache_do_not_disturb_each_other(run: Run, tmp_path: Path) -> None:
    def linear(columns: int) -> dict[str, Any]:
        return run("linear", shape=[32, 1024, columns], weights="bfloat8_b", options={"cache": tmp_path})

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(linear, (1024, 1024)))
    assert [answer["error"] for answer in answers] == [None, None]
    assert answers[0]["usage"] == answers[1]["usage"]
