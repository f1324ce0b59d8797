# SPDX-License-Identifier: Apache-2.0
"""task=quantize from a tiny model's files to a folder: resumed, refused, and measured with."""

import hashlib
import json
import shutil

import pytest
import torch
from quantizing import quantized, resolved
from safetensors.torch import save_file
from tiny_llama import write_model

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models.head_order import card_order
from tt_transformers_v2.models.huggingface import SafetensorsWeights
from tt_transformers_v2.models.open_model import open_weights
from tt_transformers_v2.models.tokenizer import Tokenizer
from tt_transformers_v2.numerics import quantize
from tt_transformers_v2.quantize import quantize_job, quantized_folder
from tt_transformers_v2.quantize.quantize_text import quantize_texts
from tt_transformers_v2.run.runner import run

# Columns of wqkv as a card has them: two heads of q and one of k, of 64 elements that turn with their neighbours.
ON_CARD = [64 * head + i for head in range(3) for i in card_order(64)] + list(range(192, 256))


def contents(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir()) if path.is_file()
    }


@pytest.fixture(scope="module")
def done(tiny_model, tmp_path_factory):
    """A folder that was written in one go, and the section of the result."""
    folder = tmp_path_factory.mktemp("done")
    return folder / "out", quantized(tiny_model, folder / "out", folder, "quantize.verify_texts=[python_source]")


def test_the_folder_is_a_model_that_packs_without_a_change(done, tiny_model):
    folder, section = done
    found, source = SafetensorsWeights(folder), SafetensorsWeights(tiny_model)
    assert found.spec.layer_counts == source.spec.layer_counts
    for layer in range(3):
        for name in ("wqkv", "wo", "w1", "w3", "w2"):
            weight = found.tensor(name, layer)
            packed = weight[:, ON_CARD] if name == "wqkv" else weight
            assert torch.equal(quantize(packed, "bfp4"), packed)
            assert not torch.equal(weight, source.tensor(name, layer))
        assert torch.equal(found.tensor("ffn_norm", layer), source.tensor("ffn_norm", layer))
    assert torch.equal(found.tensor("embedding"), source.tensor("embedding"))
    assert (section["calibrated_matrices"], section["nearest_matrices"]) == (15, 0)
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json", "quantize.json"} <= contents(folder).keys()
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert 0 < held - index["metadata"]["total_size"] < 20_000  # the files' headers
    assert not (folder / ".quantize").exists()


def test_every_layer_errs_less_than_rounded_to_nearest(done):
    _, section = done
    assert [row["layer"] for row in section["layers"]] == [0, 1, 2]
    assert all(row["calibrated"] < 0.9 * row["nearest"] for row in section["layers"])
    assert all(row["tokens"] == 256 and row["damping"] == 0.01 for row in section["matrices"])


def test_what_is_verified_shares_no_window_with_the_calibration(done, tiny_model):
    _, section = done
    same, other = section["verified"]
    assert same["how"] == "same texts, other windows"
    assert other["text"].startswith("standard library source")
    assert same["tokens"] == other["tokens"] == 64
    assert all(row["nearest"]["kl_divergence"] > 0 for row in section["verified"])
    assert same["nearest"] != same["calibrated"]
    texts = quantize_texts(resolved(tiny_model).config.quantize, open_weights(None, path=str(tiny_model))[1])
    pieces = [texts.calibration, *texts.verified.values()]
    starts = [{tuple(window[:16].tolist()) for window in own.windows} for own in pieces]
    assert not starts[0] & starts[1]
    assert [own.count for own in pieces] == [256, 64]
    assert texts.span == 320


