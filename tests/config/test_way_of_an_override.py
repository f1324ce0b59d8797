# SPDX-License-Identifier: Apache-2.0
"""An override passes few files before it does its work, and the jobs of a sweep parse and check theirs once."""

import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from places import TESTS
from tt_transformers_v2.config import overrides as checking
from tt_transformers_v2.report import write_report
from tt_transformers_v2.sweep.engine import run_sweep

MOST_FILES = 14


@pytest.mark.parametrize("backend", [pytest.param("emulated", marks=pytest.mark.slow), "ttnn"])
def test_an_override_passes_few_files(backend):
    if backend == "ttnn":
        pytest.importorskip("ttnn", reason="ttnn is not installed: there is no wheel for this machine")
    command = [sys.executable, str(TESTS / "config" / "way_of_an_override.py"), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    files = [line.split()[1] for line in done.stdout.splitlines()]
    assert files[0] == "commands/run.py"
    assert {"config/overrides.py", "config/resolve.py", "hardware/schema.py"} < set(files)
    assert files[-1] in ("numerics/matrix_unit.py", "backends/ttnn/conversions.py")
    assert len(files) <= MOST_FILES, done.stdout


def test_a_sweep_parses_each_axis_and_checks_each_value_once_however_many_jobs_there_are(tmp_path, monkeypatch):
    parsed, checked = [], []
    parse, check = OverridesParser.parse_override, checking.coerce
    monkeypatch.setattr(
        OverridesParser, "parse_override", lambda self, text: (parsed.append(text), parse(self, text))[1]
    )
    monkeypatch.setattr(checking, "coerce", lambda key, *rest: (checked.append(key), check(key, *rest))[1])
    axes = ["task=performance", "model=llama1b", "workload.batch=1,2,4", "compute.mlp.math_fidelity=LoFi,HiFi2"]
    assert run_sweep(axes, tmp_path / "sweep", write_report) == 0
    assert sorted(parsed) == sorted(axes)
    assert len(list((tmp_path / "sweep").glob("*/result.json"))) == 6
    assert sorted(checked) == ["compute.mlp.math_fidelity"] * 2 + ["task"] + ["workload.batch"] * 3
