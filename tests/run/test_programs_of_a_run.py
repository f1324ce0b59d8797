# SPDX-License-Identifier: Apache-2.0
"""Programs reach an emulated run: what is typed, and what a preflight of the same configuration found to fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tt_transformers_v2.accuracy.used_programs import programs_section
from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config import fitted_plans
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.fitted_plans import keep_fitted, recall_fitted
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.planned import op_plans
from tt_transformers_v2.config.resolve import Experiment, resolve, resolve_or_refuse
from tt_transformers_v2.hardware.op_table import MATRICES, PREFILL
from tt_transformers_v2.planning.plans import to_fields
from tt_transformers_v2.run.runner import run

# Two layers, the second with weights of its own; sums in a bf16 Dst, where the blocks of K show.
SMALL = [
    "model.package=null",
    "model.num_layers=2",
    "model.hidden_dim=256",
    "model.num_heads=4",
    "model.num_kv_heads=4",
    "model.intermediate_dim=512",
    "model.vocab_size=512",
    "workload.tokens=16",
    "compute.mlp.fp32_dest_acc_en=false",
    "layers=[{select: 1, precision: {ff2: BF16}}]",
]


@pytest.fixture(autouse=True)
def _own_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted_plans, "outputs_dir", lambda: tmp_path / "outputs")


def experiment(*overrides: str, task: str = "accuracy") -> Experiment:
    checked = check_overrides([*SMALL, f"task={task}", *overrides])
    return resolve(compose(checked.texts), checked.typed)


def accuracy(folder: Path, *overrides: str) -> dict[str, Any]:
    return run(experiment(*overrides), folder, show_progress=False)["accuracy"]


def program(section: dict[str, Any], op: str, layers: str, phase: str = "prefill") -> dict[str, Any]:
    (row,) = [row for row in section["programs"] if (row["op"], row["layers"], row["phase"]) == (op, layers, phase)]
    return row


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_a_typed_block_changes_the_figures(tmp_path: Path, numerics: str) -> None:
    own = f"backend.numerics={numerics}"
    planned = accuracy(tmp_path, own)
    typed = accuracy(tmp_path, own, "runtime.programs.ff2_prefill.in0_block_w=1")
    assert program(planned, "ff2", "0")["in0_block_w"] == 4
    assert program(typed, "ff2", "0") | {"in0_block_w": 4, "plan": "as planned"} == program(planned, "ff2", "0")
    assert program(typed, "ff2", "0")["plan"] == "typed"
    figures = [[row["mlp"] for row in found["modules"]] for found in (planned, typed)]
    assert figures[0] != figures[1]


def test_the_accurate_exponential_can_be_typed_and_is_named(tmp_path: Path) -> None:
    planned = accuracy(tmp_path, "workload.prefill_tokens=8")
    typed = accuracy(tmp_path, "workload.prefill_tokens=8", "runtime.programs.sdpa.exp_approx_mode=false")
    modes = [
        {row["phase"]: row["exp_approx_mode"] for row in each["programs"] if row["op"] == "sdpa"}
        for each in (planned, typed)
    ]
    assert modes == [{"prefill": True, "decode": True}, {"prefill": False, "decode": True}]  # as computed
    assert [row["attention"] for row in planned["modules"]] != [row["attention"] for row in typed["modules"]]


def test_a_result_names_the_program_of_every_matmul(tmp_path: Path) -> None:
    found = accuracy(tmp_path, "workload.prefill_tokens=8", "runtime.programs.o_decode.in0_block_w=1")
    ops = {(row["op"], row["phase"]) for row in found["programs"]}
    named = [*(op.name for op in MATRICES.values() if op.in_layer), "sdpa"]
    assert ops == {(name, phase) for name in named for phase in ("prefill", "decode")}
    row = program(found, "ff2", "1", "decode")
    assert row == {
        "op": "ff2",
        "phase": "decode",
        "layers": "1",
        "inputs": 512,
        "outputs": 256,
        "in0_block_w": 1,
        "fp32_dest_acc_en": False,
        "packer_l1_acc": True,
        "cores": 16,
        "grid": None,
        "plan": "as planned",
    }
    assert program(found, "ff1", "0")["grid"] == [8, 4]


def fitted_row(asked: Experiment, layer: int, part: str) -> dict[str, Any]:
    """A preflight's row of FF2 in prefill, for which only half of the block fits."""
    plans = op_plans(asked).at_layer(layer)
    first = plans.matmul(MATRICES["w2"], PREFILL, 128, 512, 256).plan
    fits = first.smaller()
    assert fits is not None
    programs = {"first_program": to_fields(first), "program": to_fields(fits)}
    return {"part": part, "op": "ff2", "phase": PREFILL, "verdict": "fitted"} | programs


