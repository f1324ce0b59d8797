# SPDX-License-Identifier: Apache-2.0
"""A preflight where variables of a card are set, with the real ttnn."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from card_environment import SET_FOR_A_CARD
from tt_transformers_v2.commands import run as cli

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ttnn") is None, reason="ttnn is not installed: there is no wheel for this machine"
)


def result(folder: Path) -> dict[str, Any]:
    """result.json of a preflight of two chips, without how long it took."""
    assert cli.main(["task=preflight", "device=n300", "model=llama8b", f"hydra.run.dir={folder}"]) == 0
    found = json.loads((folder / "result.json").read_text())
    del found["seconds"], found["preflight"]["seconds"]
    return found


def test_what_is_set_for_a_card_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tt_transformers_v2.config.fitted_plans.outputs_dir", lambda: tmp_path / "outputs")
    alone = result(tmp_path / "alone")
    for name, value in (SET_FOR_A_CARD | {"TT_METAL_HOME": "/nonexistent"}).items():
        monkeypatch.setenv(name, value)
    assert result(tmp_path / "set") == alone
