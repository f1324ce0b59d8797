# SPDX-License-Identifier: Apache-2.0
"""A run, which Hydra composes, and `explain`, which composes without Hydra, take and refuse the same command lines."""

from __future__ import annotations

import pytest

from tt_transformers_v2.commands import explain, run
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose, compose_by_hydra
from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.config.groups import aliases, device_types, option
from tt_transformers_v2.config.resolve import resolve

QUICK = "task=performance"


def answers(capsys, folder, *arguments):
    """(exit code, what is on standard error) of a run in `folder` and of explain."""
    found = []
    for main, more in ((run.main, [f"hydra.run.dir={folder}"]), (explain.main, [])):
        code = main([QUICK, *arguments, *more])
        found.append((code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]))
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=null", "tuning=null"],
        ["model.rope_scaling={kind: linear, factor: 2}"],
        ["model.rope_scaling={}"],
        ["model.rope_scaling=null"],
        ["workload.batch=${workload.prompt_length}", "workload.prompt_length=16"],
    ],
    ids=" ".join,
)
def test_what_one_takes_the_other_takes(arguments, capsys, tmp_path):
    assert answers(capsys, tmp_path / "run", *arguments) == [(0, []), (0, [])]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["experiment='null'"], "no experiment named 'null'"),
        (["tuning=mine"], "no tuning named 'mine'. Add tuning/mine.yaml"),
        (["tuning=[a]"], "tuning takes one option, not [a]. Write tuning=null."),
        (["model.rope_scaling.factor=2"], "model.rope_scaling has no kind. Add"),
        (["workload.batch=${nope}"], "'nope' not found"),
        (["workload.batch=${oc.env:HOME}"], "could not be converted to Integer"),
        (["calibration.confidence=high"], "calibration.confidence must have the keys"),
    ],
    ids=str,
)
def test_what_one_refuses_the_other_refuses_and_nothing_is_left(arguments, says, capsys, tmp_path):
    for main, more in ((run.main, [f"hydra.run.dir={tmp_path / 'run'}"]), (explain.main, [])):
        assert main([QUICK, *arguments, *more]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert len(said.splitlines()) <= 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cfg", "job", "--multirun"], "--multirun and --cfg cannot be combined."),
        (["--run", "--cfg", "job"], "--run and --cfg cannot be combined."),
        (["--cfg", "job", "--info"], "--cfg and --info cannot be combined."),
        (["--package", "model"], "--package applies only to --cfg."),
        (["--resolve"], "--resolve applies only to --cfg."),
        (["--cfg", "job", "--package", "nope"], "package 'nope' not found"),
        (
            ["-m", "device=n150,t3k", "workload.batch=1,2", "workload.tokens=x"],
            "workload.tokens must be",
        ),
    ],
    ids=str,
)
def test_flags_that_do_not_go_together_are_refused_in_a_line(arguments, says, capsys):
    assert run.main(arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1


def test_overrides_may_stand_before_and_after_flags(capsys):
    assert run.main(["device=t3k", "--cfg", "job", "model=llama8b", "--package", "model"]) == 0
    assert "Llama-3.1-8B" in capsys.readouterr().out


def test_interpolation_hides_no_origin(capsys):
    assert explain.main(["workload.batch=${workload.prompt_length}", "workload.prompt_length=16"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    origins = {words[0]: " ".join(words[2:]) for words in lines if len(words) > 2}
    assert origins["workload.batch"] == origins["workload.prompt_length"] == "you typed it"
    assert origins["workload.tokens"] == "conf/workload/default.yaml"


@pytest.mark.parametrize("content", ["device: 3", "device: {aliases: 3}", "device: [1", "- 1"])
def test_a_broken_device_file_is_named_when_it_is_chosen_and_hinders_no_other(content, tmp_path):
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "mine.yaml").write_text(content)

    @in_own_context
    def with_it():
        add_conf_dir(tmp_path)
        assert device_types()["N150"] == "n150"
        assert aliases("device")["1xn150"] == option("device", "N150") == "n150"
        assert resolve(compose(["device=t3k"])).hardware.device_type.value == "T3K"
        with pytest.raises(ConfigError):
            resolve(compose(["device=mine"]))

    with_it()


def test_a_root_file_of_ones_own_is_refused(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("task: performance\n")
    assert explain.main(["--config-dir", str(tmp_path)]) == 2
    assert "would replace conf/config.yaml" in capsys.readouterr().err


def test_a_file_that_was_edited_is_read_anew_by_the_next_command(tmp_path, capsys):
    (tmp_path / "workload").mkdir()
    for batch in (3, 5):
        (tmp_path / "workload" / "mine.yaml").write_text(f"defaults: [default]\nbatch: {batch}\n")
        assert explain.main(["--config-dir", str(tmp_path), "workload=mine"]) == 0
        (line,) = [each for each in capsys.readouterr().out.splitlines() if each.startswith("workload.batch")]
        assert line.split()[1] == str(batch)


def test_resolving_changes_no_configuration_and_takes_what_hydra_composed():
    overrides = ["device=t3k", "model=llama8b", "compute.mlp.math_fidelity=HiFi4"]
    composed = compose_by_hydra(overrides)
    first = resolve(composed, {"compute.mlp.math_fidelity"})
    before = repr(first.config)
    again = resolve(first.config, {"compute.attention.math_fidelity", "precision.weights"})
    assert repr(first.config) == before
    assert again.config is not first.config
    assert first.config_hash() == resolve(compose(overrides), {"compute.mlp.math_fidelity"}).config_hash()


def test_a_preset_that_does_not_exist_is_missing_as_in_any_mapping():
    assert "nope" not in DevicePresets.PRESETS
    assert DevicePresets.PRESETS.get("nope") is None
    with pytest.raises(ConfigError, match="no device named 'nope'"):
        DevicePresets.PRESETS["nope"]
    with pytest.raises(KeyError):
        DevicePresets.PRESETS["nope"]