def test_what_a_preflight_found_to_fit_is_used_for_its_layers_and_said(tmp_path: Path) -> None:
    planned = accuracy(tmp_path)
    keep_fitted(experiment(task="preflight"), [fitted_row(experiment(), 1, "layer 1")])
    found = accuracy(tmp_path)
    assert [program(found, "ff2", layer)["plan"] for layer in "01"] == ["as planned", "fitted"]
    assert [program(found, "ff2", layer)["in0_block_w"] for layer in "01"] == [4, 2]
    assert found["modules"][0]["mlp"] == planned["modules"][0]["mlp"]
    assert found["modules"][1]["mlp"] != planned["modules"][1]["mlp"]


@pytest.mark.parametrize("other", ["workload.batch=2", "precision.ff1_ff3=BFP8", "runtime.autofit=false"])
def test_another_configuration_is_not_fitted(other: str) -> None:
    keep_fitted(experiment(), [fitted_row(experiment(), 0, "layer 0")])
    assert len(recall_fitted(experiment())) == 1
    assert recall_fitted(experiment(other)) == {}


@pytest.mark.parametrize("changed", ["_ttnn_version", "_code"])
def test_another_ttnn_or_other_code_finds_nothing(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_fitted(experiment(), [fitted_row(experiment(), 0, "layer 0")])
    monkeypatch.setattr(fitted_plans, changed, lambda: "another")
    assert recall_fitted(experiment()) == {}


def test_a_prefill_plan_is_found_again_for_the_rows_that_it_was_fitted_for() -> None:
    keep_fitted(experiment(), [fitted_row(experiment(), 0, "layer 0")])
    known = op_plans(experiment(), recall_fitted(experiment())).at_layer(0)
    origins = [known.matmul(MATRICES["w2"], PREFILL, rows, 512, 256).origin for rows in (128, 512)]
    assert origins == ["fitted", "as planned"]


def test_of_an_op_that_was_asked_about_twice_the_smaller_plan_is_kept() -> None:
    row = fitted_row(experiment(), 0, "layer 0")
    smallest = row | {"part": "layer 0, chunk 2", "program": row["program"] | {"in0_block_w": 1}}
    for rows in ([row, smallest], [smallest, row]):
        keep_fitted(experiment(), rows)
        assert [plan.in0_block_w for plan in recall_fitted(experiment()).values()] == [1]  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "{", '[{"layer": 0}]', '[{"first": {"kind": "Other"}, "fits": {}}]', "[1]"])
def test_a_file_that_cannot_be_read_counts_as_not_there(text: str, tmp_path: Path) -> None:
    keep_fitted(experiment(), [])
    (path,) = (tmp_path / "outputs" / "cache" / "plans").iterdir()
    path.write_text(text)
    assert recall_fitted(experiment()) == {}


def test_the_oldest_files_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted_plans, "MOST_FILES", 2)
    folder = tmp_path / "outputs" / "cache" / "plans"
    folder.mkdir(parents=True)
    for age, name in enumerate(("new", "old", "older")):
        (folder / f"{name}.json").write_text("[]")
        os.utime(folder / f"{name}.json", (1e9 - age, 1e9 - age))
    keep_fitted(experiment(), [])
    assert sorted(path.stem for path in folder.iterdir() if path.stem in ("new", "old", "older")) == ["new"]


def test_an_impossible_block_is_refused_before_anything_runs() -> None:
    asked = experiment("runtime.programs.ff1_ff3_prefill.in0_block_w=3")
    said = r"in0_block_w=3 of ff1_ff3 does not divide the 8 tiles.*Set runtime.programs.ff1_ff3_prefill.in0_block_w=2"
    with pytest.raises(ConfigError, match=said):
        resolve_or_refuse(asked.config, asked.typed)


def test_every_plan_of_prompts_of_several_lengths_is_named(tmp_path: Path) -> None:
    ops = EmulatedOps(experiment().hardware, plans=op_plans(experiment()))
    for rows in (128, 2048):
        ops._attention_plan(rows, None)
    hardware = experiment().hardware
    rows = programs_section([], ops.attended.values(), hardware, 2)
    assert [row["q_chunk_size"] for row in rows] == [64, 256]
