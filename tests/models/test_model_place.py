# SPDX-License-Identifier: Apache-2.0
"""model.path=hub: a model of the hub's cache, looked up here and downloaded only when asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from test_open_model import cached

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.experiment_schema import ModelConfig
from tt_transformers_v2.models.model_place import hub_folder
from tt_transformers_v2.models.open_model import read_spec


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which nothing can be downloaded to."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_model_of_the_cache(hub: Path) -> None:
    model = cached(hub)
    folder = hub_folder("me/Tiny")
    assert Path(folder) == model / "snapshots" / "a1b2"
    assert read_spec(folder).name == "Tiny"
    assert ModelConfig("tiny", hf_id="me/Tiny", path="hub").files() == folder


def test_a_model_that_is_not_in_the_cache(hub: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        hub_folder("me/Absent")
    assert str(caught.value) == (
        "me/Absent is not in the Hugging Face cache of this machine. "
        "Add model.download=true to download it, or use model.path=DIR."
    )


@pytest.mark.parametrize("name", ["me/Absent", "no model's name"])
def test_what_cannot_be_downloaded_is_one_line(hub: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        hub_folder(name, download=True)
    assert name in str(caught.value)
    assert "model.path=DIR" in caught.value.hint
    assert len(str(caught.value).splitlines()) == 1


def test_only_with_download_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("huggingface_hub")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(package, "snapshot_download", lambda name, **how: asked.append(how) or name)
    ModelConfig("m", hf_id="me/Tiny", path="hub").files()
    ModelConfig("m", hf_id="me/Tiny", path="hub", download=True).files()
    assert [how["local_files_only"] for how in asked] == [True, False]
    assert not any(".bin" in pattern for pattern in asked[0]["allow_patterns"])


def test_a_name_is_needed_and_a_download_needs_the_hub() -> None:
    with pytest.raises(ConfigError, match=r"needs the model's name on the hub.*model\.hf_id=ORG/NAME"):
        ModelConfig("m", path="hub").files()
    with pytest.raises(ConfigError, match=r"model\.download=true needs model\.path=hub"):
        ModelConfig("m", path="somewhere", download=True).files()
    assert ModelConfig("m", path="somewhere").files() == "somewhere"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"needs the package huggingface_hub.*tt-transformers-v2\[hub\]"):
        hub_folder("me/Tiny")
