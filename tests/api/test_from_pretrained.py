# SPDX-License-Identifier: Apache-2.0
"""ModelFactory.from_pretrained: from a model's files to logits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from family_gguf import write_family
from tiny_gguf import write_gguf

from places import DATA
from tt_transformers_v2 import ModelFactory
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware import AutoHardwareConfig

FAMILIES = DATA / "families"


def expected(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(FAMILIES / name / "expected.npz") as arrays:
        return torch.from_numpy(arrays["ids"])[None], torch.from_numpy(arrays["logits"])


@pytest.mark.parametrize("name", ["gemma3", "gpt_oss_mxfp4", "qwen3_moe"])
def test_a_folder_gives_transformers_logits(name: str) -> None:
    ids, wanted = expected(name)
    model = ModelFactory.from_pretrained(FAMILIES / name, device="N150")
    assert model.hw_config.device_type == "N150"
    found = model(ids, backend="reference")[0]
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4
    assert model.tokenizer is None


def test_a_gguf_file_gives_the_same_and_emulates(tmp_path: Path) -> None:
    ids, wanted = expected("gemma3")
    file = write_family(tmp_path / "model.gguf", FAMILIES / "gemma3")
    model = ModelFactory.from_pretrained(str(file), device="N150", hw_mode="accuracy")
    assert model.hw_config.precision.mlp_weights == "BF16"
    assert float((model(ids, backend="reference")[0] - wanted).abs().max() / wanted.abs().max()) < 1e-4
    emulated = model(ids[:, :8])[0]
    assert 0 < float((emulated - wanted[:8]).abs().max() / wanted.abs().max()) < 0.1


def test_a_ready_configuration_is_taken_as_it_is(tmp_path: Path) -> None:
    hw_config = AutoHardwareConfig.from_device("N300", mode="performance")
    model = ModelFactory.from_pretrained(write_gguf(tmp_path / "model.gguf"), hw_config=hw_config)
    assert model.hw_config is hw_config
    assert model.tokenizer.decode(model.tokenizer.encode("hello")) == "hello"


def test_mistakes_are_told_before_anything_is_read() -> None:
    for both in ({}, {"device": "N150", "hw_config": AutoHardwareConfig.from_device("N150")}):
        with pytest.raises(ConfigError, match=r"from_pretrained takes either a device or an hw_config"):
            ModelFactory.from_pretrained("nowhere", **both)
    with pytest.raises(ConfigError, match=r"the model path nowhere does not exist"):
        ModelFactory.from_pretrained("nowhere", device="N150")
