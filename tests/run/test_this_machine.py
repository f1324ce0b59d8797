# SPDX-License-Identifier: Apache-2.0
"""device=auto: this machine's own option, as ttnn sees it; no card is needed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tt_transformers_v2.backends.ttnn.process import isolated
from tt_transformers_v2.backends.ttnn.process.failures import TtnnFailure
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.run.this_machine import LOOK, device_of, grid_overrides, machine_device


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
        ("SIMULATOR_WORMHOLE_B0", "wormhole_b0", 1, "N150"),
        ("SIMULATOR_BLACKHOLE", "blackhole", 1, "P150"),
    ],
)
def test_a_machine_is_known_by_its_kind_and_chips(cluster: str, arch: str, chips: int, kind: str) -> None:
    assert device_of({"cluster": cluster, "arch": arch, "chips": chips}) == kind


def test_a_machine_of_several_names_is_asked_about() -> None:
    with pytest.raises(ConfigError, match=r"4 blackhole chips .* could be P150x4 or P300x2.*device=p150x4"):
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
        return {"cluster": "T3K", "arch": "wormhole_b0", "chips": 8, "grid": [8, 7], "why": None}

    monkeypatch.setattr(isolated, "run_isolated", answers)
    assert check_overrides(["device=AUTO"], this_machine=machine_device).texts == ["device=t3k"]
    several = check_overrides(["seed=1", "device=auto,n150"], multirun=True, this_machine=machine_device)
    assert several.texts == ["seed=1", "device=t3k,n150"]
    assert calls == [LOOK]
    assert capsys.readouterr().err == "device=auto: this machine is T3K (device=t3k)\n"


def test_a_machine_that_ttnn_cannot_look_at_is_told(card: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **options: Any) -> dict[str, Any]:
        raise TtnnFailure("ttnn raised an error on N150: no driver", said="no driver", log=Path("/tmp/log"))

    monkeypatch.setattr(isolated, "run_isolated", fails)
    with pytest.raises(ConfigError, match=r"could not query this machine's cards: no driver Choose a device.*/tmp/log"):
        check_overrides(["device=auto"], this_machine=machine_device)


def test_without_a_card_auto_asks_for_a_name(no_card: None) -> None:
    with pytest.raises(ConfigError, match=r"device=auto needs a card .*device=n150"):
        check_overrides(["device=auto"], this_machine=machine_device)


def simulated(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """A simulator's chip with all its cores."""
    seen = {"cluster": "N150", "arch": "wormhole_b0", "chips": 1, "grid": [8, 9], "why": None} | more
    monkeypatch.setattr(isolated, "run_isolated", lambda *args, **options: seen)


def test_auto_takes_the_grid_that_the_machine_has(
    card: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated(monkeypatch)
    checked = check_overrides(["device=auto", "seed=1"], this_machine=machine_device)
    assert checked.texts == ["device=n150", "seed=1", "device.compute_grid=[8,9]"]
    assert "device.compute_grid" in checked.typed
    assert capsys.readouterr().err == ("device=auto: this machine is N150 (device=n150 device.compute_grid=[8,9])\n")
    assert resolve(compose(checked), checked.typed).hardware.spec.grid == [8, 9]


def test_a_typed_grid_wins_over_the_one_seen(card: None, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated(monkeypatch)
    typed = ["device.compute_grid=[8,4]", "device=auto"]
    assert check_overrides(typed, this_machine=machine_device).texts == ["device.compute_grid=[8,4]", "device=n150"]


def test_a_grid_of_this_machine_does_not_reach_the_other_devices_of_a_sweep(
    card: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated(monkeypatch)
    with pytest.raises(ConfigError, match=r"this machine needs device.compute_grid=\[8,9\].*Run device=auto by itself"):
        check_overrides(["device=auto,t3k"], multirun=True, this_machine=machine_device)
    alone = check_overrides(["device=auto", "seed=1,2"], multirun=True, this_machine=machine_device)
    assert alone.texts == ["device=n150", "seed=1,2", "device.compute_grid=[8,9]"]


def test_a_machine_that_cannot_be_opened_keeps_the_files_grid_and_says_so(
    card: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated(monkeypatch, grid=None, why="device is busy")
    assert check_overrides(["device=auto"], this_machine=machine_device).texts == ["device=n150"]
    assert "warning: ttnn could not open it to see its grid: device is busy" in capsys.readouterr().err


@pytest.mark.parametrize(("dispatch", "field"), [("WORKER", "compute_grid"), ("ETH", "compute_grid_eth")])
def test_the_grid_is_that_of_the_dispatch(dispatch: str, field: str) -> None:
    spec = dataclasses.replace(DevicePresets.get_config("T3K").spec, dispatch_core_type=dispatch)
    assert grid_overrides(spec, spec.grid) == grid_overrides(spec, None) == ()
    assert grid_overrides(spec, [8, 9]) == (f"device.{field}=[8,9]",)
