# SPDX-License-Identifier: Apache-2.0
"""A folder of changed weights: what was put in comes out, whatever the family stores fused, folded or in its order."""

import json

import pytest
import torch
from family_gguf import write_family
from safetensors.torch import load_file, save_file
from tiny_gguf import write_gguf

from places import DATA
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models.gguf_weights import GgufWeights
from tt_transformers_v2.models.huggingface import SafetensorsWeights
from tt_transformers_v2.models.stored_model import StoredModel
from tt_transformers_v2.models.weights import every_tensor, layer_tensors

FOLDERS = sorted([*(DATA / "families").iterdir(), *DATA.glob("hf_*")])


def written(source, place, folder, matrices):
    """Writes the model with `matrices` by layer and name, and opens it."""
    scratch = folder / "scratch"
    scratch.mkdir()
    model = StoredModel(source, place, scratch)
    tensors = {}
    for layer in range(source.spec.num_layers):
        own = {name: x for (name, where), x in matrices.items() if where == layer}
        tensors |= model.tensors(model.of_layer(layer), layer, own)
    tensors |= model.tensors(model.of_model(), None, {})
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config_json))
    return SafetensorsWeights(folder), tensors


def halves(source):
    """Every matrix of every layer as values that bfloat16 holds, each another's half."""
    return {
        (name, layer): (source.tensor(name, layer) / 2).bfloat16().float()
        for layer in range(source.spec.num_layers)
        for name, shape in layer_tensors(source.spec, layer).items()
        if len(shape) == 2
    }


def exact(source, place, scratch):
    model, refused = StoredModel(source, place, scratch), set()
    for layer in range(source.spec.num_layers):
        for name, shape in layer_tensors(source.spec, layer).items():
            if len(shape) == 2:
                try:
                    model.check_exact(name)
                except ConfigError:
                    refused.add(name)
    return refused


@pytest.mark.parametrize("place", FOLDERS, ids=lambda path: path.name)
def test_changed_matrices_come_back_bit_for_bit_and_others_stay(place, tmp_path):
    source = SafetensorsWeights(place)
    if any(name.endswith("_blocks") for name in source.stored_shapes()):
        with pytest.raises(ConfigError, match="MXFP4"):
            StoredModel(source, place, tmp_path)
        return
    refused = exact(source, place, tmp_path)
    assert not refused or "granite" in place.name
    new = {key: x for key, x in halves(source).items() if key[0] not in refused}
    folder, tensors = written(source, place, tmp_path, new)
    for name, layer in every_tensor(source.spec):
        expected = new.get((name, layer))
        if expected is None:
            continue
        assert torch.equal(folder.tensor(name, layer), expected), (name, layer)
    # What was not changed has the stored bits, whatever is folded into it when it is read.
    stored = {name: x for path in place.glob("model*.safetensors") for name, x in load_file(path).items()}
    assert stored.keys() == tensors.keys()
    changed = {name for name in stored if not torch.equal(tensors[name], stored[name].bfloat16())}
    assert 0 < len(changed) <= len(new) * 3


def test_a_gguf_file_becomes_the_folder_of_its_family(tmp_path):
    place = write_gguf(tmp_path / "model.gguf")
    source = GgufWeights(place)
    (tmp_path / "out").mkdir()
    new = halves(source)
    folder, _ = written(source, place, tmp_path / "out", new)
    assert all(torch.equal(folder.tensor(name, layer), x) for (name, layer), x in new.items())
    for name in ("embedding", "final_norm"):
        assert torch.equal(folder.tensor(name), source.tensor(name).bfloat16().float())
    assert folder.spec.layer_counts == source.spec.layer_counts


def test_a_multiplier_that_would_round_again_is_refused(tmp_path):
    place = DATA / "families" / "granite"
    model = StoredModel(SafetensorsWeights(place), place, tmp_path)
    model.check_exact("w1")
    with pytest.raises(ConfigError, match="granite multiplies w2 by 0") as error:
        model.check_exact("w2")
    assert "BF16" in error.value.hint


def test_the_tokenizer_of_a_gguf_file_gives_the_same_ids(tmp_path):
    from tt_transformers_v2.models.gguf_tokenizer import gguf_tokenizer
    from tt_transformers_v2.models.tokenizer import folder_tokenizer

    place = write_gguf(tmp_path / "model.gguf")
    (tmp_path / "out").mkdir()
    StoredModel(GgufWeights(place), place, tmp_path / "out").write_settings(tmp_path / "out")
    text = "hello hello 12"
    assert folder_tokenizer(tmp_path / "out").encode(text) == gguf_tokenizer(place).encode(text)
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize(
    "name",
    ["gemma2", "gemma3", "granite", "llama_biases", "ministral3", "mixtral", "phi4_mini", "qwen3_base", "qwen3_moe"],
)
def test_every_architecture_of_gguf_becomes_a_folder_with_the_same_tensors(name, tmp_path):
    place = write_family(tmp_path / "model.gguf", DATA / "families" / name)
    source = GgufWeights(place)
    (tmp_path / "out").mkdir()
    folder, _ = written(source, place, tmp_path / "out", {})
    original = SafetensorsWeights(DATA / "families" / name)
    for tensor, layer in every_tensor(source.spec):
        found, wanted = folder.tensor(tensor, layer), original.tensor(tensor, layer)
        assert torch.allclose(found, wanted, rtol=2**-7, atol=2**-7 * float(wanted.abs().max())), (tensor, layer)
    assert folder.spec.logit_cap == original.spec.logit_cap
    assert folder.spec.layer_counts == source.spec.layer_counts
