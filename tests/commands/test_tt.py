# SPDX-License-Identifier: Apache-2.0
"""`tt COMMAND`: every command is found by the name of its file."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT
from tt_transformers_v2.__main__ import commands, main

NEW = '''# SPDX-License-Identifier: Apache-2.0
"""Says hello, to show what one file makes."""


def main(arguments=None):
    print("hello", *arguments)
    return 0
'''


def test_every_script_is_a_command_and_says_what_it_does():
    scripts = {path.stem.replace("_", "-") for path in (ROOT / "scripts").glob("[a-z]*.py")} - {"tt"}
    assert set(commands()) >= scripts
    assert all(len(about) > 10 for about in commands().values())


def test_a_command_runs_by_its_name(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tt"])
    assert main(["predict", "device=n150", "model=llama8b"]) == 0
    assert "tokens/s/user" in capsys.readouterr().out
    assert main(["validate_predictions", "--nonsense"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [([], 2, "usage: tt COMMAND"), (["--help"], 0, "usage: tt COMMAND"), (["predikt"], 2, "Did you mean tt predict?")],
)
def test_what_is_no_command_is_answered(arguments, code, said, capsys):
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_a_command_is_added_by_one_file(tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "src/tt_transformers_v2/commands/hello.py").write_text(NEW)
    command = [sys.executable, str(Path(tmp_path) / "scripts/tt.py"), "hello", "world"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "hello world\n"), done.stderr