def test_windows_begin_with_bos_as_the_workload_says(tiny_model):
    tokenizer = Tokenizer(open_weights(None, path=str(tiny_model))[1]._tokenizer, "tiny", 1)
    settings = resolved(tiny_model).config.quantize
    texts = {bos: quantize_texts(settings, tokenizer, bos) for bos in (None, True)}
    for own in (texts[True].calibration, *texts[True].verified.values()):
        assert {int(window[0]) for window in own.windows} == {1}
    assert {int(window[0]) for window in texts[None].calibration.windows} != {1}
    with pytest.raises(ConfigError, match="names no BOS"):
        quantize_texts(settings, Tokenizer(tokenizer._tokenizer, "tiny"), True)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_an_interrupted_run_ends_with_the_same_bytes(layers, done, tiny_model, tmp_path, monkeypatch):
    real, calls = quantize_job.round_layer, []

    def interrupted(source, layer, *rest):
        calls.append(layer)
        if layer == layers and len(calls) == layers + 1:
            raise KeyboardInterrupt
        return real(source, layer, *rest)

    monkeypatch.setattr(quantize_job, "round_layer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantized(tiny_model, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out" / "config.json").exists()
    section = quantized(tiny_model, tmp_path / "out", tmp_path)
    assert calls == [*range(layers + 1), *range(layers, 3)]
    assert contents(tmp_path / "out") == contents(done[0])
    assert section["layers"] == done[1]["layers"]


def test_a_run_that_is_killed_between_two_files_ends_with_the_same_bytes(done, tiny_model, tmp_path, monkeypatch):
    """Before and after the hidden states of a layer, and before the last shards."""
    real = quantized_folder.save_tensors
    for last in (1, 2, 4, 5):
        out, saved = tmp_path / f"{last}", []

        def killed(tensors, path, saved=saved, last=last):
            if len(saved) == last:
                raise KeyboardInterrupt
            saved.append(path)
            real(tensors, path)

        monkeypatch.setattr(quantized_folder, "save_tensors", killed)
        try:
            quantized(tiny_model, out, tmp_path)
        except KeyboardInterrupt:
            monkeypatch.setattr(quantized_folder, "save_tensors", real)
            quantized(tiny_model, out, tmp_path)
        assert contents(out) == contents(done[0])


def test_a_finished_folder_is_verified_again_and_not_made_again(done, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize_job, "round_layer", None)
    section = quantized(tiny_model, done[0], tmp_path)
    assert section["verified"] == done[1]["verified"][:1]


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("quantize.damping=0.02", "damping 0.01 instead of 0.02"),
        ("quantize.act_order=true", "act_order False instead of True"),
        ("quantize.tokens=288", "other ids|ids"),
        ("precision.mlp_weights=BFP8", "other formats"),
    ],
)
def test_a_folder_begun_otherwise_is_refused(override, what, done, tiny_model, tmp_path):
    before = contents(done[0])
    with pytest.raises(ConfigError, match=what) as error:
        quantized(tiny_model, done[0], tmp_path, override)
    assert "Choose another folder" in error.value.hint
    assert contents(done[0]) == before


def test_a_folder_with_something_else_in_it_is_refused(tiny_model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"has thesis\.txt in it"):
        quantized(tiny_model, tmp_path / "out", tmp_path)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(quantized_folder, "room_beside", lambda path: 1 << 16)
    with pytest.raises(ConfigError, match=r"needs 0\.00 GiB, and its disk has 0\.00 GiB left"):
        quantized(tiny_model, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("tokens", "window"), [(96, 32), (64, 32), (32, 16)])
def test_fewer_tokens_than_inputs_are_said_and_damped_more(tokens, window, tiny_model, tmp_path):
    """w2 has 96 inputs; the others have 64, but wo, which has 128."""
    section = quantized(
        tiny_model, tmp_path / "out", tmp_path, f"quantize.tokens={tokens}", f"quantize.window={window}"
    )
    named = {line.split()[0] for line in section["warnings"]}
    assert named == {
        name for name, inputs in {"wqkv": 64, "w1": 64, "w3": 64, "w2": 96, "wo": 128}.items() if inputs > tokens
    }
    damped = {row["matrix"]: row["damping"] for row in section["matrices"]}
    assert damped["wo"] == pytest.approx(0.01 * 128 / tokens)


