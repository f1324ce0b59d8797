# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of weights, and the synthetic ones."""

from __future__ import annotations

import math

import pytest
import torch

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import (
    GLOBAL_TENSORS,
    SyntheticWeights,
    sampled_fingerprint,
    tensor_names,
    tensor_shape,
)

SPEC = ModelSpec.uniform(
    5000, 256, 3, 8, 512, num_kv_heads=2, head_dim=64, qkv_bias=True, qk_norm=True, tie_embeddings=True
)
PLAIN = ModelSpec.uniform(300, 64, 2, 4, 128)


def test_shapes_add_up_to_the_counted_parameters() -> None:
    for spec in (SPEC, PLAIN):
        per_layer = sum(math.prod(tensor_shape(spec, name, 0)) for name in tensor_names(spec))
        assert per_layer == spec.layer_parameters
        tables = [name for name in GLOBAL_TENSORS if not (spec.tie_embeddings and name == "lm_head")]
        total = sum(math.prod(tensor_shape(spec, name)) for name in tables) + spec.num_layers * per_layer
        assert total == spec.num_parameters


@pytest.mark.parametrize(
    ("name", "layer", "said"),
    [
        ("wqvk", 0, "Did you mean wqkv?"),
        ("bqkv", 0, "has no such tensor"),
        ("wo", None, "needs a layer from 0 to 1, not None"),
        ("wo", 2, "needs a layer from 0 to 1, not 2"),
        ("wo", -1, "not -1"),
        ("embedding", 0, "belongs to the whole model"),
    ],
)
def test_wrong_names_say_what_is_right(name: str, layer: int | None, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SyntheticWeights(PLAIN, 0).tensor(name, layer)
    assert said in str(caught.value)


def test_synthetic_tensors_depend_on_seed_name_and_layer_alone() -> None:
    one, other = SyntheticWeights(SPEC, 7), SyntheticWeights(SPEC, 7)
    places: list[tuple[str, int | None]] = [(name, i) for i in range(3) for name in tensor_names(SPEC)]
    places += [(name, None) for name in GLOBAL_TENSORS]
    first = {place: one.tensor(*place) for place in places}
    for place in reversed(places):
        assert torch.equal(other.tensor(*place), first[place]), place
        assert first[place].is_contiguous()
        assert first[place].dtype == torch.float32
        assert first[place].shape == tensor_shape(SPEC, *place)
    assert not torch.equal(first["wo", 0], first["wo", 1])
    assert not torch.equal(first["wo", 0], SyntheticWeights(SPEC, 8).tensor("wo", 0))
    assert not torch.equal(first["w1", 0], first["w3", 0])


def test_synthetic_scale() -> None:
    weights = SyntheticWeights(SPEC, 0)
    for name, deviation in (("wqkv", 256**-0.5), ("wo", 512**-0.5), ("w2", 512**-0.5), ("bqkv", 0.02)):
        assert float(weights.tensor(name, 0).std()) == pytest.approx(deviation, rel=0.06), name
    assert float(weights.tensor("embedding").std()) == pytest.approx(0.02, rel=0.01)
    assert bool((weights.tensor("q_norm", 1) == 1).all())
    assert torch.equal(weights.tensor("lm_head"), weights.tensor("embedding").T)
    assert float(SyntheticWeights(PLAIN, 0).tensor("lm_head").std()) == pytest.approx(1 / 8, rel=0.02)


def test_synthetic_says_so() -> None:
    weights = SyntheticWeights(SPEC, 3)
    assert weights.synthetic
    assert weights.basis == "synthetic weights (seed 3)"
    assert weights.fingerprint == SyntheticWeights(SPEC, 3).fingerprint
    assert weights.fingerprint != SyntheticWeights(SPEC, 4).fingerprint
    assert weights.fingerprint != SyntheticWeights(PLAIN, 3).fingerprint


def test_sampled_fingerprint_covers_header_size_and_end(tmp_path) -> None:
    path, content = tmp_path / "w", bytearray(1 << 20)

    def taken() -> str:
        path.write_bytes(content)
        return sampled_fingerprint([(path, 50_000)])

    seen = {taken()}
    for at in (0, 49_999, len(content) - 1):
        content[at] ^= 1
        seen.add(taken())
    content.append(0)
    seen.add(taken())
    assert len(seen) == 5
