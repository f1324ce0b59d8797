# SPDX-License-Identifier: Apache-2.0
"""Tasks of lm-evaluation-harness: task=evaluate, and lm_eval's own command line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from places import ROOT
from tt_transformers_v2.commands import run as cli
from tt_transformers_v2.evaluate import harness

TASKS = ROOT / "tests" / "data" / "lm_eval"
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
def test_all_three_kinds_of_requests_give_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = "evaluate.tasks=[tt_words,tt_passages,tt_sequences]"
    result = evaluate(tmp_path, tasks, WORDS[1], "evaluate.limit=3", "backend=reference")
    section = result["evaluation"]
    assert section["numerics"] == "float32"
    assert section["tasks"]["tt_words"]["samples"] == 3
    assert 0 <= section["tasks"]["tt_words"]["figures"]["acc"]["value"] <= 1
    assert section["tasks"]["tt_passages"]["figures"]["bits_per_byte"]["value"] == pytest.approx(1.17, abs=0.25)
    assert section["tasks"]["tt_passages"]["score"] is None  # less is better
    assert section["tasks"]["tt_sequences"]["figures"]["exact_match,text"]["value"] > 0.3
    both = [section["tasks"][name]["score"] for name in ("tt_words", "tt_sequences")]
    assert section["score"] == pytest.approx(sum(both) / 2)
    assert result["config"]["evaluate"]["limit"] == 3
    printed = capsys.readouterr().out
    assert "tt_passages" in printed
    assert "bits_per_byte" in printed


@pytest.mark.usefixtures("lm_eval")
def test_a_sweep_has_columns_of_evaluations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = [
        "--multirun",
        "backend=reference,emulated",
        "backend.numerics=fast",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]
    assert cli.main(["task=evaluate", *WORDS, "evaluate.limit=2", *sweep]) == 0
    with (tmp_path / "sweep" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["evaluation"].partition(":")[0] for row in rows] == ["tt_words", "tt_words"]
    assert all(0 <= float(row["evaluation_score"]) <= 1 for row in rows)


@pytest.mark.usefixtures("lm_eval")
def test_lm_evals_command_line_gives_the_same_figures(tmp_path: Path) -> None:
    """Where the package is installed lm_eval knows of the model by itself; elsewhere the test announces it."""
    section = evaluate(tmp_path / "run", *WORDS, "evaluate.limit=4", "backend=reference")["evaluation"]
    program = "from lm_eval.__main__ import cli_evaluate; "
    if not announced():
        program = "from tt_transformers_v2.evaluate.harness_plugin import register; register(); " + program
    arguments = [
        "--model",
        "tt_transformers_v2",
        "--model_args",
        "device=n150,backend=reference",
        "--tasks",
        "tt_words",
    ]
    arguments += ["--include_path", str(TASKS), "--limit", "4", "--output_path", str(tmp_path / "theirs.json")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program + "cli_evaluate()", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [written] = tmp_path.glob("theirs*.json")
    theirs = json.loads(written.read_text())["results"]["tt_words"]
    ours = section["tasks"]["tt_words"]["figures"]
    assert (theirs["acc,none"], theirs["acc_norm,none"]) == (ours["acc"]["value"], ours["acc_norm"]["value"])


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
def test_an_unknown_task_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
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
    asked = ("evaluate.tasks=[tt_words,tt_passages]", WORDS[1], "backend.numerics=fast")
    sections = [
        evaluate(tmp_path / name, *asked, *overrides)["evaluation"]["tasks"]
        for name, overrides in {"reference": ("backend=reference",), "performance": (), "coarse": COARSE}.items()
    ]
    accuracy = [own["tt_words"]["figures"]["acc"]["value"] for own in sections]
    normed = [own["tt_words"]["figures"]["acc_norm"]["value"] for own in sections]
    perplexity = [own["tt_passages"]["figures"]["word_perplexity"]["value"] for own in sections]
    assert accuracy[0] >= accuracy[1] > accuracy[2]
    assert normed[0] > normed[1] > normed[2]
    assert perplexity[0] < perplexity[1] < perplexity[2]
