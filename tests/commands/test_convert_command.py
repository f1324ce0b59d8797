# SPDX-License-Identifier: Apache-2.0
import json
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from places import ROOT
from tt_transformers_v2.commands.convert import main
from tt_transformers_v2.config.exchange.conversion import model_shape
from tt_transformers_v2.config.kernel_words import words
from tt_transformers_v2.config.layers import apply_layers, layer_entry
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.models.spec import ModelSpec

LAYER_31 = str(ROOT / "tests/data/tttv1/llama_3_1_8b_performance.json")
COMMANDS = [
    command
    for page in ("exchange.md", "migration.md")
    for command in re.findall(r"^    (python scripts/convert\.py .*)$", (ROOT / "docs" / page).read_text(), re.M)
]
CATALOGUE = '{"a": {"device_model_spec": {"device": "N300", "max_concurrency": 32, "max_context": 4096}}}'


def run(*arguments):
    return main(arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_pages_works(command, monkeypatch, tmp_path, capsys):
    words = shlex.split(command.split(" > ")[0])[2:]
    words = [
        str(tmp_path / word) if before == "--out" else word
        for before, word in zip(["", *words[:-1]], words, strict=True)
    ]
    monkeypatch.chdir(ROOT)
    if "release_model_spec.json" in words:  # theirs, and not ours to ship: one of ours in its form
        catalogue = tmp_path / "release.json"
        catalogue.write_text(CATALOGUE)
        words[words.index("release_model_spec.json")] = str(catalogue)
    assert run(*words) == 0
    assert capsys.readouterr().out or list(tmp_path.iterdir())


def test_there_are_commands_on_the_pages():
    assert len(COMMANDS) >= 5


def test_a_decoder_file_becomes_a_tuning_file(capsys):
    assert run("--from", "tttv1-json", LAYER_31, "--model", "llama8b", "--mode", "performance", "--to", "yaml") == 0
    out, err = capsys.readouterr()
    assert out.startswith("# @package _global_\n")
    tree = yaml.safe_load(out)
    assert set(tree) == {"layers"}
    (entry,) = tree["layers"]
    base = AutoHardwareConfig.from_device("n150", "performance")
    (own,) = apply_layers(base, [layer_entry(entry)], 32).values()
    assert own.precision.of("ff1_ff3") == "BFP8"
    assert "warning [tttv1-fidelity-below-format]" in err


def test_a_string_becomes_a_tuning_file(capsys):
    text = "precision_cfg = {ff2: bfp4, activation: bfp8}, fidelity_cfg = {accuracy: lofi}"
    assert run("--from", "tttv1-string", text, "--model", "llama8b", "--to", "yaml") == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree["precision"] == {
        "ff2": "BFP4",
        "activations": "BFP8",
        "mlp_activations": None,
        "attention_activations": None,
    }
    assert tree["compute"]["norm"]["math_fidelity"] == "LoFi"


def test_a_decoder_file_is_completed_by_mode_and_model_rules(capsys):
    model = model_shape("qwen2_5_7b", ModelSpec.uniform)
    config = AutoHardwareConfig.from_device("n300", "performance", model)
    text = '{"decoders": {"0": {"precision_cfg": {"FF2": "BF16"}}}}'
    file = "-"
    arguments = ["--from", "tttv1-json", file, "--model", "qwen2_5_7b", "--device", "n300", "--to", "tttv1-json"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/convert.py"), *arguments, "--lossy"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    decoders = json.loads(done.stdout)["decoders"]
    assert len(decoders) == model.num_layers
    assert decoders["0"]["precision_cfg"]["FF2"] == "BF16"
    for word in words("tensors"):
        if word.ours not in ("ff2", "activations"):
            assert decoders["0"]["precision_cfg"][word.name] == config.for_layer(0).precision.of(word.ours)


def test_to_a_server_and_back(capsys, tmp_path):
    out = tmp_path / "entry.yaml"
    assert run("--model", "llama8b", "--device", "t3k", "--to", "server-spec", "--out", str(out)) == 0
    assert yaml.safe_load(out.read_text())["device"] == "T3K"
    assert run("--from", "server-spec", str(out), "--model", "llama8b", "--to", "server-spec") == 0
    assert capsys.readouterr().out == out.read_text()
    assert run("--from", "server-spec", str(out), "--model", "llama8b", "--to", "yaml") == 0
    captured = capsys.readouterr()
    assert "device=t3k" in captured.out
    assert yaml.safe_load(captured.out)["device"]["max_batch_size"] == 32
    assert "device_type" not in captured.out


def test_settings_without_a_place_in_the_yaml_are_named(capsys):
    text = '{"tt": {"trace_mode": "none", "trace_region_size": 5}}'
    assert run("--from", "vllm", text, "--model", "llama8b", "--to", "yaml") == 0
    captured = capsys.readouterr()
    assert yaml.safe_load(captured.out) == {"device": {"trace_region_size": 5}}
    assert "[exchange-not-in-yaml] Left out of the YAML: trace_mode." in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "llama8b"], "--to is required"),
        (["--to", "vllm"], "--model is required"),
        (["--model", "llama8b", "--to", "yaml"], "--to yaml needs --from"),
        (["--model", "llama8b", "--to", "json"], "choices: yaml"),
        (["--model", "llama9q", "--to", "vllm"], "Did you mean"),
        (["--model", "hf", "--to", "vllm"], "does not define a shape"),
        (["--from", "tttv1-json", "nowhere.json", "--model", "llama8b", "--to", "yaml"], "cannot read"),
        (["--from", "tttv2", "x", "--model", "llama8b", "--to", "yaml"], "cannot read 'tttv2'"),
        (["--from", "tttv1-string", "fast", "--model", "llama8b", "--to", "yaml"], "cannot read the optimisation"),
        (["--model", "llama8b", "--to", "vllm", "--mode", "fast"], "no precision mode"),
        (["--model", "llama8b", "--to", "vllm", "--device", "n151"], "Did you mean"),
        (["--model", "llama8b", "--to", "vllm", "--out", "/nowhere/x"], "cannot write"),
        (["--model", "llama8b", "--to", "tttv1-string", "--mode", "custom"], "TTTv1 cannot express"),
    ],
)
def test_mistakes_end_with_2_and_two_lines_at_most(arguments, message, capsys):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") <= 2
    assert captured.out == ""
