# SPDX-License-Identifier: Apache-2.0
"""Prefill chunks: the published table by name and by shape, and what follows where the asked context would not fit."""

from __future__ import annotations

import pytest

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import read_yaml
from tt_transformers_v2.config.groups import aliases, device_types
from tt_transformers_v2.config.model_rules import published_chunk
from tt_transformers_v2.config.model_shapes import LayerShape, described_spec
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.prediction.limits import context_limits


def experiment(*overrides):
    checked = check_overrides(overrides)
    return resolve(compose(checked.texts), checked.typed)


PUBLISHED = [
    (name, device, tokens)
    for name, row in read_yaml("rules/prefill_chunks.yaml").items()
    for device, tokens in row.items()
    if tokens is not None
]


@pytest.mark.parametrize("name", sorted({name for name, _, _ in PUBLISHED}))
def test_a_published_shape_has_its_chunk_under_any_name(name):
    option = aliases("model").get(name.casefold()) or aliases("model")[f"{name}-instruct".casefold()]
    alike = [n for n, _, _ in PUBLISHED if LayerShape.of(described_spec(n)) == LayerShape.of(described_spec(name))]
    for _, device, tokens in (each for each in PUBLISHED if each[0] == name):
        least = min(each[2] for each in PUBLISHED if each[0] in alike and each[1] == device)
        named = experiment(f"model={option}", f"device={device_types()[device]}")
        renamed = experiment(f"model={option}", f"device={device_types()[device]}", "model.name=mine")
        assert renamed.hardware.max_prefill_chunk_size == least <= tokens
        assert named.hardware.max_prefill_chunk_size == tokens


def test_a_chunk_by_shape_says_whose_it_is():
    effects = experiment("model=llama3_3_70b", "device=t3k").effects
    (said,) = [effect for effect in effects if effect.path == "device.max_prefill_chunk_size"]
    assert (said.rule, said.value) == ("prefill-chunk-table", 32768)
    assert said.why in (
        f"the published chunk of {name}, which has the same shape"
        for name in ("Llama-3.1-70B", "Llama-3.2-90B", "DeepSeek-R1-Distill-Llama-70B")
    )


def test_a_model_that_the_table_refuses_on_a_device_has_none_there():
    assert published_chunk(described_spec("Llama-3.1-70B"), "N150") is None
    assert published_chunk(described_spec("Llama-3.3-70B"), "N150") is None
    assert published_chunk(described_spec("SmolLM2-135M"), "N150") is None


def test_llama_3_3_70b_fits_a_t3k_with_131072_tokens_in_its_shipped_chunk():
    found = experiment("device=t3k", "model=llama3_3_70b", "workload.context=131072")
    assert found.errors == []
    assert found.hardware.max_prefill_chunk_size == 32768


@pytest.mark.parametrize("model", ["qwen3_14b", "mistral7b", "falcon3_7b", "ministral8b"])
@pytest.mark.parametrize("device", ["n150", "n300", "p150"])
def test_a_chunk_nobody_typed_never_is_what_does_not_fit(model, device):
    """Whatever context overflows with the chunk that is found overflows in chunks of 2048 too."""
    longest = experiment(f"model={model}").spec.max_context
    for context in (longest, longest // 2, longest // 4):
        asked = (f"model={model}", f"device={device}", f"workload.context={context}")
        ids = [finding.id for finding in experiment(*asked).errors]
        assert ids == [f.id for f in experiment(*asked, "device.max_prefill_chunk_size=2048").errors]


def test_the_longest_context_is_that_of_the_shortest_chunk():
    asked = ["device=n150", "model=llama3b", "precision=accuracy"]
    (one, *_) = context_limits(asked)
    typed = context_limits([*asked, "device.max_prefill_chunk_size=2048"])
    published = context_limits([*asked, "device.max_prefill_chunk_size=8192"])
    assert one.context == typed[0].context > published[0].context > 0
    assert one.answer.experiment.errors == []


def test_the_longest_context_is_below_one_that_ran_out_on_a_card():
    (one, *_) = context_limits(["device=n150", "model=llama8b"])
    assert 32768 < one.context < 65536
