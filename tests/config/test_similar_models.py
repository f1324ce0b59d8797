# SPDX-License-Identifier: Apache-2.0
"""What is said for a model's name that there is none of."""

from __future__ import annotations

import pytest

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.groups import option
from tt_transformers_v2.config.refused_models import refused_names
from tt_transformers_v2.config.similar_models import nearest, suggestion

KNOWN = {
    "llama8b": "llama8b",
    "meta-llama/llama-3.1-8b-instruct": "llama8b",
    "qwen3_14b": "qwen3_14b",
    "qwen/qwen3-14b": "qwen3_14b",
    "phi4": "phi4",
}
REFUSED = ("gemma-3-1b-it", "gemma-3-27b-it", "Qwen3-30B-A3B")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gemma3_1b", "gemma-3-1b-it"),
        ("google/gemma-3-1b", "gemma-3-1b-it"),
        ("Llama-3.1-8B", "llama8b"),
        ("meta/llama3.1_8b-instruct", "llama8b"),
        ("qwen3-14", "qwen3_14b"),
        ("qwen3_30b", "Qwen3-30B-A3B"),
    ],
)
def test_the_most_similar_comes_first(name: str, found: str) -> None:
    assert nearest(name, KNOWN, REFUSED)[0] == found


def test_nothing_is_suggested_for_nothing_similar() -> None:
    assert nearest("zzz", KNOWN, REFUSED) == []
    assert suggestion("zzz", KNOWN) == "--help lists the models. Any other: model=hf model.path=DIR."


@pytest.mark.parametrize("name", ["lama8b", "Meta-Llama-3.1-8b-Instructt", "wonder", "Qwen2.5-7B-Chat"])
def test_every_suggestion_says_how_to_load_any_other(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        option("model", name)
    assert caught.value.message == f"no model named {name!r}."
    assert caught.value.hint.endswith("Any other: model=hf model.path=DIR.")
    assert len(str(caught.value)) < 300


def hint(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        option("model", name)
    return caught.value.hint


def test_hf_ids_count() -> None:
    assert "Did you mean model=llama8b" in hint("meta-llama/Llama-3.1-8B-Chat")
    assert "qwen2_5_7b" in hint("Qwen/Qwen2.5-7B-Chat")


def test_refused_models_are_suggested_as_such() -> None:
    name = refused_names()[0]
    found = hint(f"{name}x")
    assert found.startswith(name)
    assert "known but not supported." in found


def test_refused_names_match_whatever_separates() -> None:
    for name in refused_names():
        family, _, size = name.partition("-")
        for written in (name.replace("-", "_").lower(), name.replace(".", "_"), f"{family}{size}"):
            with pytest.raises(ConfigError, match="is known but not supported: "):
                option("model", written)
