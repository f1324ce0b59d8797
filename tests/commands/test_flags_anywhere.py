# SPDX-License-Identifier: Apache-2.0
"""Flags may stand before, between and after what they belong to, for every command."""

from __future__ import annotations

import itertools
import re

import pytest

from places import ROOT
from tt_transformers_v2.commands import (
    calibrate,
    convert,
    explain,
    predict,
    preflight,
    report,
    results,
    run,
    validate_predictions,
)
from tt_transformers_v2.config.conf_folders import in_own_context

OWN = str(ROOT / "conf")  # a folder of options that adds nothing new
OVERRIDES = ["device=t3k", "precision=accuracy", "task=performance"]


def orders(words, flags):
    """`flags`, each a list of words, before, amid and after `words`, in both orders where there are several."""
    for arranged in (flags, flags[::-1])[: len(flags)]:
        for places in itertools.combinations_with_replacement(sorted({0, len(words) // 2, len(words)}), len(arranged)):
            out = list(words)
            for place, flag in sorted(zip(places, arranged, strict=True), key=lambda pair: -pair[0]):
                out[place:place] = flag
            yield out


def printed(main, arguments, capsys):
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    "flags",
    [
        [["--cfg", "job"]],
        [["-c", "job"], ["--package", "precision"]],
        [["--cfg=job"]],
        [["--info", "defaults"]],
    ],
    ids=str,
)
def test_a_run_prints_the_same(flags, capsys):
    found = [printed(run.main, given, capsys) for given in orders(OVERRIDES, flags)]
    assert found[0][0] == 0
    assert len(found[0][1].splitlines()) > 5
    assert all(each == found[0] for each in found)


def test_a_sweep_is_the_same(tmp_path, capsys):
    pytest.importorskip("torch")  # which a run needs, and the job with the newest Hydra has not
    sweep = ["device=n150", "compute.mlp.math_fidelity=LoFi,HiFi2", "task=performance"]
    found = []
    for number, given in enumerate(orders(sweep, [["--multirun"]])):
        code, out, _ = printed(run.main, [*given, f"hydra.sweep.dir={tmp_path / str(number)}"], capsys)
        assert code == 0
        found.append(re.findall(r"│ (\d+ │ \w+) ", out))
    assert len(found[0]) == 2
    assert all(each == found[0] for each in found)


def test_flags_that_exclude_each_other_are_refused_wherever_they_stand(capsys):
    for given in orders(OVERRIDES, [["--multirun"], ["--cfg", "job"]]):
        assert printed(run.main, given, capsys) == (
            2,
            "",
            "error: --multirun and --cfg cannot be combined. Leave out --multirun.\n",
        )


@pytest.mark.parametrize(
    ("main", "always", "flags"),
    [
        (predict.main, [], [["--json"]]),
        (predict.main, ["--what-if"], [["--config-dir", OWN]]),
        (explain.main, [], [["--config-dir", OWN]]),
        (run.main, ["--cfg", "job"], [["--config-dir", OWN]]),
    ],
    ids=["predict --json", "predict --what-if", "explain", "run --cfg"],
)
def test_what_is_printed_is_the_same(main, always, flags, capsys):
    found = [printed(main, given, capsys) for given in orders([*OVERRIDES, *always], flags)]
    assert found[0][0] == 0
    assert all(each == found[0] for each in found)


def test_flags_stand_before_the_commands_of_results_too(tmp_path, capsys):
    pytest.importorskip("torch")  # as above
    folder = str(tmp_path / "run")
    assert printed(run.main, ["device=n150", "task=performance", f"hydra.run.dir={folder}"], capsys)[0] == 0
    for command, words, flags in (
        ("ls", [str(tmp_path)], [["--json"], ["--newest", "1"]]),
        ("show", [folder], [["--json"]]),
        ("diff", [folder, folder], [["--json"], ["--tolerance", "3"]]),
        ("best", [folder], [["--json"], ["--top", "1"]]),
    ):
        found = [printed(results.main, given, capsys) for given in orders([command, *words], flags)]
        assert found[0][0] == 0
        assert len(found) >= 3
        assert all(each == found[0] for each in found), command


def test_a_report_of_several_folders_takes_flags_anywhere(tmp_path, capsys):
    pytest.importorskip("torch")  # as above
    folders = [str(tmp_path / name) for name in ("a", "b")]
    for folder, device in zip(folders, ("n150", "n300"), strict=True):
        assert run.main([f"device={device}", "task=performance", f"hydra.run.dir={folder}"]) == 0
    pages = set()
    for given in orders(folders, [["--compare"], ["--out", str(tmp_path / "page.html")]]):
        assert printed(report.main, given, capsys)[0] == 0
        pages.add(re.sub(r"\d\d:\d\d", "", (tmp_path / "page.html").read_text(encoding="utf-8")))
    assert len(pages) == 1


def test_every_command_is_in_this_file():
    folder = ROOT / "src/tt_transformers_v2/commands"
    own = {path.stem for path in folder.glob("*.py") if "def main(" in path.read_text(encoding="utf-8")}
    assert own == {each.__name__.rpartition(".")[2] for each in COMMANDS}


COMMANDS = (calibrate, convert, explain, predict, preflight, report, results, run, validate_predictions)


@pytest.mark.parametrize(
    ("read", "words", "flags"),
    [
        (predict._options, OVERRIDES, [["--what-if"], ["--target", "15"], ["--config-dir", OWN]]),
        (preflight._options, OVERRIDES, [["--verbose"], ["--devices", "n150"], ["--config-dir", OWN]]),
        (report._options, ["one", "two"], [["--compare"], ["--tolerance", "3"], ["--out", "page.html"]]),
        (convert._options, [], [["--from", "vllm", "{}"], ["--to", "yaml"], ["--model", "llama8b"]]),
        (lambda given: results._options(["diff", *given]), ["a", "b"], [["--json"], ["--tolerance", "3"]]),
        (lambda given: results._options(["ls", *given]), ["a"], [["--json"], ["--newest", "3"]]),
        (lambda given: results._options(["best", *given]), ["a"], [["--metric", "kl"], ["--where", "kl<1"]]),
        (lambda given: results._options(["show", *given]), ["a"], [["--json"]]),
        (calibrate._parser().read, [], [["--out", "x"], ["--points", "p.csv"], ["--force"]]),
        (validate_predictions._parser().read, [], [["--json"], ["--points", "p.csv"]]),
    ],
    ids=[
        "predict",
        "preflight",
        "report",
        "convert",
        "results diff",
        "results ls",
        "best",
        "show",
        "calibrate",
        "validate",
    ],
)
def test_options_are_read_the_same(read, words, flags):
    found = [vars(in_own_context(read)(given)) for given in orders(words, flags)]  # --config-dir adds to it
    assert len(found) >= 2
    assert all(each == found[0] for each in found)
