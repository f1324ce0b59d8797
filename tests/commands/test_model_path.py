# SPDX-License-Identifier: Apache-2.0
"""A model.path that the chosen model does not fit is refused the same way by every command that composes."""

import pytest

from places import ROOT
from tt_transformers_v2.commands import explain, predict, run

FOLDER = str(ROOT / "tests/data/hf_llama")
COMMANDS = {"run": run.main, "predict": predict.main, "explain": explain.main}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["model=llama8b", f"model.path={FOLDER}"], "does not match"),
        ([f"model.path={FOLDER}"], "Use model=hf to take the shapes from the files."),
        (["model=qwen3_8b", f"model.path={FOLDER}"], "does not match"),
        (["model=llama8b", "model.path=/nowhere"], "the model path /nowhere does not exist"),
    ],
    ids=str,
)
def test_files_of_another_model_are_refused(name, asked, says, tmp_path, capsys):
    more = [f"hydra.run.dir={tmp_path / 'out'}"] if name == "run" else []
    assert COMMANDS[name](["task=performance", *asked, *more]) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


SAME = [
    *("vocab_size=256", "hidden_dim=64", "num_heads=4", "num_kv_heads=2", "intermediate_dim=96", "norm_eps=1e-6"),
    *("rope_theta=500000", "max_context=256"),
    "rope_scaling={kind: llama3, factor: 8, original_max_context: 32}",
]


@pytest.mark.parametrize(("layers", "code"), [(2, 0), (3, 2)])
def test_files_of_the_same_model_are_taken(layers, code, capsys):
    typed = [f"model.{key}" for key in (*SAME, f"num_layers={layers}")]
    assert explain.main(["model=hf", f"model.path={FOLDER}", *typed]) == code
    assert ("num_layers should be 3 but is 2" in capsys.readouterr().err) is bool(code)
