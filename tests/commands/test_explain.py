# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

from places import ROOT
from tt_transformers_v2.commands.explain import differences, explain, main
from tt_transformers_v2.config.conf_folders import conf_dir, conf_dirs


def origins(*overrides):
    return {value.path: (value.value, value.origin) for value in explain(overrides).values}


def test_files_rules_inheritance_and_typing_are_told_apart():
    found = origins("device=t3k", "precision=accuracy", "model=llama70b", "compute.sdpa.math_fidelity=HiFi3")
    assert found["device.mesh_shape"] == ([1, 8], "conf/device/t3k.yaml")
    assert found["device.chip.dram_banks"] == (12, "conf/chip/wormhole.yaml")
    assert found["precision.mlp_weights"] == ("BFP4", "rule mlp-bfp4-from-70b")
    assert found["precision.ff1_ff3"] == ("BFP4", "inherits precision.mlp_weights (rule mlp-bfp4-from-70b)")
    assert found["precision.ff2"] == ("BFP8", "rule mlp-bfp4-from-70b")
    assert found["compute.mlp.math_fidelity"] == ("LoFi", "rule mlp-bfp4-from-70b")
    assert found["compute.sdpa.math_fidelity"] == ("HiFi3", "you typed it")
    assert found["compute.sdpa_prefill.math_fidelity"] == ("HiFi3", "you typed compute.sdpa.math_fidelity")
    assert found["task"] == ("both", "conf/config.yaml")


def test_a_typed_value_wins_and_the_rule_is_said_to_be_overruled(capsys):
    overrides = ["device=T3000", "precision=accuracy", "model=llama70b", "precision.mlp_weights=BFP8"]
    found = origins(*overrides)
    assert found["precision.mlp_weights"] == ("BFP8", "you typed it")
    assert found["precision.ff2"] == ("BFP8", "you typed precision.mlp_weights")
    assert main(overrides) == 0
    assert "rule mlp-bfp4-from-70b would set precision.mlp_weights=BFP4" in capsys.readouterr().out


def test_every_value_has_an_origin():
    assert all(value.origin for value in explain(["model=llama8b"]).values)


def test_against_shows_only_what_differs():
    one, other = explain(["device=n150"]), explain(["device=n150", "workload.batch=2"])
    assert [path for path, _, _ in differences(one, other)] == ["workload.batch"]
    assert differences(one, one) == []
    modes = differences(explain(["precision=performance"]), explain(["precision=accuracy"]))
    paths = [path for path, _, _ in modes]
    assert "precision.attention_weights" in paths
    assert "precision.wqkv" not in paths, "it follows attention_weights"


@pytest.mark.parametrize(("arguments", "code"), [(["device=n151"], 2), (["--help"], 0), (["--against", "x=1"], 2)])
def test_exit_codes(arguments, code, capsys):
    assert main(arguments) == code
    assert "Traceback" not in capsys.readouterr().err


def test_the_command_loads_no_torch():
    code = (
        "import sys; from tt_transformers_v2.commands.explain import main; code = main(sys.argv[1:]); "
        "print(code, [m for m in ('torch', 'ttnn', 'numpy', 'pandas') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, "device=T3000", "precision=accuracy", "model=llama70b"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.stdout.strip().endswith("0 []"), done.stdout[-500:] + done.stderr


def test_a_folder_of_ones_own_can_be_named_and_what_is_used_of_it_may_not_reach_for_hydra(tmp_path, capsys):
    own = tmp_path / "own"
    (own / "model").mkdir(parents=True)
    (own / "model" / "mine.yaml").write_text("defaults: [llama1b]\nname: mine\n")
    assert main(["--config-dir", str(own), "model=mine"]) == 0
    assert "model.name                             mine" in capsys.readouterr().out
    (own / "model" / "bad.yaml").write_text("# @package hydra.job\nname: x\n")
    assert main(["--config-dir", str(own), "model=mine"]) == 0
    assert main(["--config-dir", str(own), "model=bad"]) == 2
    assert "changes Hydra's settings" in capsys.readouterr().err
    assert conf_dirs() == (conf_dir(),)


def test_attentions_program_is_shown_under_the_path_that_it_is_typed_by():
    found = origins(
        "runtime.programs.sdpa.exp_approx_mode=false",
        "runtime.programs.sdpa_decode.k_chunk_size=64",
        "model.sliding_window=100",
    )
    prefill, decode = "runtime.programs.sdpa_prefill.", "runtime.programs.sdpa_decode."
    assert found[prefill + "exp_approx_mode"] == (False, "you typed runtime.programs.sdpa.exp_approx_mode")
    assert found[decode + "exp_approx_mode"] == (False, "you typed runtime.programs.sdpa.exp_approx_mode")
    assert found[decode + "k_chunk_size"] == (64, "you typed it")
    assert found[prefill + "k_chunk_size"] == (64, "planned (docs/preflight.md)")
    assert found[decode + "max_cores_per_head_batch"] == (16, "planned (docs/preflight.md)")


@pytest.mark.parametrize(("tokens", "chunk"), [(1, 64), (1024, 64), (1025, 256), (2048, 256), (8192, 256)])
def test_prefill_attention_is_shown_for_the_prompt_at_hand(tokens, chunk):
    found = origins("model=llama8b", f"workload.prompt_length={tokens}")
    assert found["runtime.programs.sdpa_prefill.k_chunk_size"][0] == chunk


def test_kernels_without_an_op_group_are_shown(capsys):
    assert main([]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "kernels of rope, fill_cache, update_cache, reduce_scatter math_fidelity HiFi4" in out
