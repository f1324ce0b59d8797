# SPDX-License-Identifier: Apache-2.0
"""The built wheel: its metadata and contents, and that its commands give from any folder what the checkout gives."""

import json
import os
import subprocess
import sys
import venv
import zipfile

import pytest

import tour
from other_application import assert_composes_our_groups, write_application
from places import ROOT

LINE = ("device=t3k", "precision=accuracy", "model=llama70b", "task=performance")


WITHOUT_CHECKOUT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build", reason='needs build: pip install -e ".[dev]"')
    pytest.importorskip("hatchling", reason='needs hatchling: pip install -e ".[dev]"')
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(target.glob("*.tar.gz"))) == 1
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel in an environment of its own; its dependencies are this one's, the checkout is not among them.

    So is pip, which takes seconds to make; it must not look at what is installed here.
    """
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n"
    )
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True, env=WITHOUT_CHECKOUT)
    assert list(packages.glob("tt_transformers_v2/conf/config.yaml"))
    return folder / "bin"


def result(command, out, cwd):
    run = [*command, *LINE, f"hydra.run.dir={out}"]
    done = subprocess.run(run, cwd=cwd, capture_output=True, text=True, env=WITHOUT_CHECKOUT, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "result.json").read_text())


def test_metadata_is_what_an_index_takes(wheel):
    pytest.importorskip("twine", reason='needs twine: pip install -e ".[dev]"')
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, wheel.parent.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_has_the_configuration_the_plugin_and_the_types_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "tt_transformers_v2",
        "hydra_plugins",
    }
    for wanted in ("conf/config.yaml", "conf/device/t3k.yaml", "py.typed", "report/report.css"):
        assert f"tt_transformers_v2/{wanted}" in names
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*") if path.is_file()}
    assert {f"tt_transformers_v2/{name}" for name in ours} <= set(names)


def test_an_installed_command_gives_the_result_of_the_checkout(installed, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ours = result([sys.executable, str(ROOT / "scripts" / "run.py")], tmp_path / "a", ROOT)
    theirs = result([str(installed / "tt-run")], tmp_path / "b", elsewhere)
    for each in (ours, theirs):
        del each["seconds"], each["git"]
    assert theirs == ours
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["tt-run", "tt-explain", "tt-predict", "tt-preflight", "tt-report", "tt-results"])
def test_every_installed_command_helps_from_any_folder(installed, tmp_path, name):
    command = [str(installed / name), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=WITHOUT_CHECKOUT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3
    assert list(tmp_path.iterdir()) == []


def test_another_application_composes_the_installed_groups(installed, tmp_path):
    write_application(tmp_path)
    assert_composes_our_groups(tmp_path, python=installed / "python", env=WITHOUT_CHECKOUT)


# The others are over in seconds; these run the same code from the checkout in test_documentation.py, and the last three
# go the way of another that is not among them.
LONG = (
    "task=preflight",
    "task=search",
    "task=quantize",
    "run.py device=",
    "run.py precision",
    "LoFi,HiFi2",
    "model=hf",
    "precision=accuracy,performance",
    "llama8b --what-if",
    "--target",
)


def tour_steps():
    found = []
    for step in tour.steps():
        long = any(word in step.command for word in LONG)
        found.append(pytest.param(step, marks=pytest.mark.slow if long else (), id=str(step)))
    return found


@pytest.mark.parametrize("step", tour_steps())
def test_the_tour_works_with_the_installed_commands(installed, tmp_path, step):
    if "task=preflight" in step.command:
        pytest.importorskip("ttnn", reason="ttnn is not installed: there is no wheel for this machine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if "results.py ls" in step.command:
        tour.typed([str(installed / "tt-run"), "task=performance"], elsewhere)
    words = tour.installed_words(tour.words_of(step, tmp_path), installed)
    printed = tour.typed(words, elsewhere, columns=step.columns)
    if not step.slow:
        tour.assert_prints(step, printed)
    assert "scripts/" not in printed