def test_fewer_tokens_than_a_tenth_of_the_inputs_are_refused():
    from tt_transformers_v2.models.spec import ModelSpec
    from tt_transformers_v2.models.weights import SyntheticWeights
    from tt_transformers_v2.quantize.chosen_matrices import check_tokens
    from tt_transformers_v2.quantize.grid import Grid

    spec = ModelSpec.uniform(
        vocab_size=64, hidden_dim=64, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_dim=1001
    )
    source, grids = SyntheticWeights(spec), [{"w2": Grid("bfp4")}]
    assert check_tokens(source, grids, 1001) == []
    assert "10.0 times" not in str(check_tokens(source, grids, 1000))
    assert len(check_tokens(source, grids, 101)) == 1
    with pytest.raises(
        ConfigError, match="100 tokens are too few to calibrate w2, which has 1001 inputs: it takes 101"
    ):
        check_tokens(source, grids, 100)


def test_weights_that_are_not_finite_are_refused_with_their_place(tmp_path):
    def damage(tensors):
        tensors["model.layers.1.mlp.down_proj.weight"][3, 4] = float("nan")

    (tmp_path / "model").mkdir()
    model = write_model(tmp_path / "model", damage)
    with pytest.raises(ConfigError, match="w2 of layer 1 has 1 weights that are not finite"):
        quantized(model, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out" / "config.json").exists()


def test_activations_that_overflow_are_refused(tmp_path):
    def damage(tensors):
        tensors["model.layers.1.post_attention_layernorm.weight"][:] = 3e38

    (tmp_path / "model").mkdir()
    model = write_model(tmp_path / "model", damage)
    with pytest.raises(ConfigError, match="inputs of w1 in layer 1 have a singular Hessian: it is not finite"):
        quantized(model, tmp_path / "out", tmp_path)


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["task=quantize"], "needs a folder to write"),
        (["task=quantize", "quantize.weights=x"], "uses none"),
        (["task=quantize", "quantize.out=x", "backend=reference"], "backend=emulated"),
        (["task=accuracy", "quantize.out=x"], "writes no weights"),
        (["task=performance", "quantize.weights=x"], "measures nothing"),
        (["task=search", "quantize.weights=x"], "measures nothing"),
        (["task=accuracy", "quantize.texts=[]"], "texts is empty"),
        (["task=accuracy", "quantize.texts=[a.txt]", "quantize.verify_texts=[a.txt]"], "in quantize.texts and in"),
        (["task=quantize", "quantize.out=x", "quantize.weights=y"], "both set"),
        (["task=quantize", "quantize.out=x", "quantize.window=300"], "longer than quantize.tokens=256"),
    ],
)
def test_settings_that_contradict_the_task_are_refused(overrides, what, tiny_model):
    with pytest.raises(ConfigError, match=what):
        resolved(tiny_model, *overrides)


def test_formats_without_blocks_and_models_without_text_are_refused(tiny_model, tmp_path):
    plain = ["precision.mlp_weights=BF16", "precision.attention_weights=BF16"]
    with pytest.raises(ConfigError, match="nothing to calibrate"):
        quantized(tiny_model, tmp_path / "out", tmp_path, *plain)
    (tmp_path / "untold").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_model / name, tmp_path / "untold")
    with pytest.raises(ConfigError, match=r"no real weights and tokenizer here"):
        quantized(tmp_path / "untold", tmp_path / "out", tmp_path)
    with pytest.raises(ConfigError, match=r"quantize\.texts: no text or file is named 'topics'"):
        quantized(tiny_model, tmp_path / "out", tmp_path, "quantize.texts=[topics]")
    (tmp_path / "short.txt").write_text("a few words")
    with pytest.raises(ConfigError, match=r"quantize\.tokens and quantize\.verify_tokens ask for 256 and 64"):
        quantized(tiny_model, tmp_path / "out", tmp_path, f"quantize.texts=[{tmp_path / 'short.txt'}]")
    assert not (tmp_path / "out").exists()


