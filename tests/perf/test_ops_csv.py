# SPDX-License-Identifier: Apache-2.0
"""The predicted decode step as the profiler's ops CSV, and measured profiles read back."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess

import pytest

from places import ROOT
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.perf import op_shapes as kinds
from tt_transformers_v2.perf.decode_profile import decode_profile
from tt_transformers_v2.perf.layer_ops import REST
from tt_transformers_v2.perf.measured_profile import EMBEDDING_KIND, read_profile
from tt_transformers_v2.perf.ops_csv import COLUMNS, ops_csv
from tt_transformers_v2.prediction.questions import ask

NEW = "calibration=tt_metal_2026"
N150 = ("device=n150", "model=llama8b", "precision=performance", NEW)
# One decode layer of Llama-3.1-8B on N150, 32 users, tt_transformers' performance recipe, as tt-perf-report wrote it:
# tt-metal models/autoports/meta_llama_llama_3_1_8b_instruct @3d6a972a, decode_trace_repo_performance, some columns.
LAYER = ROOT / "tests/data/llama8b_n150_decode_layer.csv"


def written(*overrides):
    prediction = ask(overrides).prediction
    ops, left = decode_profile(prediction)
    system = prediction.hardware.spec
    text = ops_csv(ops, arch=system.chip.arch.value, cores=system.grid[0] * system.grid[1])
    return prediction, ops, left, list(csv.DictReader(io.StringIO(text))), text


def test_the_csv_holds_the_step_and_nothing_that_is_no_device_op():
    prediction, ops, left, rows, _ = written(*N150)
    assert list(rows[0]) == list(COLUMNS)
    in_rows = sum(float(r["DEVICE KERNEL DURATION [ns]"]) + float(r["OP TO OP LATENCY [ns]"]) for r in rows) / 1e3
    assert in_rows + left == pytest.approx(prediction.speed.decode_us, rel=1e-3)
    others = (line for line in prediction.speed.ops if line.bound == "HOST" or line.op.name == REST)
    assert left == pytest.approx(sum(line.total_us for line in others), abs=2)
    assert len(rows) == len(ops) == 2 + 32 * 21
    assert {r["OP TYPE"] for r in rows} == {"tt_dnn_device"}


def test_ops_stand_in_the_order_of_a_measured_layer():
    _, ops, _, _, _ = written(*N150, "workload.batch=32")
    layer = [op.code for op in ops[1:22]]
    assert layer == [op.code for op in read_profile(LAYER).ops]


def test_host_time_stamps_rise_so_that_sorting_by_them_keeps_the_order():
    _, _, _, rows, _ = written(*N150)
    stamps = [int(row["HOST START TS"]) for row in rows]
    assert stamps == sorted(set(stamps))


def test_matmuls_have_shapes_formats_and_blocks():
    _, _, _, rows, _ = written(*N150)
    wqkv = next(row for row in rows if row["OP CODE"] == "MatmulDeviceOperation")
    assert (wqkv["INPUT_0_Y_PAD[LOGICAL]"], wqkv["INPUT_0_X_PAD[LOGICAL]"]) == ("32[1]", "4096[4096]")
    assert (wqkv["INPUT_1_Y_PAD[LOGICAL]"], wqkv["INPUT_1_X_PAD[LOGICAL]"]) == ("4096[4096]", "6144[6144]")
    assert (wqkv["INPUT_1_DATATYPE"], wqkv["INPUT_1_MEMORY"]) == ("BFLOAT8_B", "DEV_0_DRAM_WIDTH_SHARDED")
    assert wqkv["MATH FIDELITY"] == "HiFi2"
    assert "in0_block_w=4;" in wqkv["ATTRIBUTES"]


def test_layers_of_their_own_keep_their_place_and_their_formats():
    _, ops, _, _, _ = written(*N150)  # the last layer's FF1 and FF3 are BFP8
    formats = [op.inputs[1].data.value for op in ops if op.name == "ff1"]
    assert formats == ["BFP4"] * 31 + ["BFP8"]


def test_chips_that_share_a_layer_reduce_and_gather_in_it():
    _, ops, _, _, _ = written("device=t3k", "model=llama8b", NEW)
    assert [op.code for op in ops].count("AllReduceAsyncDeviceOperation") == 32
    assert [op.code for op in ops].count("AllGatherAsyncDeviceOperation") == 32


def test_norms_of_queries_and_keys_are_listed():
    _, ops, _, _, _ = written("device=n150", "model=qwen3_8b", NEW)
    assert [op.name for op in ops].count("qk_norm") == 2 * 36


def test_a_calibration_with_a_lump_a_layer_has_no_ops_to_write():
    with pytest.raises(ConfigError, match="one lump a layer"):
        written("device=n150", "model=llama8b", "calibration=tt_metal_2025")


def test_what_is_written_reads_back_as_it_was(tmp_path):
    _, ops, _, _, text = written(*N150)
    path = tmp_path / "ops.csv"
    path.write_text(text, encoding="utf-8")
    read = read_profile(path)
    assert read.devices == 1
    assert [op.us for op in read.ops] == pytest.approx([op.us for op in ops], abs=1e-3)
    names = {"add": kinds.ADD, "silu_mul": kinds.GATED, "embedding": EMBEDDING_KIND, "ff2": kinds.MATMUL}
    for name, kind in names.items():
        assert {op.kind for op, own in zip(read.ops, ops, strict=True) if own.name == name} == {kind}


@pytest.mark.parametrize(
    "overrides", [N150, ("device=p150", "model=llama1b", NEW), ("device=t3k", "model=qwen3_8b", NEW)]
)
def test_tt_perf_report_opens_it_and_prints_the_shares(tmp_path, overrides):
    program = shutil.which("tt-perf-report")
    if program is None:
        pytest.skip('needs tt-perf-report: pip install -e ".[dev]"')
    prediction, _, _, _, text = written(*overrides)
    path = tmp_path / "ops.csv"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [program, str(path), "--no-color", "--no-summary"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stdout
    shapes = prediction.speed.ops
    wqkv = next(line for line in shapes if line.op.name == "wqkv")
    printed = next(line for line in done.stdout.splitlines() if "MatmulDeviceOperation" in line)
    dram, flop = (float(share) for share in re.findall(r"([\d.]+) %", printed)[1:3])
    # It counts BFP8 as one byte an element, without exponents.
    assert dram == pytest.approx(wqkv.dram_share * 100 / 1.0625, rel=0.05)
    assert flop == pytest.approx(wqkv.flop_share * 100, rel=0.05)


def test_a_report_of_one_layer_is_read_and_its_products_told_apart():
    profile = read_profile(LAYER)
    found = [op.kind for op in profile.ops]
    assert found.count(kinds.MATMUL) == 5
    assert found.count(kinds.ADD) == 2
    assert found.count(kinds.GATED) == 1
    assert found.count(kinds.MOVE) == 4
    wqkv = next(op for op in profile.ops if op.kind == kinds.MATMUL)
    assert (wqkv.shape, wqkv.formats, wqkv.fidelity) == ((32, 4096, 6144), ("BF16", "BFP8"), "HiFi2")


def raw(*rows):
    columns = ["OP CODE", "OP TYPE", "DEVICE ID", "DEVICE KERNEL DURATION [ns]", "OP TO OP LATENCY [ns]"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return text.getvalue()


def test_times_of_several_devices_are_averaged(tmp_path):
    path = tmp_path / "two.csv"
    norm = "LayerNormDeviceOperation"
    path.write_text(
        raw((norm, "tt_dnn_device", 0, 1000, 0), (norm, "tt_dnn_device", 1, 3000, 0), ("x", "signpost", "", "", "")),
        encoding="utf-8",
    )
    profile = read_profile(path)
    assert (profile.devices, [op.us for op in profile.ops]) == (2, [2.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "is not a profile: it has neither the columns"),
        (raw(), "has no device ops"),
        (raw(("Norm", "tt_dnn_device", 0, "soon", 0)), r"line 2: DEVICE KERNEL DURATION \[ns\] must be a number"),
        (raw(("MatmulDeviceOperation", "tt_dnn_device", 0, 5, 0)), "line 2: INPUT_0_Y_PAD.*must be a size"),
        (
            raw(("A", "tt_dnn_device", 0, 5, 0), ("B", "tt_dnn_device", 1, 5, 0)),
            "its devices did not execute the same ops",
        ),
    ],
)
def test_what_is_no_profile_is_refused_in_a_line(tmp_path, text, message):
    path = tmp_path / "own.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_profile(path)


@pytest.mark.parametrize(("readers", "cores"), [(1, "12"), (2, "24")])
def test_matmuls_run_on_the_readers_that_are_asked_for(readers, cores):
    _, _, _, rows, _ = written(*N150, f"runtime.dram_readers_per_bank={readers}")
    sharded = [row for row in rows if "DRAM_WIDTH_SHARDED" in row["INPUT_1_MEMORY"]]
    assert {row["CORE COUNT"] for row in sharded} == {cores}
