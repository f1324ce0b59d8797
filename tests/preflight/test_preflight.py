# SPDX-License-Identifier: Apache-2.0
"""task=preflight and scripts/preflight.py: results, exit codes and what is printed, with the real ttnn."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import tour
from places import ROOT
from tt_transformers_v2.backends.ttnn.process import availability
from tt_transformers_v2.backends.ttnn.process.availability import Availability
from tt_transformers_v2.commands import preflight as preflight_cli
from tt_transformers_v2.commands import run as cli
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.fitted_plans import recall_fitted
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.planned import op_plans
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.hardware.op_table import LM_HEAD, MATRICES
from tt_transformers_v2.preflight.preflight_text import aligned, program_text, section_lines
from tt_transformers_v2.sweep.sweep_tables import row_of

WIDTH = 120

needs_ttnn = pytest.mark.skipif(
    importlib.util.find_spec("ttnn") is None, reason="ttnn is not installed: there is no wheel for this machine"
)


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _in_own_cache(own_cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", own_cache)
    monkeypatch.setattr("tt_transformers_v2.config.fitted_plans.outputs_dir", lambda: tmp_path / "outputs")


def run(folder: Path, *overrides: str) -> tuple[int, dict[str, Any]]:
    code = cli.main(["task=preflight", *overrides, f"hydra.run.dir={folder}"])
    return code, json.loads((folder / "result.json").read_text())


@needs_ttnn
def test_a_model_that_passes_exits_with_0_and_leaves_a_section(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = run(tmp_path / "run")
    section, printed = result["preflight"], capsys.readouterr().out
    assert (code, result["status"], result["error"]) == (0, "ok", None)
    assert result["accuracy"] is result["performance"] is None
    assert section["asked_ops"] == len(section["ops"]) > 50
    assert (section["failed_ops"], section["l1_limit"], section["l1_usable"]) == (0, 1499136, 1393312)
    assert section["worst_l1"] == max(row["peak"] for row in section["ops"])
    for phase in ("prefill", "decode"):
        assert 0 < section["worst"][phase]["share"] < section["worst"][phase]["share_of_limit"] < 1
    assert "checked by ttnn" in printed
    assert "nothing was run" in printed
    assert f"{section['asked_ops']} ops checked, 0 fitted, 0 failed" in printed


@needs_ttnn
def test_a_refused_op_exits_with_1_and_the_result_is_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = run(tmp_path / "run", "model=llama8b", "runtime.programs.qkv_prefill.in0_block_w=64")
    section, printed = result["preflight"], capsys.readouterr().out
    assert (code, result["status"]) == (1, "failed")
    assert result["error"].startswith("2 of 144 ops rejected, first prefill layer 0..30 qkv: Statically allocated")
    assert section["failed_ops"] == 2
    assert "beyond max L1 size of 1499136 B" in printed
    assert "fix    runtime.programs.qkv_prefill.in0_block_w=16: smaller blocks need less L1 (verified" in printed
    assert "or     leave out runtime.programs.qkv_prefill" in printed


@needs_ttnn
def test_what_was_fitted_is_the_plan_of_later_runs(tmp_path: Path) -> None:
    _, result = run(tmp_path / "run", "device=t3k", "model=llama70b")
    assert result["preflight"]["fitted_ops"] == 2
    checked = check_overrides(["device=t3k", "model=llama70b", "task=accuracy"])
    later = resolve(compose(checked.texts), checked.typed)
    plans = op_plans(later, recall_fitted(later))
    for phase, rows in (("prefill", 32), ("decode", 1)):
        planned = plans.matmul(LM_HEAD, phase, rows, *plans.parts[LM_HEAD.matrix])
        assert (planned.origin, planned.plan.in0_block_w) == ("fitted", 4)
        assert plans.at_layer(0).matmul(MATRICES["w2"], phase, rows, *plans.parts["w2"]).origin == "as planned"


@needs_ttnn
def test_one_command_asks_about_several_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "all.json"
    assert preflight_cli.main(["--devices", "n300,T3K", "--out", str(out)]) == 0
    found, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert [(row["device"], row["model"], row["verdict"]) for row in found["devices"]] == [
        ("n300", "llama8b", "ok"),
        ("t3k", "llama70b", "fitted"),
    ]
    t3k = found["devices"][1]["section"]
    assert (t3k["tensor_parallel"], t3k["fitted_ops"]) == (8, 2)
    assert "t3k     1x8   8x7   llama70b   8" in printed
    (fitted,) = [line for line in section_lines(t3k) if line.startswith("[yellow]fitted")]
    assert "prefill and decode lm_head x2: in0_block_w 8 -> 4, the first of 2 tried" in fitted
    for line in [line for row in found["devices"] for line in section_lines(row["section"])]:
        if line.startswith(("phase", "prefill", "decode", " " * 9)):
            assert len(line.replace("[green]", "").replace("[yellow]", "").replace("[/]", "")) <= WIDTH, line


@needs_ttnn
def test_several_models_on_a_device_have_a_row_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "all.json"
    models = "smollm2_135m,llama70b,Llama-3.2-1B,smollm2_135m"
    assert preflight_cli.main(["--devices", "n150", "--model", models, "--out", str(out)]) == 1
    rows = json.loads(out.read_text())["devices"]
    assert [(row["model"], row["verdict"]) for row in rows] == [
        ("smollm2_135m", "ok"),
        ("llama70b", "none"),
        ("llama1b", "ok"),
    ]
    assert [row["section"] and row["section"]["model"] for row in rows] == [
        "SmolLM2-135M-Instruct",
        None,
        "Llama-3.2-1B-Instruct",
    ]
    assert "n150 llama70b: Llama-3.1-70B-Instruct does not fit on N150" in capsys.readouterr().out


@needs_ttnn
def test_a_device_that_no_model_fits_has_a_row_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "all.json"
    assert preflight_cli.main(["--devices", "n150", "--model", "llama70b", "--out", str(out)]) == 1
    (row,) = json.loads(out.read_text())["devices"]
    assert row["verdict"] == "none"
    assert "does not fit on N150" in capsys.readouterr().out


@pytest.mark.slow
@needs_ttnn
def test_every_device_takes_the_largest_model_that_fits(tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    assert preflight_cli.main(["--out", str(out)]) == 0
    rows = json.loads(out.read_text())["devices"]
    assert len(rows) == 14
    assert {row["model"] for row in rows} == {"llama8b", "llama70b"}


def test_results_csv_has_the_verdict_and_the_peak() -> None:
    result = {"status": "failed", "preflight": {"worst_l1": 1146880, "failed_ops": 2}}
    row = row_of("0", result, [])
    assert (row["status"], row["preflight_worst_l1"], row["preflight_failed_ops"]) == ("failed", 1146880, 2)


@pytest.mark.slow
@needs_ttnn
def test_a_sweep_shows_which_jobs_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = "memory.kv_cache_placement=DRAM,L1"
    assert cli.main(["--multirun", "task=preflight", values, f"hydra.sweep.dir={tmp_path}"]) == 1
    with (tmp_path / "results.csv").open() as file:
        rows = {row["memory.kv_cache_placement"]: row for row in csv.DictReader(file)}
    assert (rows["DRAM"]["status"], rows["DRAM"]["preflight_failed_ops"]) == ("ok", "0")
    assert (rows["L1"]["status"], rows["L1"]["preflight_failed_ops"]) == ("failed", "1")
    assert int(rows["DRAM"]["preflight_worst_l1"]) > 100000


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("runtime.programs.ff1.in0_block_w=4", "Did you mean ff2?"),
        ("runtime.programs.ff1_ff3.in0_blockw=4", "Did you mean in0_block_w?"),
    ],
)
def test_unknown_programs_exit_with_2_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, said: str
) -> None:
    assert cli.main(["task=preflight", override, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_ttnn_it_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "look_around", lambda: Availability(None, None, (), None, None))
    assert cli.main(["task=preflight", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "task=preflight needs the ttnn package" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["device=n150"], "device= does not apply to this command. Use --devices"),
        (["--devices", "n150,foo"], "no device named 'foo'"),
        (["--devices", "n150", "--model", "llama8b,fo"], "no model named 'fo'"),
        (["--device", "n150"], "Did you mean --devices?"),
        (["workload.bach=2"], "Did you mean workload.batch?"),
    ],
)
def test_mistakes_in_the_command_exit_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(preflight_cli, "require_ttnn", lambda what: None)
    assert preflight_cli.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_table_is_as_wide_as_its_cells_and_colours_only_verdicts() -> None:
    lines = aligned(("op", "kB", "verdict"), [("ok [x]", "1", "ok"), ("b", "22.5", "failed")], right=("kB",))
    assert lines == [
        "[bold]op        kB  verdict[/]",
        r"ok \[x]     1  [green]ok[/]",
        "b       22.5  [bold red]failed[/]",
    ]


def test_programs_are_named_in_short() -> None:
    decode = {"kind": "DramShardedPlan", "cores": 32, "in0_block_w": 4, "per_core_m": 1, "per_core_n": 6}
    prefill = {"kind": "MulticastPlan", "columns": 8, "rows": 4, "in0_block_w": 4, "out_subblock_h": 1}
    prefill |= {"out_subblock_w": 8, "per_core_m": 2, "per_core_n": 16}
    sdpa = {"kind": "SdpaPlan", "columns": 8, "rows": 8, "q_chunk_size": 32, "k_chunk_size": 128}
    exact = sdpa | {"k_chunk_size": 0, "exp_approx_mode": False}
    assert program_text(decode) == "32 cores k4 n6"
    assert program_text(prefill) == "8x4 k4 s1x8 2x16"
    assert program_text(sdpa | {"exp_approx_mode": True}) == "8x8 q32 k128"
    assert program_text(exact) == "8x8 q32 k auto exact exp"
    assert program_text(None) == ""


@needs_ttnn
@pytest.mark.slow
@pytest.mark.parametrize("step", tour.steps("docs/preflight.md"), ids=str)
def test_the_documented_commands_print_what_the_page_says(step: tour.Step, tmp_path: Path) -> None:
    words = tour.words_of(step, tmp_path)
    refused = "runtime.programs.lm_head" in step.command
    printed = tour.typed([sys.executable, *words], ROOT, code=1 if refused else 0)
    tour.assert_prints(step, printed)
