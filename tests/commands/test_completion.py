# SPDX-License-Identifier: Apache-2.0
"""Completion as a shell asks for it, and every word it offers tried."""

import os
import subprocess
import sys

import pytest

from places import ROOT
from tt_transformers_v2.commands import completion
from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.hardware import ConfigError

FLAGS = ["--help", "--multirun"]


def after(line):
    return completion.candidates(line, FLAGS)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("tt-run dev", ["device.", "device="]),
        ("tt-run device=p150x", ["device=p150x2", "device=p150x4", "device=p150x8"]),
        ("tt-run compute.mlp.math_f", ["compute.mlp.math_fidelity="]),
        ("tt-run compute.mlp.math_fidelity=H", [f"compute.mlp.math_fidelity=HiFi{n}" for n in (2, 3, 4)]),
        ("tt-run precision.kv_cache=", [f"precision.kv_cache={name}" for name in ("BF16", "BFP4", "BFP8")]),
        ("tt-run compute.mlp.fp32_dest_acc_en=t", ["compute.mlp.fp32_dest_acc_en=true"]),
        (
            "tt-run runtime.sampling=",
            [f"runtime.sampling={value}" for value in ("device", "device_argmax", "host", "null")],
        ),
        ("tt-run -m device=n150,t", ["device=n150,t3k", "device=n150,tg"]),
        ("tt-run --multirun device=t3k,t3", []),
        ("tt-run device=n150,t", []),
        ("tt-run --mu", ["--multirun"]),
        ("tt-run device=t3k workload.to", ["workload.tokens="]),
        ("tt-run model=llama8b model.num_layers=", ["model.num_layers=32"]),
        ("tt-run hydra.run", ["hydra.run.dir="]),
        ("tt-run hydra/s", ["hydra/sweeper="]),
        ("tt-run hydra/launcher=b", ["hydra/launcher=basic"]),
        ("tt-run nothing.like.it", []),
        ("tt-run --config-dir de", []),
        ("tt-predict --plot ", []),
        ("tt-run nothing=", []),
    ],
)
def test_what_can_stand_at_the_cursor(line, found):
    assert after(line) == found


def test_paths_are_completed(tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    assert after("tt-run model.path=./w") == ["model.path=./weights"]
    assert after(f"tt-run model.path={tmp_path}/") == [f"model.path={tmp_path}/weights"]
    assert after("tt-run model.path=/no/such/folder/x") == []


def test_options_of_ones_own_are_offered(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "zebra.yaml").write_text("name: zebra\n")
    code = (
        "from tt_transformers_v2.commands.completion import candidates; "
        f"print(candidates('tt-run --config-dir {tmp_path} model=z', []))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['model=zebra']\n"


def offered(word=""):
    """Every key that completion leads to, section after section."""
    for found in after(f"tt-run {word}"):
        yield from offered(found) if found.endswith(".") else [found]


def test_every_key_and_value_offered_is_one_that_can_be_set():
    keys = [key for key in offered() if not key.startswith("hydra")]
    assert len(keys) > 150
    tried = 0
    for key in keys:
        for text in after(f"tt-run {key}"):
            if not text.endswith("=auto") and not (key == "device.sources=" or text.endswith("=None")):
                check_overrides([text])
                tried += 1
    assert tried > 400


def test_every_group_is_offered():
    assert {f"{group}=" for group in groups() if "/" not in group} <= set(after("tt-run "))


@pytest.mark.parametrize(
    "question", [["-sc"], ["-sc", "query"], ["-sc", "query=tcsh"], ["-sc", "run=bash"], ["-sc", "query=bash", "more"]]
)
def test_other_questions_are_refused(question):
    with pytest.raises(ConfigError, match="bash, zsh, fish"):
        completion.answer(question, FLAGS, overrides=True)


@pytest.mark.parametrize(
    ("script", "typed", "found"),
    [
        ("run", "precision=a", "precision=accuracy"),
        ("run", "--mult", "--multirun"),
        ("predict", "model=llama8", "model=llama8b"),
        ("predict", "--what", "--what-if"),
        ("explain", "--ag", "--against"),
        ("report", "--comp", "--compare"),
    ],
)
def test_bash_completes_the_scripts(script, typed, found, tmp_path):
    """The script that Hydra installs, called as bash calls it when TAB is pressed."""
    (tmp_path / "python").symlink_to(sys.executable)
    line = f"python scripts/{script}.py {typed}"
    bash = (
        f'eval "$(python scripts/{script}.py -sc install=bash)"; COMP_LINE="{line}"; COMP_POINT={len(line)}; '
        'COMP_CWORD=2; hydra_bash_completion; echo "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path[1:]])}
    done = subprocess.run(["bash", "-c", bash], cwd=ROOT, capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (found, "")


def test_fish_gets_a_word_a_line(monkeypatch, capsys):
    monkeypatch.setenv("COMP_LINE", "tt-run precision=ac -m")
    monkeypatch.setenv("COMP_POINT", "19")
    completion.answer(["-sc", "query=fish"], FLAGS, overrides=True)
    assert capsys.readouterr().out == "precision=accuracy\n"
    completion.answer(["-sc", "install=fish"], FLAGS, overrides=True)
    assert "hydra_fish_completion" in capsys.readouterr().out
