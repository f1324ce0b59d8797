# SPDX-License-Identifier: Apache-2.0
"""The tour, the tutorial and the recipes, run as written but on few tokens; Python examples; links; the reference."""

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
TOUR = re.findall(r"^    (python scripts/.*)$", README, flags=re.MULTILINE)
TUTORIAL = re.findall(r"^    (python scripts/.*)$", (ROOT / "docs/tutorial.md").read_text(), flags=re.MULTILINE)
COMMANDS = list(dict.fromkeys([*TOUR, *TUTORIAL]))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_tour_works(command, tmp_path):
    if "task=preflight" in command and importlib.util.find_spec("ttnn") is None:
        pytest.skip("ttnn is not installed: there is no wheel for this machine")
    text = tmp_path / "text.txt"
    text.write_text("Some words of one's own. " * 40)
    words = shlex.split(command.replace("DIR", str(ROOT / "tests/data/hf_llama")).replace("FILE", str(text)))
    extra = ["workload.max_seconds=1", *([] if "workload.tokens=32" in words else ["workload.tokens=32"])]
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


def test_the_tour_and_the_tutorial_are_found():
    assert len(TOUR) >= 7
    assert len(TUTORIAL) >= 6


def recipe(page, number):
    """The YAML block of that number on a page."""
    return re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)[number]


@pytest.mark.parametrize(("group", "option", "number"), [("device", "my_board", 0), ("model", "my_3b", 1)])
def test_a_recipe_takes_one_file(tmp_path, group, option, number):
    """A folder with nothing but the file of the page: the option is listed, composed, predicted and swept."""
    (tmp_path / group).mkdir()
    (tmp_path / group / f"{option}.yaml").write_text(recipe("docs/adding.md", number))
    other = {"device": "model=llama8b", "model": "device=n300"}[group]
    run = [sys.executable, str(ROOT / "scripts/run.py")]
    more = ["--multirun", f"{group}={option}", other, "precision=accuracy,performance", "task=performance"]
    out = [f"hydra.sweep.dir={tmp_path / 'out'}", "--config-dir", str(tmp_path)]
    done = subprocess.run([*run, *more, *out], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 jobs done" in done.stdout
    listed = subprocess.run([*run, "--config-dir", str(tmp_path), "--help"], cwd=ROOT, capture_output=True, text=True)
    assert option in listed.stdout


def test_the_reference_is_that_of_the_code():
    done = subprocess.run([sys.executable, "docs/make_reference.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "run python docs/make_reference.py"


def test_the_documentation_is_a_site_without_a_broken_link(tmp_path):
    pytest.importorskip("mkdocs", reason='needs mkdocs: pip install -e ".[docs]"')
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ) | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    fetched = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=[\"'](https?://[^\"']*)", page)
    assert fetched == []


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
