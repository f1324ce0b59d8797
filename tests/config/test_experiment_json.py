# SPDX-License-Identifier: Apache-2.0
"""A resolved experiment travels to other processes as it is."""

import json
from pathlib import Path

import pytest

from places import DATA
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.experiment_json import _spec, from_sections, to_sections
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import plain, resolve
from tt_transformers_v2.models.huggingface import huggingface_spec
from tt_transformers_v2.run.performance import performance_section

LAYERS = "layers=[{select: '0..3, -1', precision: {mlp_weights: BF16}, compute: {ff2: {math_fidelity: HiFi4}}}]"


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["device=t3k", "precision=accuracy", "model=llama70b", "workload.batch=32"],
        ["model=phi3_mini", "compute.mlp.math_fidelity=HiFi2", LAYERS],
        ["model=qwen3_8b", "device=p150x4", "runtime.programs={ff2: {in0_block_w: 2}}", "workload.context=4096"],
        ["model=llama70b", "device=n150"],  # does not fit: findings of severity error
        ["task=search", "search.max_kl=0.1", "runtime.sampling=device", "model_rules=tttv2"],
    ],
    ids=" ".join,
)
def test_it_arrives_unchanged(overrides):
    checked = check_overrides(overrides)
    sent = resolve(compose(checked), checked.typed)
    arrived = from_sections(json.loads(json.dumps(to_sections(sent))))
    assert arrived.to_dict() == sent.to_dict()
    assert arrived.config_hash() == sent.config_hash()
    assert (arrived.config, arrived.hardware, arrived.spec) == (sent.config, sent.hardware, sent.spec)
    assert (arrived.findings, arrived.layers, arrived.typed) == (sent.findings, sent.layers, sent.typed)
    assert plain(arrived.effects) == plain(sent.effects)
    assert list(map(type, arrived.hardware.compute.values())) == list(map(type, sent.hardware.compute.values()))
    if not sent.errors:
        assert performance_section(arrived) == performance_section(sent)


def test_layers_that_are_alike_share_one_configuration_there_too():
    checked = check_overrides(["model=llama8b", LAYERS])
    sent = resolve(compose(checked), checked.typed)
    arrived = from_sections(to_sections(sent))
    assert set(arrived.hardware.layers) == set(sent.hardware.layers) == {0, 1, 2, 3, 31}
    assert len(set(map(id, arrived.hardware.layers.values()))) == len(set(map(id, sent.hardware.layers.values()))) < 5


@pytest.mark.parametrize("folder", sorted((DATA / "families").iterdir()), ids=lambda folder: folder.name)
def test_layers_of_every_kind_come_back(folder: Path) -> None:
    spec = huggingface_spec(folder)
    assert _spec(json.loads(json.dumps(plain(spec)))) == spec
