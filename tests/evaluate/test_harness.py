# SPDX-License-Identifier: Apache-2.0
"""Tasks of lm-evaluation-harness: task=evaluate, and lm_eval's own command line."""

from __future__ import annotations

import csv
import functools
import importlib.util
import json
import math
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from places import ROOT
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.commands import run as cli
from tt_transformers_v2.evaluate import harness
from tt_transformers_v2.models.decoder import forward
from tt_transformers_v2.models.open_model import open_weights
from tt_transformers_v2.report import write_report

TASKS = ROOT / "tests" / "data" / "lm_eval"
_spec = importlib.util.spec_from_file_location("make_places", TASKS / "make_places.py")
assert _spec is not None
assert _spec.loader is not None
make_places = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_places)
WORDS = ("evaluate.tasks=[tt_words]", f"evaluate.include_path={TASKS}")
COARSE = (
    "precision=custom",
    *(f"precision.{group}=BFP4" for group in ("mlp_weights", "attention_weights", "kv_cache", "lm_head")),
    *(f"compute.{group}.math_fidelity=LoFi" for group in ("mlp", "attention", "sdpa", "lm_head")),
)


def evaluate(folder: Path, *overrides: str) -> dict[str, Any]:
    assert cli.main(["task=evaluate", *overrides, f"hydra.run.dir={folder}"]) == 0
    return json.loads((folder / "result.json").read_text())


def announced() -> bool:
    """Whether the installed package, if there is one, tells torch of lm-eval's plug-in."""
    return any(own.value.startswith("tt_transformers_v2.") for own in metadata.entry_points(group="torch.backends"))


