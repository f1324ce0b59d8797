# SPDX-License-Identifier: Apache-2.0
"""Calibrated forms of single matrices: independent of each other, made once."""

import pytest
import torch

from tt_transformers_v2.models.huggingface import SafetensorsWeights
from tt_transformers_v2.numerics import quantize
from tt_transformers_v2.quantize import rounding_choices
from tt_transformers_v2.quantize.calibrated_layer import Settings, round_layer
from tt_transformers_v2.quantize.grid import Grid
from tt_transformers_v2.quantize.rounding_choices import RoundingChoices

BFP4, BFP8, HIGH = Grid("bfp4"), Grid("bfp8"), Grid("bfp8", high_only=True)


@pytest.fixture
def windows():
    return torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(0))


def test_a_choice_keeps_its_bits_and_is_made_once(tiny_model, tmp_path, windows, monkeypatch):
    source = SafetensorsWeights(tiny_model)
    made = RoundingChoices(source, windows, tmp_path)
    wanted = {"w2": [BFP4, BFP8, HIGH], "wqkv": [BFP4]}
    first = made.weights(2, wanted)
    assert len(first) == 4
    for (_, grid), weight in first.items():
        assert torch.equal(quantize(weight, grid.fmt), weight)
        assert torch.equal(grid.nearest(weight), weight)
    assert not torch.equal(first["w2", BFP8], first["w2", HIGH])
    monkeypatch.setattr(rounding_choices, "decoder_layer", None)  # nothing is computed any more
    again = RoundingChoices(source, windows, tmp_path)
    assert torch.equal(again.weight("w2", 2, BFP4), first["w2", BFP4])
    with pytest.raises(TypeError):
        RoundingChoices(source, windows, tmp_path, Settings(act_order=True)).weight("w2", 2, BFP4)
    with pytest.raises(TypeError):
        RoundingChoices(source, windows.flip(0), tmp_path).weight("w2", 2, BFP4)


def test_the_first_matrix_of_the_first_layer_is_as_in_a_whole_model(tiny_model, tmp_path, windows):
    """It has no other before it; later ones see the model's own weights here."""
    source = SafetensorsWeights(tiny_model)
    x = torch.nn.functional.embedding(windows, source.tensor("embedding"))
    tables = rounding_choices.rope_tables(source.spec, torch.arange(32))
    whole = round_layer(source, 0, {"wqkv": BFP4, "w2": BFP4}, x, tables, Settings())
    choices = RoundingChoices(source, windows, tmp_path).weights(0, {"wqkv": [BFP4], "w2": [BFP4]})
    assert torch.equal(choices["wqkv", BFP4], whole.matrices["wqkv"])
    assert not torch.equal(choices["w2", BFP4], whole.matrices["w2"])
