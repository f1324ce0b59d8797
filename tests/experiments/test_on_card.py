# SPDX-License-Identifier: Apache-2.0
"""backend=ttnn and device=auto as the user meets them, on this machine without a card."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tt_transformers_v2.backends.ttnn.process.availability import Availability, look_around
from tt_transformers_v2.backends.ttnn.process.failures import TtnnFailure
from tt_transformers_v2.commands.summary import print_summary
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import Experiment, resolve
from tt_transformers_v2.run import on_card
from tt_transformers_v2.run.on_card import beside_prediction, device_of, machine_device, sections
from tt_transformers_v2.run.performance import performance_section
from tt_transformers_v2.run.runner import run

ROOT = Path(__file__).parents[2]
WITH_CARD = Availability("0.81.1", Path("ttnn"), (Path("/dev/tenstorrent/0"),), None, None)
WITHOUT = dataclasses.replace(WITH_CARD, cards=())

ACCURACY = {
    "numerics": "ttnn 0.81.1",
    "tensor_parallel": "as the card has it",
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


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that seems to have a card."""
    monkeypatch.setattr("tt_transformers_v2.backends.ttnn.process.availability.look_around", lambda: WITH_CARD)
    machine_device.cache_clear()
    yield
    machine_device.cache_clear()


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tt_transformers_v2.backends.ttnn.process.availability.look_around", lambda: WITHOUT)
    machine_device.cache_clear()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "run.py"), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(look_around().runs_programs, reason="this machine has something to run programs on")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backend=ttnn"], "task=preflight" if look_around().package else "ttnn package, which is not installed"),
        (["device=auto"], "Name a device, such as device=n150."),
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


@pytest.mark.parametrize("override", ["runtime.sampling=device", "runtime.traced_prefill=true"])
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
    assert resolve(started["composed"], started["typed"]).config_hash() == experiment.config_hash()
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
    assert "times what was predicted" in out
    assert err.splitlines() == ["warning: cached weights wo.json are not used"]


def test_one_task_leaves_the_others_section_out() -> None:
    answer = {"accuracy": ACCURACY, "measured": None}
    assert beside_prediction(experiment_of("backend=ttnn", "task=accuracy"), answer) == {"accuracy": ACCURACY}


# device=auto


@pytest.mark.parametrize(
    ("cluster", "arch", "chips", "kind"),
    [
        ("N150", "wormhole_b0", 1, "N150"),
        ("N150", "wormhole_b0", 4, "N150x4"),
        ("T3K", "wormhole_b0", 8, "T3K"),
        ("GALAXY", "wormhole_b0", 32, "WH_GALAXY"),
        ("TG", "wormhole_b0", 32, "TG"),
        ("P150_X4", "blackhole", 4, "P150x4"),
        ("P300_X2", "blackhole", 4, "P300x2"),
        ("BLACKHOLE_GALAXY", "blackhole", 32, "BH_GALAXY"),
    ],
)
def test_a_machine_is_known_by_its_kind_and_chips(cluster: str, arch: str, chips: int, kind: str) -> None:
    assert device_of({"cluster": cluster, "arch": arch, "chips": chips}) == kind


def test_a_machine_of_several_names_is_asked_about() -> None:
    with pytest.raises(ConfigError, match=r"4 blackhole chips .* may be P150x4 or P300x2.*device=p150x4"):
        device_of({"cluster": "CUSTOM", "arch": "blackhole", "chips": 4})


def test_a_machine_that_no_file_describes_is_told() -> None:
    with pytest.raises(ConfigError, match="no device file describes 3 wormhole_b0 chips"):
        device_of({"cluster": "CUSTOM", "arch": "wormhole_b0", "chips": 3})


def test_auto_becomes_the_machines_own_option_and_is_said(
    card: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def answers(function: str, *args: Any, **options: Any) -> dict[str, Any]:
        calls.append(function)
        return {"cluster": "T3K", "arch": "wormhole_b0", "chips": 8}

    monkeypatch.setattr(on_card, "run_isolated", answers)
    assert check_overrides(["device=AUTO"]).texts == ["device=t3k"]
    assert check_overrides(["device=auto,n150"], multirun=True).texts == ["device=t3k,n150"]
    assert calls == [on_card.IDENTIFY]
    assert capsys.readouterr().err == "device=auto: this machine is T3K (device=t3k)\n"


def test_a_machine_that_ttnn_cannot_look_at_is_told(card: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **options: Any) -> dict[str, Any]:
        raise TtnnFailure("ttnn refused on N150: no driver", said="no driver", log=Path("/tmp/log"))

    monkeypatch.setattr(on_card, "run_isolated", fails)
    with pytest.raises(ConfigError, match=r"could not look at this machine's cards: no driver Name a device.*/tmp/log"):
        check_overrides(["device=auto"])


def test_without_a_card_auto_asks_for_a_name(no_card: None) -> None:
    with pytest.raises(ConfigError, match=r"device=auto needs a card .*device=n150"):
        check_overrides(["device=auto"])