@pytest.mark.usefixtures("lm_eval")
def test_all_three_kinds_of_requests_give_figures(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = "evaluate.tasks=[tt_words,tt_passages,tt_sequences]"
    result = evaluate(tmp_path, tasks, WORDS[1], *tiny, "evaluate.limit=3", "backend=reference")
    section = result["evaluation"]
    assert section["numerics"] == "float32"
    assert section["tasks"]["tt_words"]["samples"] == 3
    assert 0 <= section["tasks"]["tt_words"]["figures"]["acc"]["value"] <= 1
    expected = bits_per_byte(tiny, TASKS / "passages.jsonl", 3)
    assert section["tasks"]["tt_passages"]["figures"]["bits_per_byte"]["value"] == pytest.approx(expected, rel=1e-5)
    assert section["tasks"]["tt_passages"]["score"] is None  # less is better
    assert section["tasks"]["tt_sequences"]["figures"]["exact_match,text"]["value"] == 0  # the model is random
    both = [section["tasks"][name]["score"] for name in ("tt_words", "tt_sequences")]
    assert section["score"] == pytest.approx(sum(both) / 2)
    assert result["config"]["evaluate"]["limit"] == 3
    printed = capsys.readouterr().out
    assert "tt_passages" in printed
    assert "bits_per_byte" in printed


def bits_per_byte(tiny: tuple[str, ...], file: Path, documents: int) -> float:
    """Of the first `documents` texts of a file, by whole forward passes; a text's bytes are the model's tokens."""
    source, tokenizer = open_weights(None, path=tiny[1].partition("=")[2])
    total = count = 0.0
    for line in file.read_text().splitlines()[:documents]:
        ids = tokenizer.encode(json.loads(line)["text"])
        assert len(ids) <= source.spec.max_context
        read = torch.tensor([[tokenizer.eos, *ids[:-1]]])
        chances = torch.log_softmax(forward(ReferenceOps(), source, read)[0].double(), dim=-1)
        total += float(chances[torch.arange(len(ids)), torch.tensor(ids)].sum())
        count += len(ids)
    return -total / count / math.log(2)


@pytest.mark.usefixtures("lm_eval")
def test_a_sweep_and_its_report_have_columns_of_evaluations(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    sweep = ["--multirun", "precision=accuracy,performance", "backend.numerics=fast", f"hydra.sweep.dir={folder}"]
    assert cli.main(["task=evaluate", *WORDS, *tiny, "evaluate.limit=2", *sweep]) == 0
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["evaluation"].partition(":")[0] for row in rows] == ["tt_words", "tt_words"]
    assert all(0 <= float(row["evaluation_score"]) <= 1 for row in rows)
    report = write_report(folder).read_text()
    assert "evaluation_score" in report
    assert "tt_words: acc" in report


def lm_evals_program() -> list[str]:
    """lm_eval's command, without its own tasks, whose thousands of files take it 17 s to read; where the package is not
    installed, and lm_eval so does not know the model, a program that announces it first."""
    program = (
        "import functools; from lm_eval import tasks; from lm_eval.__main__ import cli_evaluate; "
        "tasks.TaskManager = functools.partial(tasks.TaskManager, include_defaults=False); cli_evaluate()"
    )
    if not announced():
        program = "from tt_transformers_v2.evaluate.harness_plugin import register; register(); " + program
    return [sys.executable, "-c", program]


@pytest.mark.usefixtures("lm_eval")
def test_lm_evals_command_line_gives_the_same_figures(tiny: tuple[str, ...], tmp_path: Path) -> None:
    asked = (*tiny, "device=n150", "backend=reference")
    section = evaluate(tmp_path / "run", *WORDS, "evaluate.limit=8", *asked)["evaluation"]
    arguments = ["--model", "tt_transformers_v2", "--model_args", ",".join(asked), "--tasks", "tt_words"]
    arguments += ["--include_path", str(TASKS), "--limit", "8", "--output_path", str(tmp_path / "theirs.json")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*lm_evals_program(), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [written] = tmp_path.glob("theirs*.json")
    theirs = json.loads(written.read_text())["results"]["tt_words"]
    ours = section["tasks"]["tt_words"]["figures"]
    assert (theirs["acc,none"], theirs["acc_norm,none"]) == (ours["acc"]["value"], ours["acc_norm"]["value"])


@pytest.mark.usefixtures("lm_eval")
@pytest.mark.parametrize(("asked", "size"), [(None, 64), (1, 64), ("auto", 64), ("auto:4", 64), ("2", 2), (128, 128)])
def test_the_batch_size_that_nobody_asked_for_is_ours(asked: object, size: int) -> None:
    """lm_eval's command line says 1 where --batch_size is not given."""
    from tt_transformers_v2.evaluate.harness_model import _batch_size

    assert _batch_size(asked) == size


@pytest.mark.usefixtures("lm_eval")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"device": "n151"}, "n151"),
        ({"backend": "ttnn"}, "not run on a card"),
        ({"model": "llama1b"}, "no tokenizer"),
        ({"task": "accuracy"}, "Leave task and evaluate out"),
    ],
)
def test_a_mistake_in_model_args_ends_lm_eval_with_one_line(
    arguments: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tt_transformers_v2.evaluate.harness_model import HarnessModel

    with pytest.raises(SystemExit) as ended:
        HarnessModel.create_from_arg_obj(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("lm_eval")
@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"do_sample": True}, "this task samples"),
        ({"temperature": 0.7}, "this task samples"),
        ({"num_beams": 4}, "gen_kwargs num_beams are not understood"),
    ],
)
def test_what_greedy_decoding_cannot_do_is_refused(kwargs: dict[str, Any], said: str) -> None:
    from tt_transformers_v2.common.errors import ConfigError
    from tt_transformers_v2.evaluate.harness_model import _settings

    with pytest.raises(ConfigError, match=said):
        _settings({"until": ["\n"]} | kwargs)


@pytest.mark.usefixtures("lm_eval")
def test_stop_texts_and_the_number_of_tokens_are_read_by_lm_evals_names() -> None:
    from tt_transformers_v2.evaluate.harness_model import MAX_GEN_TOKS, _settings

    assert _settings({"until": "\n", "max_gen_toks": 8, "do_sample": False, "temperature": 0.0}) == (("\n",), 8)
    assert _settings({"until": ["a", ""]}) == (("a",), MAX_GEN_TOKS)


