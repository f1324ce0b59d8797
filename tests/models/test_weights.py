# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of weights, and the synthetic ones."""

from __future__ import annotations

import math
import threading

import pytest
import torch

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models.decoder import each_layer
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


class Stored:
    """Weights that are noted as they are read: by which thread, and of which layer."""

    synthetic, basis, fingerprint = False, "stored", "stored"

    def __init__(self, damaged: str = "") -> None:
        self.spec = ModelSpec.uniform(300, 64, 4, 4, 128)
        self.read: list[tuple[str, int | None, bool]] = []
        self._own, self._damaged = SyntheticWeights(self.spec, 0), damaged

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        self.read.append((name, layer, threading.current_thread() is threading.main_thread()))
        if name == self._damaged and layer == 2:
            raise ConfigError("it is damaged.")
        return self._own.tensor(name, layer)


def test_what_a_layer_was_asked_for_is_read_of_the_next_but_one_and_once() -> None:
    source = Stored()
    for weights in each_layer(source, keep=True):
        for name in ("wqkv", "wo"):
            assert weights[name] is weights[name]
    assert sorted(source.read) == sorted(
        (name, layer, layer < 2) for name in ("wqkv", "wo") for layer in range(source.spec.num_layers)
    )


def test_layers_that_nothing_is_asked_of_are_not_read() -> None:
    source = Stored()
    assert len(list(each_layer(source, keep=True))) == source.spec.num_layers
    assert not source.read


def test_what_cannot_be_read_ahead_is_said_where_it_is_asked_for() -> None:
    layers = each_layer(Stored(damaged="wo"), keep=True)
    for layer in range(3):
        weights = next(layers)
        if layer < 2:
            assert weights["wo"].shape == (64, 64)
    with pytest.raises(ConfigError, match="damaged"):
        weights["wo"]
