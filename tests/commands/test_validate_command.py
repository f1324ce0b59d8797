# SPDX-License-Identifier: Apache-2.0
"""scripts/validate_predictions.py: what it prints, and how mistakes end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from measured_rows import PUBLISHED, row, write
from places import ROOT
from tt_transformers_v2.commands.validate_predictions import main
from tt_transformers_v2.perf.measurements import OPTIONAL, REQUIRED, read_points


def test_the_command_prints_every_row_whole(capsys):
    assert main(["--points", str(ROOT / PUBLISHED)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = read_points(ROOT / PUBLISHED)
    for text, each in zip(lines[1 : len(rows) + 1], rows, strict=True):
        assert text.startswith(each.model)
        assert text.endswith(each.flag)
        assert f" {each.tensor_parallel} " in text
        assert "…" not in text
    assert max(len(line) for line, each in zip(lines[1:], rows, strict=False) if not each.flag) <= 160
    assert any(line.startswith("Summary") for line in lines)


def test_json_says_what_the_text_says(capsys, tmp_path):
    points = write(tmp_path / "own.csv", [row(ttft_ms=20.0), row(model="DeepSeek-V3"), row(flag="dup")])
    assert main(["--points", str(points), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first, second, third = found["rows"]
    assert first["decode"]["error_percent"] == pytest.approx((first["decode"]["predicted"] / 100 - 1) * 100)
    assert first["ttft"]["measured"] == 20.0
    assert (first["class"], first["fitted"]) == ("calibrated", True)
    assert (second["class"], second["decode"]["predicted"], second["decode"]["band_percent"]) == (
        "unsupported",
        None,
        None,
    )
    assert third["flag"] == "dup"
    assert found["summary"]["decode"]["all"]["rows"] == 1
    assert (found["summary"]["flagged_rows"], found["summary"]["unsupported_rows"]) == (1, 1)


def test_only_unsupported_rows_are_a_table_without_a_summary(capsys, tmp_path):
    points = write(tmp_path / "own.csv", [row(model="DeepSeek-V3")])
    assert main(["--points", str(points)]) == 0
    assert "1 are unsupported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lacks the columns"),
        (",".join(REQUIRED) + "\n", "has no rows"),
        ("model,device\nLlama-3.2-1B,N150\n", "lacks the columns tp"),
        (",".join([*REQUIRED, "tokens"]) + "\n", "unknown column 'tokens'"),
        (",".join(REQUIRED) + "\nLlama-3.2-1B,N150,1,1,1,128,performance,,-5,me\n", "positive number"),
        (",".join(REQUIRED) + "\nLlama-3.2-1B,N150,-1,1,1,128,performance,,5,me\n", "whole number"),
        (",".join(REQUIRED) + "\nLlama-3.2-1B,N150,1,1,1,128,fast,,5,me\n", "unknown mode 'fast'"),
        ("\x00\x01", "lacks" if sys.version_info >= (3, 11) else "is not a CSV file"),
    ],
)
def test_a_mistake_in_the_file_ends_in_a_line_and_two(capsys, tmp_path, text, words):
    points = tmp_path / "own.csv"
    points.write_text(text, encoding="utf-8")
    assert main(["--points", str(points)]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.startswith("error: ")
    assert said.out == ""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.yaml", None, "cannot be read"),
        ("list.yaml", "[1, 2]", "must be a mapping"),
        ("other.yaml", "model: llama", "no key 'model'"),
        ("broken.yaml", "a: [", "not plain YAML"),
        ("bare.yaml", "name: a\nrelease: b\n", "no architecture"),
    ],
)
def test_a_wrong_calibration_file_ends_in_a_line_and_two(capsys, tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    points = write(tmp_path / "own.csv", [row()])
    assert main(["--points", str(points), "--calibration", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err


def test_missing_files_and_options_are_mistakes(capsys, tmp_path):
    assert main(["--points", str(tmp_path / "none.csv")]) == 2
    assert "cannot read" in capsys.readouterr().err
    points = write(tmp_path / "own.csv", [row()])
    assert main(["--points", str(points), "--calibration", "tt_metal_1925"]) == 2
    assert "tt_metal_2025" in capsys.readouterr().err
    assert main([]) == 2
    assert "--points" in capsys.readouterr().err


def test_optional_columns_may_be_left_out_or_given(tmp_path):
    points = write(tmp_path / "own.csv", [row()])
    header, line = points.read_text(encoding="utf-8").splitlines()
    wider = tmp_path / "wider.csv"
    more = [name for name in OPTIONAL if name != "flag"]
    wider.write_text(f"{header},{','.join(more)}\n{line}{',' * len(more)}\n", encoding="utf-8")
    assert main(["--points", str(wider)]) == 0


def test_the_script_needs_no_heavy_package(tmp_path):
    points = write(tmp_path / "own.csv", [row()])
    code = (
        "import sys; from tt_transformers_v2.commands.validate_predictions import main; "
        f"assert main(['--points', {str(points)!r}]) == 0; "
        "assert not {'torch', 'numpy', 'ttnn', 'numba'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    script = [sys.executable, "scripts/validate_predictions.py", "--points", str(points)]
    done = subprocess.run(script, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Llama-3.2-1B" in done.stdout