def refused(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    assert cli.main(["task=evaluate", *overrides]) == 2
    return capsys.readouterr().err


def test_without_lm_eval_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'tt-transformers-v2[lm-eval]'" in refused(capsys, "evaluate.tasks=[arc_easy]")


def test_no_task_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert "evaluate.tasks is empty" in refused(capsys)


@pytest.mark.usefixtures("lm_eval")
def test_an_unknown_task_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lm_eval.tasks import TaskManager

    # Without lm-eval's own tasks, which take seconds to read.
    own = functools.partial(TaskManager, include_path=str(TASKS), include_defaults=False)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **_: own())
    assert "Did you mean tt_words?" in refused(capsys, "evaluate.tasks=[tt_word]", WORDS[1])


@pytest.mark.usefixtures("lm_eval")
def test_a_task_that_names_python_code_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.yaml").write_text("task: own\nprocess_docs: !function utils.process\n")
    said = refused(capsys, "evaluate.tasks=[own]", f"evaluate.include_path={tmp_path}")
    assert "own.yaml, line 2: !function names Python code" in said


@pytest.mark.usefixtures("lm_eval")
def test_a_task_whose_data_is_not_here_is_not_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (TASKS / "tt_words.yaml").read_text().replace("words.jsonl", "absent.jsonl").replace("tt_words", "absent")
    (tmp_path / "absent.yaml").write_text(text)
    said = refused(capsys, "evaluate.tasks=[absent]", f"evaluate.include_path={tmp_path}")
    assert "the data of absent cannot be read here" in said


def test_the_plug_in_does_nothing_in_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    from tt_transformers_v2.evaluate import harness_plugin

    monkeypatch.delitem(sys.modules, "lm_eval", raising=False)
    monkeypatch.setattr(harness_plugin, "register", lambda: pytest.fail("registered"))
    harness_plugin.announce()


@pytest.mark.slow
@pytest.mark.usefixtures("lm_eval")
def test_figures_of_tasks_are_ordered_as_kl_divergence_is(tmp_path: Path) -> None:
    """The reference, the performance preset, all BFP4 at LoFi: KL 0, about 0.13 and above (tests/accuracy)."""
    asked = ("evaluate.tasks=[tt_places,tt_words,tt_passages]", WORDS[1], "backend.numerics=fast")
    sections = [
        evaluate(tmp_path / name, *asked, *overrides)["evaluation"]["tasks"]
        for name, overrides in {"reference": ("backend=reference",), "performance": (), "coarse": COARSE}.items()
    ]

    def figures(task: str, metric: str) -> list[float]:
        return [own[task]["figures"][metric]["value"] for own in sections]

    places, words, normed = figures("tt_places", "acc"), figures("tt_words", "acc"), figures("tt_words", "acc_norm")
    assert places[0] > places[1] > places[2]
    assert min(words[:2]) > words[2]  # 116 documents do not tell the first two apart
    assert normed[0] > normed[1] > normed[2]
    perplexity = figures("tt_passages", "word_perplexity")
    assert perplexity[0] < perplexity[1] < perplexity[2]


def test_the_places_are_those_of_the_time_zone_database(tmp_path: Path) -> None:
    """By the rule of make_places.py, on a database of a few lines; places.jsonl has only what the rule can give."""
    (tmp_path / "iso3166.tab").write_text("#code\tname\nDE\tGermany\nFR\tFrance\nIT\tItaly\nES\tSpain\nSX\tSint (x)\n")
    zones = ["DE\t+0\tEurope/Berlin", "FR\t+0\tEurope/Paris", "IT\t+0\tEurope/Rome", "ES\t+0\tEurope/Madrid\tmainland"]
    (tmp_path / "zone.tab").write_text("\n".join(["# comment", *zones, "SX\t+0\tAmerica/Lower_Princes"]))
    made = make_places.documents(tmp_path)
    assert len(made) == 8
    assert made[0] == {
        "context": "The city of Berlin is in the continent of",
        "choices": make_places.AREAS,
        "answer": 3,
    }
    assert made[5]["context"] == "The city of Paris is in the country of"
    assert (made[5]["choices"], made[5]["answer"]) == (["France", "Germany", "Italy", "Spain"], 0)
    kept = [json.loads(line) for line in make_places.OWN.read_text().splitlines()]
    assert len(kept) == 560
    assert all(len(set(own["choices"])) == 4 and 0 <= own["answer"] < 4 for own in kept)
