# SPDX-License-Identifier: Apache-2.0
"""What the real ttnn answers for models whose layers are of other kinds than Llama's."""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import Any

import pytest

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import Experiment, resolve
from tt_transformers_v2.preflight.preflight_result import failure_of, preflight_sections

PHASES = ("prefill", "decode")
# Device -> model -> ops that each phase has because of what its layers are.
MODELS: dict[str, dict[str, tuple[str, ...]]] = {
    "n300": {"gemma3_4b": ("gelu_tanh", "gelu_tanh_mul"), "smollm3_3b": ("silu_mul",)},
    "t3k": {
        "gpt_oss_20b": ("router topk", "router scatter", "o bias", "experts bias", "limited_mul", "gate clamp"),
        "qwen3_30b_a3b": ("router topk", "router softmax", "router div", "silu_mul"),
        "mixtral_8x7b": ("router slice", "router topk", "experts add"),
        "olmo3_1_32b": ("norm_all_heads slice", "norm_all_heads concat"),
        "exaone4_32b": ("rms_norm", "rope"),
        "phi4_mini": ("rope",),
        "gemma3_27b": ("gelu_tanh_mul",),
    },
}
needs_ttnn = pytest.mark.skipif(
    importlib.util.find_spec("ttnn") is None, reason="ttnn is not installed: there is no wheel for this machine"
)


@pytest.fixture(autouse=True)
def _in_own_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tt_transformers_v2.config.fitted_plans.outputs_dir", lambda: tmp_path / "outputs")


def experiment(*overrides: str) -> Experiment:
    checked = check_overrides([*overrides, "task=preflight"])
    return resolve(compose(checked.texts), checked.typed)


def ops_of(section: dict[str, Any], phase: str) -> Counter[str]:
    return Counter(row["op"] for row in section["ops"] if row["phase"] == phase)


@needs_ttnn
def test_two_of_many_experts_are_asked_about_and_the_others_are_named() -> None:
    (section,) = preflight_sections([experiment("device=t3k", "model=qwen3_30b_a3b", "model.num_layers=1")])
    assert isinstance(section, dict)
    assert failure_of(section) is None
    assert section["experts"] == [{"count": 128, "top_k": 8, "asked": 2}]
    assert any("every one of 128 experts is computed for every token, 16 times" in note for note in section["notes"])
    for phase in PHASES:
        found = ops_of(section, phase)
        assert (found["experts"], found["experts mul"], found["experts add"]) == (6, 2, 1)


@needs_ttnn
@pytest.mark.slow
@pytest.mark.parametrize("device", MODELS)
def test_ttnn_takes_every_op_of_models_of_all_kinds(device: str) -> None:
    models = MODELS[device]
    asked = [experiment(f"device={device}", f"model={model}") for model in models]
    for (model, ops), section in zip(models.items(), preflight_sections(asked), strict=True):
        assert not isinstance(section, ConfigError), section
        assert failure_of(section) is None, model
        for phase in PHASES:
            assert set(ops) <= set(ops_of(section, phase)), model


@needs_ttnn
@pytest.mark.slow
def test_later_chunks_of_a_prompt_are_taken_with_sinks_and_with_a_scale_of_their_own() -> None:
    long = ("workload.prompt_length=4096", "device.max_prefill_chunk_size=2048")
    asked = [experiment("device=t3k", f"model={model}", *long) for model in ("gpt_oss_20b", "gemma3_27b")]
    for section in preflight_sections(asked):
        assert not isinstance(section, ConfigError), section
        assert failure_of(section) is None
        assert {row["op"] for row in section["ops"] if row["part"].endswith("chunk 2")} >= {"sdpa"}