def accuracy(model, folder, *overrides):
    experiment = resolved(model, "task=accuracy", "workload.tokens=80", "workload.window=32", *overrides)
    return run(experiment, folder, show_progress=False)["accuracy"]


def test_accuracy_is_measured_with_the_folder_against_the_models_own_weights(done, tiny_model, tmp_path):
    unseen = "workload.skip=3000"  # bytes are tokens here, and the next ones say much of the same
    before = accuracy(tiny_model, tmp_path, unseen)
    after = accuracy(tiny_model, tmp_path, unseen, f"quantize.weights={done[0]}")
    alone = accuracy(tiny_model, tmp_path, unseen, f"quantize.weights={done[0]}", "backend=reference")
    assert before["calibrated_weights"] is None
    assert after["calibrated_weights"] == str(done[0])
    assert before["reference_perplexity"] == after["reference_perplexity"]
    assert before["kl_divergence"] != after["kl_divergence"] > 0
    assert alone["kl_divergence"] > 0


def test_layers_of_their_own_formats_are_rounded_to_these(tiny_model, tmp_path):
    section = quantized(
        tiny_model, tmp_path / "out", tmp_path, "layers=[{select: 1, precision: {mlp_weights: BFP8, wo: BF16}}]"
    )
    grids = {(row["layer"], row["matrix"]): row["grid"] for row in section["matrices"]}
    assert [grids[1, "w2"], grids[0, "w2"], grids[1, "wqkv"]] == ["BFP8 for LoFi", "BFP4", "BFP4"]
    assert (1, "wo") not in grids
    assert torch.equal(
        SafetensorsWeights(tmp_path / "out").tensor("wo", 1), SafetensorsWeights(tiny_model).tensor("wo", 1)
    )


def test_the_text_of_the_calibration_is_not_measured_on(done, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match=r"48 of 80 tokens of pydoc_data.* was calibrated on") as error:
        accuracy(tiny_model, tmp_path, f"quantize.weights={done[0]}")
    assert "workload.skip=320" in error.value.hint


def test_folders_that_are_not_of_this_model_are_refused(done, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match=r"has no quantize\.json"):
        accuracy(tiny_model, tmp_path, f"quantize.weights={tiny_model}")
    (tmp_path / "model").mkdir()

    def change(tensors):
        tensors["model.norm.weight"] *= 2

    other = write_model(tmp_path / "model", change)
    with pytest.raises(ConfigError, match="was made from other weights"):
        accuracy(other, tmp_path, f"quantize.weights={done[0]}")
    (tmp_path / "begun").mkdir()
    record = json.loads((done[0] / "quantize.json").read_text()) | {"finished": False}
    (tmp_path / "begun" / "quantize.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="is not finished"):
        accuracy(tiny_model, tmp_path, f"quantize.weights={tmp_path / 'begun'}")


def test_a_broken_state_is_refused_with_a_way_out(tiny_model, tmp_path, monkeypatch):
    real = quantize_job.round_layer

    def interrupted(source, layer, *rest):
        if layer == 1:
            raise KeyboardInterrupt
        return real(source, layer, *rest)

    monkeypatch.setattr(quantize_job, "round_layer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantized(tiny_model, tmp_path / "out", tmp_path)
    save_file({"other": torch.zeros(1)}, tmp_path / "out" / ".quantize" / "hidden-00001.safetensors")
    with pytest.raises(ConfigError, match="cannot be read") as error:
        quantized(tiny_model, tmp_path / "out", tmp_path)
    assert "begin again" in error.value.hint
    (tmp_path / "out" / "quantize.json").write_text('{"asked": 1}')
    with pytest.raises(ConfigError, match="is not what task=quantize writes"):
        quantized(tiny_model, tmp_path / "out", tmp_path)
