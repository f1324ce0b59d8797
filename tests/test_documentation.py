# SPDX-License-Identifier: Apache-2.0
"""The tour, the tutorial and the recipes, run as written but on few tokens; examples, links, paths, the reference."""

import dataclasses
import html
import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import tour
import tt_transformers_v2
from in_process import typed_here
from places import ROOT
from tt_transformers_v2.perf.measurements import OPTIONAL, REQUIRED

PACKAGE = ROOT / "src" / "tt_transformers_v2"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())
PAGES = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"),
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
ROWS = tour.rows()


def load(path):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def skip_without_ttnn(step):
    if "task=preflight" in step.command and importlib.util.find_spec("ttnn") is None:
        pytest.skip("ttnn is not installed: there is no wheel for this machine")


# Typed as a reader does, each a process of its own, as test_wheel.py does with most of what is over in seconds.
PROCESSES = ("task=preflight device=n150 model=llama1b", "precision=performance workload.tokens=32")


def printed_here(words, cwd, columns=100):
    """What a script prints that is run in this process and must end with 0."""
    done = typed_here(words, cwd, COLUMNS=str(columns))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    return done.stdout


@pytest.mark.parametrize("step", tour.steps(), ids=str)
def test_every_command_of_the_tour_works_and_prints_what_the_page_says(step, tmp_path):
    skip_without_ttnn(step)
    words = tour.words_of(step, tmp_path)
    if any(process in step.command for process in PROCESSES):
        printed = tour.typed([sys.executable, *words], ROOT, columns=step.columns)
    else:
        printed = printed_here(words, ROOT, step.columns)
    if not step.slow:
        tour.assert_prints(step, printed)


@pytest.mark.slow
@pytest.mark.parametrize("step", [row for row in ROWS if row.slow], ids=str)
def test_the_long_commands_of_the_table_print_such_a_line(step, tmp_path):
    words = [sys.executable, *tour.words_of(step, tmp_path, whole=True)]
    printed = tour.typed(words, ROOT, columns=step.columns, seconds=3600)
    tour.assert_prints(dataclasses.replace(step, prints=tour.without_figures(step.prints)), printed)


def test_the_table_of_the_readme_has_a_row_for_every_question():
    made = load(ROOT / "docs/make_readme_table.py")
    assert [row.command for row in ROWS] == [f"python scripts/{row.command}" for row in made.ROWS]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"| {row.question} | `{row.typed}` | " in text for row in made.ROWS)
    assert {step.slow for step in ROWS} == {False, True}


@pytest.mark.parametrize("step", tour.steps("docs/configuration.md"), ids=str)
def test_the_commands_of_other_pages_work(step, tmp_path):
    printed_here(tour.words_of(step, tmp_path), ROOT)


