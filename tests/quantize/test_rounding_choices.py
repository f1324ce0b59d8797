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
ORIGINAL = Settings(original_inputs=True)


@pytest.fixture
def windows():
    return torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(0))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_a_choice_keeps_its_bits_and_is_made_once(tiny_model, tmp_path, windows, monkeypatch):
    source = SafetensorsWeights(tiny_model)
    made = RoundingChoices(source, windows, tmp_path)
    wanted = {"w2": [BFP4, BFP8, HIGH], "wo": [BFP4]}
    assert made.make(2, wanted)
    assert not made.make(2, wanted)
    first = {(name, grid): made.weight(name, 2, grid) for name, grids in wanted.items() for grid in grids}
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


def test_a_whole_model_on_its_own_inputs_is_rounded_to_the_same_bits(tiny_model, tmp_path, windows):
    """And one whose layers see what others became is not, but for its first matrix."""
    source = SafetensorsWeights(tiny_model)
    tables = rounding_choices.rope_tables(source.spec, torch.arange(32))
    grids = {"wqkv": BFP4, "wo": BFP8, "w1": BFP4, "w3": BFP4, "w2": BFP4}
    choices = RoundingChoices(source, windows, tmp_path)
    x = dict.fromkeys((ORIGINAL, Settings()), torch.nn.functional.embedding(windows, source.tensor("embedding")))
    for layer in range(3):
        choices.make(layer, {name: [grid] for name, grid in grids.items()})
        for settings in x:
            whole = round_layer(source, layer, grids, x[settings], tables, settings)
            x[settings] = whole.output
            for name, grid in grids.items():
                same = torch.equal(choices.weight(name, layer, grid), whole.matrices[name])
                assert same == (settings == ORIGINAL or (layer, name) == (0, "wqkv"))


def test_a_walk_keeps_the_states_of_one_layer_and_goes_on_from_there_to_the_same_bits(
    tiny_model, tmp_path, windows, monkeypatch
):
    source, wanted = SafetensorsWeights(tiny_model), {"w2": [BFP4], "wqkv": [BFP8]}
    whole = RoundingChoices(source, windows, tmp_path / "whole")
    for layer in range(3):
        whole.make(layer, wanted)
        states = [name for name in files(tmp_path / "whole") if name.startswith("hidden")]
        assert states == [f"hidden-{layer + 1}.safetensors"] * (layer < 2)
    real, layers = rounding_choices.decoder_layer, []

    def counted(ops, spec, weights, *rest):
        layers.append(weights.layer)
        return real(ops, spec, weights, *rest)

    monkeypatch.setattr(rounding_choices, "decoder_layer", counted)

    def walk(folder):
        for layer in range(3):
            RoundingChoices(source, windows, folder).make(layer, wanted)

    save, saved = rounding_choices.save_tensors, []

    def killed(tensors, path, hint):
        saved.append(path)
        if len(saved) == kill:
            raise KeyboardInterrupt
        save(tensors, path, hint)

    for kill in range(1, 9):  # two matrices of each layer, and what the next begins with
        folder = tmp_path / f"{kill}"
        saved.clear()
        monkeypatch.setattr(rounding_choices, "save_tensors", killed)
        with pytest.raises(KeyboardInterrupt):
            walk(folder)
        monkeypatch.setattr(rounding_choices, "save_tensors", save)
        layers.clear()
        walk(folder)
        assert files(folder) == files(tmp_path / "whole")
        assert layers == list(range((kill - 1) // 3, 3))


def test_layers_may_be_asked_for_in_any_order(tiny_model, tmp_path, windows):
    source = SafetensorsWeights(tiny_model)
    forward, backward = (RoundingChoices(source, windows, tmp_path / name) for name in ("one", "two"))
    found = [forward.weight("w2", layer, BFP4) for layer in range(3)]
    for layer in (2, 0, 1):
        assert torch.equal(backward.weight("w2", layer, BFP4), found[layer])


def test_a_file_that_cannot_be_read_is_made_again(tiny_model, tmp_path, windows):
    choices = RoundingChoices(SafetensorsWeights(tiny_model), windows, tmp_path)
    found = choices.weight("w2", 1, BFP4)
    (broken,) = tmp_path.rglob("1-w2-*.safetensors")
    broken.write_bytes(b"no safetensors")
    assert torch.equal(choices.weight("w2", 1, BFP4), found)
