# SPDX-License-Identifier: Apache-2.0
"""backend=ttnn as the user meets them, on this machine without a card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from places import ROOT
from tt_transformers_v2.backends.ttnn.process.availability import look_around
from tt_transformers_v2.commands.summary import _measured_lines, print_summary
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.experiment_json import from_sections
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import Experiment, resolve
from tt_transformers_v2.run import on_card
from tt_transformers_v2.run.on_card import beside_prediction, sections
from tt_transformers_v2.run.performance import performance_section
from tt_transformers_v2.run.runner import run

ACCURACY = {
    "numerics": "ttnn 0.81.1",
    "tensor_parallel": "as on the card",
    "confidence_interval": None,
    "by_phase": None,
    "by_text": None,
    "by_position": [],
    "below_bar": None,
    "basis": "measured on N150 through ttnn 0.81.1 against float32 reference",
    "weights": "real",
    "text": "text",
    "tokens": 64,
    "top1": 0.9,
    "top5": 1.0,
    "kl_divergence": 0.01,
    "pcc": 0.999,
    "next_token_top1": None,
    "modules": [],
}
MEASURED = {
    "basis": "measured on N150 through ttnn 0.81.1",
    "ttft_ms": 20.0,
    "decode_tokens_per_s_per_user": 50.0,
    "users": 1,
}


def experiment_of(*overrides: str) -> Experiment:
    checked = check_overrides(list(overrides))
    return resolve(compose(checked.texts), checked.typed)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "run.py"), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(look_around().runs_programs, reason="this machine has something to run programs on")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backend=ttnn"], "task=preflight" if look_around().package else "ttnn package, which is not installed"),
        (["device=auto"], "Choose a device, such as device=n150."),
    ],
)
def test_without_a_card_one_line_says_so(arguments: list[str], said: str) -> None:
    done = command(*arguments)
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert len(lines) == 1
    assert said in lines[0]


def test_without_a_card_no_result_is_left(no_card: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs a Tenstorrent card or a simulator \(N150"):
        run(experiment_of("backend=ttnn"), tmp_path, show_progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("override", ["runtime.sampling=device", "runtime.prefill=traced"])
def test_what_is_not_run_is_refused(override: str, card: None) -> None:
    with pytest.raises(ConfigError, match="backend=ttnn"):
        sections(experiment_of("device=t3k", "model=llama8b", "backend=ttnn", override), lambda *facts: None)


def test_a_run_on_a_card_writes_measured_beside_predicted(
    card: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started: dict[str, Any] = {}

    def answers(function: str, payload: dict[str, Any], *, on_progress: Any, **options: Any) -> dict[str, Any]:
        started.update(payload | options, function=function)
        on_progress({"stage": "tokens", "done": 1, "total": 2})
        on_progress({"warning": "cached weights wo.json are not used"})
        return {"accuracy": ACCURACY, "measured": MEASURED}

    monkeypatch.setattr(on_card, "run_isolated", answers)
    experiment = experiment_of("backend=ttnn", "workload.prompt_length=64")
    result = run(experiment, tmp_path, show_progress=False)
    assert (started["mock"], started["function"]) == (False, on_card.JOB)
    assert from_sections(started["experiment"]).config_hash() == experiment.config_hash()
    assert result["status"] == "ok"
    predicted = performance_section(experiment)
    measured = result["performance"].pop("measured")
    assert result["performance"] == predicted
    assert measured["measured_over_predicted"] == {
        name: pytest.approx(MEASURED[name] / predicted[name]) for name in ("ttft_ms", "decode_tokens_per_s_per_user")
    }
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["performance"]["measured"] == measured
    assert written["accuracy"] == ACCURACY
    print_summary(experiment, written, "result.json")
    out, err = capsys.readouterr()
    assert "50.0 tokens/s/user" in out
    assert "the prediction" in out
    assert err.splitlines() == ["warning: cached weights wo.json are not used"]


@pytest.mark.parametrize(
    ("ratio", "told"),
    [
        (1.234, "1.23 times the prediction"),
        (0.1, "0.10 times the prediction"),
        (0.0999, "1/10 of the prediction"),
        (0.004, "1/250 of the prediction"),
        (0.0000312, "1/32,051 of the prediction"),
        (12345.6, "12345.60 times the prediction"),
    ],
)
def test_a_ratio_is_told_so_that_it_can_be_read(ratio: float, told: str) -> None:
    """A simulator takes thousands of times as long as a card."""
    measured = MEASURED | {"measured_over_predicted": {"ttft_ms": ratio}}
    lines = dict(_measured_lines(measured))
    assert lines["TTFT"].endswith(f" ms, {told}")
    assert "prediction" not in lines["decode"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["memory.kv_cache_placement=L1"], "reads the KV cache from DRAM only"),
        (["runtime.dram_readers_per_bank=2"], "on Blackhole only"),
        (["model.head_dim=80"], "not whole tiles of 32"),
        (
            ["model.sliding_window=32", "runtime.programs.sdpa_decode.k_chunk_size=0"],
            "see positions after the current one",
        ),
        (["precision.embedding=BFP4"], "ttnn looks rows up in BF16"),
    ],
)
def test_what_fails_on_a_card_is_refused_there_and_a_warning_elsewhere(overrides: list[str], said: str) -> None:
    emulated = experiment_of(*overrides)
    assert any(said in str(finding) for finding in emulated.warnings)
    assert not emulated.errors
    on_card = experiment_of("backend=ttnn", *overrides)
    assert [said in str(finding) for finding in on_card.errors] == [True]
    assert str(on_card.errors[0]) in {str(finding) for finding in emulated.warnings}


@pytest.mark.parametrize(
    ("override", "stops"), [("memory.kv_cache_placement=L1", False), ("runtime.dram_readers_per_bank=2", True)]
)
def test_the_preflight_stops_at_what_ttnn_would_not_tell(override: str, stops: bool) -> None:
    assert bool(experiment_of("task=preflight", override).errors) == stops


def test_one_task_leaves_the_others_section_out() -> None:
    answer = {"accuracy": ACCURACY, "measured": None}
    assert beside_prediction(experiment_of("backend=ttnn", "task=accuracy"), answer) == {"accuracy": ACCURACY}
