# SPDX-License-Identifier: Apache-2.0
"""The README's tour, run as written but on few tokens; its Python example; its links."""

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (python scripts/.*)$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_tour_works(command, tmp_path):
    if "task=preflight" in command and importlib.util.find_spec("ttnn") is None:
        pytest.skip("ttnn is not installed: there is no wheel for this machine")
    text = tmp_path / "text.txt"
    text.write_text("Some words of one's own. " * 40)
    words = shlex.split(command.replace("DIR", str(ROOT / "tests/data/hf_llama")).replace("FILE", str(text)))
    extra = ["workload.tokens=32", "workload.max_seconds=1"]
    if words[1] != "scripts/run.py":
        done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        return
    extra.append(f"hydra.{'sweep' if '--multirun' in words else 'run'}.dir={tmp_path / 'out'}")
    if "model=llama70b" in words:
        extra += ["model.hidden_dim=512", "model.head_dim=8", "model.intermediate_dim=1024"]
    if "text_file" in command:
        words = [word for word in words if "text_file" not in word]  # the test folder has no tokenizer
    if words[2] == "--help":
        extra = []
    if "task=search" in words:
        words = [word for word in words if "max_kl" not in word]
        extra += ["search.tokens=32", "search.verify_tokens=32", "search.window=16", "search.points=2"]
        extra += ["search.space.wqkv=[]", "search.space.wo=[]", "search.space.ff1_ff3=[]"]
        extra += ["search.space.ff2=[BFP8/HIFI2,BFP4/LOFI]", "search.max_minutes=0.2", "search.verify_numerics=fast"]
    done = subprocess.run([sys.executable, *words[1:], *extra], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_tour_is_found():
    assert len(COMMANDS) >= 7


def python_examples(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_python_examples_work():
    (example,) = python_examples("README.md")
    names: dict = {}
    exec(example, names)
    assert names["model"].hw_config.device_type == "T3K"
    (example,) = python_examples("docs/numerics.md")
    exec(example, names)
    assert names["y"].shape == (32, 64)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_set_up_finds_an_interpreter_and_the_makefile_names_both_commands():
    found = subprocess.run(["sh", "scripts/find-python.sh"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    version = subprocess.run([found.stdout.strip(), "--version"], capture_output=True, text=True, check=True).stdout
    assert re.match(r"Python 3\.1[012]\.", version)
    assert {"run", "test"} <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_console_script_names_a_function():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    targets = re.findall(r'^tt-[a-z-]+ = "([a-z0-9_.]+):([a-z]+)"$', text, flags=re.MULTILINE)
    assert len(targets) >= 8
    for module, function in targets:
        assert callable(getattr(importlib.import_module(module), function))
