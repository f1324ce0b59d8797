# SPDX-License-Identifier: Apache-2.0
"""A measured profile held against the predicted decode step."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from places import ROOT
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.prediction.profile_comparison import compare_profile, comparison_json, comparison_lines
from tt_transformers_v2.prediction.profile_file import write_ops_csv
from tt_transformers_v2.prediction.questions import ask

LAYER = str(ROOT / "tests/data/llama8b_n150_decode_layer.csv")
AS_MEASURED = (
    "device=n150",
    "model=llama8b",
    "precision=performance",
    "calibration=tt_metal_2026",
    "workload.batch=32",
    "workload.prompt_length=32",
    "precision.kv_cache=BF16",
)


def compared(*more, path=LAYER):
    return compare_profile(ask((*AS_MEASURED, *more)).prediction, path)


def test_every_op_of_a_published_layer_is_explained_and_the_total_is_right():
    found = compared()
    assert (found.layers, found.devices) == (1, 1)
    assert not found.unexplained
    assert not found.missing
    assert found.measured_total == pytest.approx(986.9, abs=0.1)
    assert found.predicted_total == pytest.approx(found.measured_total, rel=0.05)
    assert found.predicted_gaps == pytest.approx(found.measured_gaps, rel=0.2)
    ff1 = found.pairs[0]
    assert (ff1.name, ff1.shape, ff1.formats, ff1.measured_count, ff1.predicted_count) == (
        "ff1, ff3",
        (32, 4096, 14336),
        "BF16xBFP4 LoFi",
        2,
        2,
    )


def test_a_matmul_in_other_formats_is_unexplained_and_said_to_be_predicted_in_which():
    found = compared("precision.wqkv=BFP4", "compute.qkv.math_fidelity=LoFi")
    (left,) = found.unexplained
    assert (left.shape, left.formats, left.note) == ((32, 4096, 6144), "BF16xBFP8 HiFi2", "predicted in BF16xBFP4 LoFi")
    (missing,) = found.missing
    assert missing.name == "wqkv"
    text = "\n".join(comparison_lines(found))
    assert "unexplained 111.2 us (11.3%)" in text
    assert "predicted in BF16xBFP4 LoFi" in text


def test_counts_that_differ_are_both_shown(tmp_path):
    lines = Path(LAYER).read_text(encoding="utf-8").splitlines()
    more = [line for line in lines if "ReshardDeviceOperation" in line]
    path = tmp_path / "more.csv"
    path.write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")
    found = compared(path=str(path))
    move = next(pair for pair in found.pairs if pair.name == "move")
    assert (move.measured_count, move.predicted_count) == (6, 4)
    assert any("6 / 4" in line for line in comparison_lines(found))


def test_ops_that_predictions_do_not_have_are_left_over(tmp_path):
    text = Path(LAYER).read_text(encoding="utf-8")
    path = tmp_path / "more.csv"
    path.write_text(text + "99,TilizeDeviceOperation,0,5.5,0.5,32,,BFLOAT16,nan,\n", encoding="utf-8")
    (left,) = compared(path=str(path)).unexplained
    assert (left.name, left.measured_us) == ("TilizeDeviceOperation", 5.5)


def test_json_says_what_the_text_says():
    found = compared()
    as_json = comparison_json(found)
    assert as_json["measured_us"] == found.measured_total
    assert as_json["unexplained_us"] == 0
    assert len(as_json["ops"]) == len(found.pairs)


def test_the_profile_of_another_model_is_refused_with_the_shapes_of_both():
    with pytest.raises(ConfigError, match=r"no matmul of this configuration: 32x4096x6144.*32x2048x3072"):
        compare_profile(ask(("device=n150", "model=llama1b", "calibration=tt_metal_2026")).prediction, LAYER)


def test_a_profile_without_attention_is_refused(tmp_path):
    lines = [line for line in Path(LAYER).read_text(encoding="utf-8").splitlines(keepends=True) if "Sdpa" not in line]
    path = tmp_path / "none.csv"
    path.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match="has no attention"):
        compared(path=str(path))


def cut(rows, path, layers):
    """Some layers of a written step, each from its first norm to the op before the next layer's."""
    starts = [i - 8 for i, row in enumerate(rows) if row["OP CODE"] == "SdpaDecodeDeviceOperation"]
    ends = [start + starts[1] - starts[0] for start in starts]
    return written([row for i in layers for row in rows[starts[i] : ends[i]]], path)


def written(rows, path):
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    """The rows of our own predicted decode step, in which the last of 32 layers has an MLP of other formats."""
    path = tmp_path_factory.mktemp("step") / "ops.csv"
    write_ops_csv(ask(AS_MEASURED).prediction, path)
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("layers", [[0], [31], [0, 31], [3, 4, 5]])
def test_layers_with_formats_of_their_own_are_held_against_as_many_of_the_same(step, tmp_path, layers):
    found = compared(path=cut(step, tmp_path / "some.csv", layers))
    assert found.layers == len(layers)
    assert not found.missing
    assert not found.unexplained
    assert found.predicted_total == pytest.approx(found.measured_total, rel=1e-3)


def test_several_decode_steps_are_held_against_as_many(step, tmp_path):
    found = compared(path=written(step * 2, tmp_path / "two.csv"))
    assert found.layers == 64
    assert not found.missing
    assert not found.unexplained
    assert found.predicted_total == pytest.approx(found.measured_total, rel=1e-3)
    assert all(pair.measured_count == pair.predicted_count for pair in found.pairs)


@pytest.mark.parametrize(("factor", "refused"), [(99, False), (101, True), (1 / 99, False), (1 / 101, True)])
def test_a_profile_in_another_unit_is_refused(step, tmp_path, factor, refused):
    name = "DEVICE KERNEL DURATION [ns]"
    path = written([{**row, name: float(row[name]) * factor} for row in step], tmp_path / "off.csv")
    if not refused:
        assert compared(path=path)
        return
    with pytest.raises(ConfigError, match=r"times as long as predicted.*nanoseconds"):
        compared(path=path)


def test_a_profile_of_another_architecture_is_refused(step, tmp_path):
    path = written([{**row, "DEVICE ARCH": "Blackhole"} for row in step], tmp_path / "bh.csv")
    with pytest.raises(ConfigError, match=r"was measured on Blackhole, and N150 is wormhole_b0"):
        compared(path=path)
