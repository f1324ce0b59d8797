# SPDX-License-Identifier: Apache-2.0
"""scripts/report.py and scripts/results.py as a user runs them: output, exit codes, what is left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import made_sweeps
import pytest

from places import ROOT
from tt_transformers_v2.commands import report as cli
from tt_transformers_v2.commands import results as results_cli


@pytest.fixture
def report(capsys):
    return _runner(cli.main, capsys)


@pytest.fixture
def results(capsys):
    return _runner(results_cli.main, capsys)


def _runner(main, capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def sweep(tmp_path):
    return made_sweeps.write(tmp_path / "sweep", made_sweeps.grid())


# report.py


def test_one_folder_gets_its_report_beside_its_results(report, sweep):
    code, out, err = report(sweep)
    assert (code, err) == (0, "")
    assert out == f"{sweep / 'report.html'}: 27 jobs, 27 finished\n"
    assert (sweep / "report.html").read_text().startswith("<!doctype html>")


def test_several_folders_make_one_report_where_asked(report, sweep, tmp_path):
    other = made_sweeps.write(tmp_path / "other", made_sweeps.grid(faster=0.9))
    code, _, err = report(sweep, other, "--out", tmp_path / "both.html")
    assert (code, err) == (0, "")
    assert not (sweep / "report.html").exists()
    assert '"title":"sweep + other"' in (tmp_path / "both.html").read_text()


def test_a_comparison_holds_what_got_worse(report, sweep, tmp_path):
    other = made_sweeps.write(tmp_path / "other", made_sweeps.grid(faster=0.9))
    assert report(sweep, other, "--compare", "--out", tmp_path / "c.html")[0] == 0
    text = (tmp_path / "c.html").read_text()
    assert text.count('"verdict":"worse"') == 27 * 3  # decode, throughput, time to first token
    assert report(sweep, other, "--compare", "--tolerance", "20", "--out", tmp_path / "c.html")[0] == 0
    assert '"verdict":"worse"' not in (tmp_path / "c.html").read_text()


def test_a_corrupt_result_is_a_warning_and_the_report_is_made(report, sweep):
    (sweep / "3" / "result.json").write_text("{")
    code, out, err = report(sweep)
    assert code == 0
    assert out.endswith("27 jobs, 26 finished, 1 broken\n")
    assert err.startswith(f"warning: {sweep / '3' / 'result.json'}: not a result")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{sweep}/nowhere"], "does not exist"),
        (["{sweep}", "--compare"], "--compare takes two folders, not 1"),
        (["{sweep}", "--out", "{sweep}"], "is a folder"),
        (["{sweep}", "--tolerance", "-1"], "must be a percentage"),
        (["{sweep}", "--opn"], "Did you mean --open?"),
        ([], "required"),
    ],
)
def test_a_mistake_is_answered_in_one_line(report, sweep, arguments, said):
    code, out, err = report(*(text.format(sweep=sweep) for text in arguments))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_the_scripts_run_from_anywhere(sweep, tmp_path):
    for script, *arguments in (("report.py", sweep), ("results.py", "show", sweep)):
        command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), script


# results.py


def test_ls_lists_newest_first_with_what_was_swept(results, sweep, tmp_path):
    run = (made_sweeps.write(tmp_path / "runs", made_sweeps.grid()[:1]) / "0").rename(tmp_path / "runs" / "2026-01-01")
    broken = made_sweeps.write(tmp_path / "old", [made_sweeps.grid()[0] | {"schema_version": 99}])
    for age, folder in enumerate((run, sweep, broken)):
        for path in folder.rglob("result.json"):
            os.utime(path, (1.7e9 - age * 1000,) * 2)
    code, out, err = results("ls", tmp_path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [Path(line.split()[6]).name for line in lines[1:3]] == ["2026-01-01", "sweep"]
    assert "27 ok" in lines[2]
    assert "device=n150,n300,t3k precision.mlp_weights=BFP4,BFP8,BF16" in lines[2]
    assert "newer version" in lines[3]
    found = json.loads(results("ls", tmp_path, "--json")[1])
    assert [entry["kind"] for entry in found] == ["run", "sweep", "sweep"]
    assert found[1]["jobs"] == {"ok": 27}
    assert len(json.loads(results("ls", tmp_path, "--newest", 1, "--json")[1])) == 1


def test_ls_of_an_empty_folder_says_so(results, tmp_path):
    assert results("ls", tmp_path)[1] == f"no results under {tmp_path}\n"
    assert results("ls", tmp_path / "nowhere")[0] == 2


def test_show_prints_a_row_per_job(results, sweep):
    code, out, _ = results("show", sweep)
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 28
    assert {"device", "status", "bound"} <= set(lines[0].split())
    assert "decode speed [tokens/s/user]" in lines[0]
    figures = json.loads(results("show", sweep, "--json")[1])
    assert figures[5]["figures"]["kl_divergence"] == pytest.approx(0.011)


@pytest.mark.parametrize("name", ["7", "7/result.json"])
def test_show_of_one_result_says_all_of_it(results, sweep, name):
    code, out, _ = results("show", sweep / name)
    assert code == 0
    for words in ("KL divergence", "predicted (roofline", "warning", "a-rule", "compute.mlp.math_fidelity=HiFi2"):
        assert words in out


def test_markup_in_a_result_is_printed_as_it_is(results, tmp_path):
    folder = made_sweeps.write(
        tmp_path, [made_sweeps.result(["a=[red]x[/]"], status="failed", error="[bold]no[/bold]")]
    )
    assert "a=[red]x[/]" in results("show", folder / "0")[1]
    assert "[bold]no[/bold]" in results("show", folder)[1]


def test_diff_of_results_names_settings_and_figures(results, sweep):
    code, out, _ = results("diff", sweep / "0", sweep / "8")
    assert code == 0
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["precision.mlp_weights", "BFP4", "BF16"],
        ["compute.mlp.math_fidelity", "LoFi", "HiFi4"],
    ]
    assert any("KL divergence" in line and "better" in line for line in out.splitlines())
    found = json.loads(results("diff", sweep / "0", sweep / "8", "--json")[1])
    assert found["configuration"]["precision.mlp_weights"] == {"a": "BFP4", "b": "BF16"}
    assert "the configurations are identical" in results("diff", sweep / "0", sweep / "0")[1]


def test_diff_of_sweeps_counts_what_moved(results, sweep, tmp_path):
    after = made_sweeps.grid(faster=0.9)[:20]
    after[4] = made_sweeps.result(after[4]["overrides"], status="failed", error="gone")
    other = made_sweeps.write(tmp_path / "other", after)
    code, out, _ = results("diff", sweep, other)
    assert code == 0
    assert "job 4: was ok, now failed: gone" in out
    assert "20 jobs matched" in out
    assert "7 jobs only in A, 0 only in B" in out
    found = json.loads(results("diff", sweep, other, "--json")[1])
    assert found["only_a"] == ["20", "21", "22", "23", "24", "25", "26"]
    assert found["status"] == [{"a": "4", "b": "4", "before": "ok", "after": "failed"}]
    code, _, err = results("diff", sweep, other / "0")
    assert (code, "Give two of the same kind" in err) == (2, True)


def test_best_keeps_the_condition_and_marks_the_front(results, sweep):
    found = json.loads(results("best", sweep, "--where", "kl_divergence<0.05", "--top", 2, "--json")[1])
    assert found["passing"] == 18
    assert (found["metric"], found["against"]) == ("decode_tokens_per_s_per_user", "kl_divergence")
    speeds = [entry["figures"]["decode_tokens_per_s_per_user"] for entry in found["best"]]
    assert speeds == sorted(speeds, reverse=True)
    assert all(entry["figures"]["kl_divergence"] < 0.05 for entry in found["best"])
    losses = [entry["figures"]["kl_divergence"] for entry in found["best"] if entry["front"]]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) > 1
    _, out, _ = results("best", sweep, "--metric", "ttft_ms", "--against", "top1", "--where", "device=n150")
    assert "★" in out
    assert "9 of 27 jobs pass; ★ marks the Pareto front with top-1 agreement" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metric", "kl"], "no figure named 'kl'"),
        (["--metric", "preflight_worst_l1"], "none of these jobs has preflight_worst_l1"),
        (["--metric", "reference_perplexity"], "neither high nor low is better"),
        (["--against", "reference_perplexity"], "neither high nor low is better"),
        (["--where", "kl_divergence"], "is not a condition"),
        (["--top", "some"], "whole number"),
    ],
)
def test_a_mistaken_question_is_answered_in_one_line(results, sweep, arguments, said):
    code, out, err = results("best", sweep, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_best_of_nothing_says_so(results, sweep):
    code, out, _ = results("best", sweep, "--where", "kl_divergence<0")
    assert (code, out) == (0, "0 of 27 jobs pass; ★ marks the Pareto front with KL divergence\n")
