# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/sweeps.md, run as written."""

import re
import shlex

import pytest
from sweeping import ROOT, rows

from in_process import typed_here

COMMANDS = re.findall(
    r"^    python (scripts/run.py --multirun .*)$", (ROOT / "docs/sweeps.md").read_text(), re.MULTILINE
)


def test_the_commands_are_found():
    assert len(COMMANDS) == 7


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_does_what_it_says(command, tmp_path):
    words = shlex.split(command)
    if words[-1] == "sweep.resume=last":
        first = [words[0], "--multirun", "seed=1,2", "task=performance"]
        assert typed_here([*first, f"hydra.sweep.dir={tmp_path / 'first'}"], ROOT).returncode == 0
    folder = tmp_path / "sweep"
    done = typed_here([*words, f"hydra.sweep.dir={folder}"], ROOT)
    assert done.returncode == 0, done.stderr
    where = tmp_path / "first" if words[-1] == "sweep.resume=last" else folder
    assert "ok" in {row["status"] for row in rows(where)}
    assert str(where / "results.csv") in done.stdout
