# SPDX-License-Identifier: Apache-2.0
"""The form of the scripts in findings/; running them needs a package index and takes minutes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from places import ROOT

FOLDER = ROOT / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
FIELDS = ["Expect", "Happens", "Seen", "Output", "Here"]
INSTALL = re.compile(r"pip\S* install(.*)")
PINNED = re.compile(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*")
FLAGS = {"--quiet", "--disable-pip-version-check"}

scripts = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def header(script: Path) -> list[str]:
    """The lines of comment between the licence and the first command."""
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["#!/usr/bin/env bash", "# SPDX-License-Identifier: Apache-2.0"]
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return lines[2:end]


def installed(text: str) -> list[str]:
    """What the `pip install` lines of a script's text name, flags left out."""
    words = [word for line in INSTALL.findall(text) for word in line.split()]
    return [word for word in words if word not in FLAGS]


def test_there_are_scripts_to_check():
    assert len(SCRIPTS) >= 12


@scripts
def test_bash_can_read_the_script(script):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    read = subprocess.run([bash, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, ""), "an open here-document is only a warning"


@scripts
def test_the_header_has_its_fields_in_two_to_eight_lines(script):
    lines = header(script)
    assert [line[2:].split(":")[0] for line in lines if line[2] != " "] == FIELDS
    assert 2 <= len(lines) <= 8
    assert max(map(len, lines)) <= 120
    (seen,) = [line for line in lines if line.startswith("# Seen:")]
    assert re.search(r"\d+\.\d+.*\b20\d\d-[01]\d\b", seen), "a version and a month"


@scripts
def test_the_script_works_in_a_folder_that_it_removes(script):
    text = script.read_text(encoding="utf-8")
    assert text.split("\nset ")[1].startswith("-euo pipefail\n")
    assert '\nfolder="$(mktemp -d)"\ntrap \'rm -rf "$folder"\' EXIT\n' in text
    assert re.search(r'^cd "\$folder"$', text, re.M)


@scripts
def test_every_package_is_pinned_and_comes_from_the_configured_index(script):
    packages = installed(script.read_text(encoding="utf-8"))
    assert packages
    assert [name for name in packages if not PINNED.fullmatch(name)] == []


@scripts
def test_the_script_holds_none_of_our_code_and_something_that_can_fail(script):
    text = script.read_text(encoding="utf-8")
    assert "tt_transformers_v2" not in text
    assert re.search(r"^\s*assert |^grep -q ", text, re.M)


@pytest.mark.parametrize("line", ["numpy", "numpy>=1", "-r more.txt", "--index-url=URL numpy==1", "./wheel.whl"])
def test_an_install_that_is_not_pinned_is_seen(line):
    assert not all(map(PINNED.fullmatch, installed(f"venv/bin/pip install --quiet {line}")))


def test_the_readme_lists_every_script_and_no_other():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\S+)\]\((\S+)\) \| (.+?) \| .+ \|$", text, re.M)
    assert [link for _, link, _ in rows] == [script.name for script in SCRIPTS]
    for name, link, library in rows:
        assert link == f"{name}.sh"
        versions = re.findall(r"\b\d+(?:\.\d+)+\w*", library)
        script = (FOLDER / link).read_text(encoding="utf-8")
        assert versions
        assert [version for version in versions if f"=={version}" not in script] == []
