# SPDX-License-Identifier: Apache-2.0
"""device=auto: this machine's own option, as ttnn sees it; no card is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tt_transformers_v2.backends.ttnn.process import isolated
from tt_transformers_v2.backends.ttnn.process.failures import TtnnFailure
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.run.this_machine import IDENTIFY, device_of, machine_device


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
        return {"cluster": "T3K", "arch": "wormhole_b0", "chips": 8}

    monkeypatch.setattr(isolated, "run_isolated", answers)
    assert check_overrides(["device=AUTO"], this_machine=machine_device).texts == ["device=t3k"]
    several = check_overrides(["seed=1", "device=auto,n150"], multirun=True, this_machine=machine_device)
    assert several.texts == ["seed=1", "device=t3k,n150"]
    assert calls == [IDENTIFY]
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
