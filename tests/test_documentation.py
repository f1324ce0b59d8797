# SPDX-License-Identifier: Apache-2.0
"""The tour, the tutorial and the recipes, run as written but on few tokens; Python examples; links; the reference."""

import html
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys

import pytest

import tour
from places import ROOT


def skip_without_ttnn(step):
    if "task=preflight" in step.command and importlib.util.find_spec("ttnn") is None:
        pytest.skip("ttnn is not installed: there is no wheel for this machine")


@pytest.mark.parametrize("step", tour.steps(), ids=str)
def test_every_command_of_the_tour_works_and_prints_what_the_page_says(step, tmp_path):
    skip_without_ttnn(step)
    printed = tour.typed([sys.executable, *tour.words_of(step, tmp_path)], ROOT)
    tour.assert_prints(step, printed)


@pytest.mark.parametrize("step", tour.steps("docs/configuration.md"), ids=str)
def test_the_commands_of_other_pages_work(step, tmp_path):
    tour.typed([sys.executable, *tour.words_of(step, tmp_path)], ROOT)


def test_the_commands_of_the_report_page_work(tmp_path):
    """On two small sweeps in place of DIR, OLD and so on."""
    run = [sys.executable, "scripts/run.py", "--multirun", "device=n150,t3k", "task=performance"]
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, model in ((first, "llama1b"), (second, "llama3b")):
        tour.typed([*run, f"model={model}", f"hydra.sweep.dir={folder}"], ROOT)
    names = {
        "outputs/sweeps/DIR": first,
        "DIR": first,
        "OLD": first,
        "A": first,
        "DIR2": second,
        "NEW": second,
        "B": second,
    }
    steps = tour.steps("docs/report.md")
    assert len(steps) >= 7
    for step in steps:
        words = [str(names.get(word, word)) for word in shlex.split(step.command, comments=True)[1:]]
        words[0] = str(ROOT / words[0])
        words = [word.replace("kl_divergence<0.05", "ttft_ms<1000") for word in words if word != "--open"]
        tour.typed([sys.executable, *words], tmp_path)


def test_the_first_page_shows_commands_of_the_tour():
    assert {step.command for step in tour.steps("docs/index.md")} <= {step.command for step in tour.steps()}


def test_the_tour_and_the_tutorial_are_found():
    assert len(tour.steps()) >= 16
    assert sum(bool(step.prints) for step in tour.steps()) >= 6


def test_the_picture_shows_the_figures_of_today(tmp_path):
    """Its predicted lines, which depend on no machine, as the same command prints them now."""
    svg = (ROOT / "docs/images/summary.svg").read_text(encoding="utf-8")
    shown = " ".join(html.unescape(" ".join(re.findall(r"<text[^>]*>(.*?)</text>", svg))).split())
    line = ["scripts/run.py", "device=n150", "precision=performance", "task=performance", f"hydra.run.dir={tmp_path}"]
    done = tour.typed([sys.executable, *line], ROOT)
    figures = re.findall(r"[\d.]+ tokens/s/user|[\d.]+ of [\d.]+ GiB|At most [\d]+ users", done)
    assert len(figures) == 3
    for figure in figures:
        assert figure in shown, "run python docs/make_picture.py"


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
    assert {"run", "test", "wheel", "audit"} <= set(
        re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    )
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_console_script_names_a_function():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    targets = re.findall(r'^tt-[a-z-]+ = "([a-z0-9_.]+):([a-z]+)"$', text, flags=re.MULTILINE)
    assert len(targets) >= 8
    for module, function in targets:
        assert callable(getattr(importlib.import_module(module), function))