def test_the_columns_of_a_points_file_are_all_listed():
    page = (ROOT / "docs/predict.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page.split("## Workload and measured rows")[1].split("\n## ")[0], re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted((*REQUIRED, *OPTIONAL))


def test_the_commands_of_the_report_page_work(tmp_path):
    """On two small sweeps in place of DIR, OLD and so on."""
    run = ["scripts/run.py", "--multirun", "device=n150,t3k", "task=performance"]
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, model in ((first, "llama1b"), (second, "llama3b")):
        printed_here([*run, f"model={model}", f"hydra.sweep.dir={folder}"], ROOT)
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
        printed_here(words, tmp_path)


def test_the_first_page_shows_commands_of_the_tour():
    assert {step.command for step in tour.steps("docs/index.md")} <= {step.command for step in tour.steps()}


def test_the_tour_and_the_tutorial_are_found():
    assert len(tour.steps()) >= 16
    assert sum(bool(step.prints) for step in tour.steps()) >= 6


def test_the_picture_shows_what_is_printed_today():
    """Every line of it, which depends on no machine."""
    made = load(ROOT / "docs/make_picture.py")
    svg = (ROOT / "docs/images/summary.svg").read_text(encoding="utf-8")
    shown = "".join(html.unescape("".join(re.findall(r"<text[^>]*>(.*?)</text>", svg))).split())
    printed = printed_here(made.COMMAND, ROOT, made.COLUMNS)
    for line in printed.splitlines()[: made.LINES]:
        assert "".join(line.split()) in shown, "run python docs/make_picture.py"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize(("group", "option", "number"), [("device", "my_board", 0), ("model", "my_3b", 1)])
def test_a_recipe_takes_one_file(tmp_path, group, option, number):
    """A folder with nothing but the file of the page: the option is listed, composed, predicted and swept."""
    (tmp_path / group).mkdir()
    (tmp_path / group / f"{option}.yaml").write_text(blocks("docs/adding.md", "yaml")[number])
    other = {"device": "model=llama8b", "model": "device=n300"}[group]
    run = [str(ROOT / "scripts/run.py")]
    more = ["--multirun", f"{group}={option}", other, "precision=accuracy,performance", "task=performance"]
    out = [f"hydra.sweep.dir={tmp_path / 'out'}", "--config-dir", str(tmp_path)]
    done = typed_here([*run, *more, *out], ROOT)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 jobs done" in done.stdout
    assert option in printed_here([*run, "--config-dir", str(tmp_path), "--help"], ROOT)


def test_the_recipes_for_a_rule_a_check_and_a_task_work(tmp_path):
    """A copy of the package with nothing but what the page adds."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conf", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    package = tmp_path / "src" / "tt_transformers_v2"
    (rule,) = (block for block in blocks("docs/adding.md", "yaml") if "qwen-wide-ff2" in block)
    check, task = blocks("docs/adding.md", "python")
    append(tmp_path / "conf/rules/size_and_family.yaml", "\n" + rule)
    append(package / "config/checks.py", "\n\n" + check)
    schema = package / "config/experiment_schema.py"
    members = schema.read_text(encoding="utf-8").replace(
        '    both = "both"\n', '    both = "both"\n    count = "count"\n'
    )
    schema.write_text(members, encoding="utf-8")
    (package / "run/count_task.py").write_text("from __future__ import annotations\n\n" + task, encoding="utf-8")
    explain = [sys.executable, "scripts/explain.py", "device=n300", "model=qwen2_5_7b"]
    explained = tour.typed([*explain, "workload.prompt_length=32768", "device.max_prefill_chunk_size=4096"], tmp_path)
    assert re.search(r"precision\.ff2 +BF16 +rule qwen-wide-ff2", explained)
    assert "hint long-prompt: workload.prompt_length is 32768." in explained
    explained = tour.typed([*explain, "precision.mlp_weights=BFP8"], tmp_path)
    assert "rule qwen-wide-ff2 would set precision.ff2=BF16, but you typed precision.mlp_weights" in explained
    run = [sys.executable, "scripts/run.py", "task=count", "device=t3k", "model=llama8b"]
    tour.typed([*run, f"hydra.run.dir={tmp_path / 'out'}"], tmp_path)
    counted = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["count"]
    assert counted == {"parameters": 8030261248, "per_chip": 8030261248 // 8}


def append(path, text):
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


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


def in_python(code, cwd):
    """What a fresh interpreter prints for `code`."""
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("page", "then", "printed"),
    [
        ("docs/numerics.md", "print(tuple(y.shape))", "(32, 64)"),
        ("docs/exchange.md", "print(len(text) > 0)", "True"),
        ("docs/predict.md", "print(prediction.decode.kind)", "calibrated"),
    ],
)
def test_the_python_examples_work(page, then, printed):
    (example,) = blocks(page, "python")
    example = example.replace('"DIR"', repr(str(ROOT / "tests/data/hf_llama")))
    tokens = "import torch; tokens = torch.arange(8)[None]"
    assert in_python(f"{tokens}\n{example}\n{then}", ROOT).splitlines()[-1] == printed


def test_the_python_page_prints_what_it_says(tmp_path):
    code = "\n".join(blocks("docs/python.md", "python"))
    said = re.findall(r"^ *print\(.*\)  # (.*)$", code, flags=re.MULTILINE)
    assert len(said) == len(re.findall(r"\bprint\(", code)) >= 10
    assert in_python(code.replace('"DIR"', repr(str(ROOT / "tests/data/hf_llama"))), tmp_path).splitlines() == said


def test_the_python_page_has_every_public_name():
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    assert [name for name in tt_transformers_v2.__all__ if not name.startswith("_") and f"`{name}" not in page] == []


def test_another_application_composes_our_groups_as_the_page_says(tmp_path):
    """It comes to the configuration that the same choices make here."""
    (application,), written = blocks("docs/configuration.md", "python"), blocks("docs/configuration.md", "yaml")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text(written[0], encoding="utf-8")
    (tmp_path / "app.py").write_text(application, encoding="utf-8")
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    fidelity, config_hash = done.stdout.split()
    assert fidelity == "HiFi2"
    explain = ["scripts/explain.py", "device=t3k", "model=llama8b", "workload.batch=4"]
    assert printed_here(explain, ROOT).rstrip().endswith(f"config {config_hash}")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_the_paths_on_a_page_exist(page):
    """Paths in backticks from the root, and those of the package from a room on. Of conf/model/NAME.yaml the folder."""
    folders = ("src", "conf", "tests", "docs", "scripts", "benchmarks", "findings")
    for quoted in inline_code(page):
        path = re.sub(r"/[^/]*(?:<\w+>|\b[A-Z]{2,}\b).*", "", quoted.split()[0])
        first = path.split("/")[0]
        if "/" in quoted and first in (*folders, *ROOMS):
            assert list((PACKAGE if first in ROOMS else ROOT).glob(path.rstrip("/"))), quoted


def inline_code(page):
    """What stands in backticks in the text of a page, blocks of code left out."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def test_the_architecture_page_has_every_room_in_the_layers_of_the_contract():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    contract = re.search(r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), flags=re.DOTALL | re.M)
    layers = [layer for layer in re.findall(r'"(.+?)"', contract[1]) if layer != "__main__"]  # no room
    assert blocks("docs/architecture.md", "text")[0].splitlines() == layers
    described = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert sorted(described) == ROOMS == sorted(room for layer in layers for room in layer.split(" | "))


def test_the_architecture_page_names_what_the_code_has():
    """Every class, function, attribute and field in backticks occurs in the code as a word."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    names = {
        name
        for quoted in inline_code("docs/architecture.md")
        if re.fullmatch(r"@?[A-Za-z_][\w.]*(\(.*\))?", quoted) and not quoted.endswith((".json", ".toml"))
        for name in re.sub(r"\(.*\)|@", "", quoted).split(".")
    }
    assert len(names) > 50
    assert {name for name in names if not re.search(rf"\b{name}\b", code)} <= {"NAME"}


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
