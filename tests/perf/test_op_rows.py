# SPDX-License-Identifier: Apache-2.0
"""Measured op times: what a file may hold, and how mistakes in one end."""

from __future__ import annotations

import csv

import pytest

from places import ROOT
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware.enums import DataFormat, MathFidelity
from tt_transformers_v2.perf import op_shapes as kinds
from tt_transformers_v2.perf.op_rows import OPTIONAL, REQUIRED, read_op_rows
from tt_transformers_v2.perf.op_shapes import SHORT_CONTEXT, op_kind, op_shape

PACKAGED = ROOT / "conf/measurements/op_rows_2026.csv"
GOOD = {
    "op": "Matmul DRAM-sharded",
    "shapes": "32x4096x6144",
    "in_dtypes": "BF16xBFP8",
    "fidelity": "HiFi2",
    "cores": "12",
    "device": "N150",
    "kernel_us": "111.2",
    "source": "a report",
}


def write(path, *rows, columns=None):
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_every_packaged_row_is_read_and_every_flag_is_known():
    rows = read_op_rows(PACKAGED)
    assert len(rows) == 891
    flags = {"", "untuned", "whole", "target", "dup", "before_change", "other_stack", "shape_assumed"}
    assert {row.flag for row in rows} == flags
    assert {row.kind for row in rows} - {""} == set(kinds.KINDS)


def test_a_row_is_read_into_kind_sizes_formats_and_time(tmp_path):
    (row,) = read_op_rows(write(tmp_path / "own.csv", GOOD))
    assert (row.kind, row.phase, row.shape.rows, row.shape.inputs, row.shape.outputs) == (
        kinds.MATMUL,
        "decode",
        32,
        4096,
        6144,
    )
    assert (row.activations, row.weights, row.fidelity) == (DataFormat.BF16, DataFormat.BFP8, MathFidelity.HiFi2)
    assert (row.cores, row.us, row.count, row.flag, row.line) == (12, 111.2, 1, "", 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_us": "fast"}, "line 2: kernel_us must be a number of microseconds above 0, not 'fast'"),
        ({"kernel_us": "0"}, "kernel_us must be a number"),
        ({"kernel_us": "inf"}, "kernel_us must be a number"),
        ({"fidelity": "HiFi5"}, "line 2: fidelity must be one of LoFi"),
        ({"device": ""}, "line 2: device is empty"),
        ({"source": ""}, "source is empty"),
        ({"phase": "training"}, "line 2: phase must be one of decode, prefill"),
        ({"n": "0"}, "line 2: n must be a whole number"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, change, message):
    columns = [*REQUIRED, *OPTIONAL]
    path = write(tmp_path / "own.csv", GOOD | change, columns=columns)
    with pytest.raises(ConfigError, match=message):
        read_op_rows(path)


def test_a_misspelt_a_missing_and_a_doubled_column_are_named(tmp_path):
    with pytest.raises(ConfigError, match="unknown column 'kernel_ms'"):
        read_op_rows(write(tmp_path / "own.csv", GOOD | {"kernel_ms": "1"}))
    with pytest.raises(ConfigError, match="lacks the column kernel_us"):
        read_op_rows(write(tmp_path / "own.csv", {k: v for k, v in GOOD.items() if k != "kernel_us"}))
    twice = tmp_path / "twice.csv"
    twice.write_text(",".join([*GOOD, "op"]) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="a column twice"):
        read_op_rows(twice)


def test_files_without_rows_and_files_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no rows"):
        read_op_rows(write(tmp_path / "own.csv", columns=list(GOOD)))
    with pytest.raises(ConfigError, match="cannot read"):
        read_op_rows(tmp_path / "none.csv")
    short = tmp_path / "short.csv"
    short.write_text(",".join(GOOD) + "\nMatmul,1x2x3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2: it has more or fewer fields"):
        read_op_rows(short)


def test_a_row_without_a_phase_is_prefill_where_it_says_so(tmp_path):
    rows = read_op_rows(write(tmp_path / "own.csv", GOOD, GOOD | {"op": "SDPA prefill causal"}))
    assert [row.phase for row in rows] == ["decode", "prefill"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Matmul DRAM-sharded LM head", kinds.MATMUL),
        ("MatmulDeviceOperation", kinds.MATMUL),
        ("MinimalMatmul", kinds.MATMUL),
        ("SparseMatmul", ""),
        ("Matmul router", ""),
        ("Matmul auto batched", ""),
        ("SdpaDecodeDeviceOperation", kinds.ATTENTION),
        ("LayerNorm(RMS)", kinds.NORM),
        ("RMSNorm distributed", ""),
        ("AllReduceAsync", kinds.ALL_REDUCE),
        ("ReduceScatterMinimalAsync", kinds.REDUCE_SCATTER),
        ("NLPCreateQKVHeadsDecode", kinds.CREATE_HEADS),
        ("RotaryEmbeddingLlama", kinds.ROPE),
        ("PagedUpdateCacheDeviceOperation", kinds.UPDATE_CACHE),
        ("PagedFusedUpdateCache", ""),
        ("BinaryNg mul+SiLU", kinds.GATED),
        ("BinaryNg add", kinds.ADD),
        ("BinaryNg", ""),
        ("ReshardDeviceOperation", kinds.MOVE),
        ("op-to-op gap", kinds.GAP),
        ("TopK", kinds.TOPK),
        ("Sampling", kinds.SAMPLER),
        ("sampling trace (top-k 32 split)", ""),
        ("Embedding", ""),
    ],
)
def test_kinds_follow_from_the_names_of_profiles(name, kind):
    assert op_kind(name, "decode") == kind


@pytest.mark.parametrize(
    ("kind", "text", "sizes"),
    [
        (kinds.MATMUL, "32x4096x14336 gate", {"rows": 32, "inputs": 4096, "outputs": 14336}),
        (kinds.MATMUL, "b32 32x4096x6144", {"rows": 1024, "inputs": 4096, "outputs": 6144}),
        (kinds.MATMUL, "Llama-70B galaxy decode", {}),
        (kinds.NORM, "32x4096", {"rows": 32, "inputs": 4096}),
        (kinds.ATTENTION, "1u 8q1kv d128 pos 131071", {"users": 1, "q_heads": 8, "kv_heads": 1, "context": 131071}),
        (kinds.ATTENTION, "32u 32q8kv d128 short", {"users": 32, "head_dim": 128, "context": SHORT_CONTEXT}),
        (kinds.ATTENTION, "1u 8q1kv d128 sliding pos 131071", {"kv_heads": 1, "context": 0}),
        (kinds.ATTENTION, "1u 32q2kv d128 position not stated", {"q_heads": 32, "context": 0}),
        (kinds.ATTENTION, "b32 32q/8kv d128 pos 1024", {"users": 32, "q_heads": 32, "context": 1024}),
        (kinds.ATTENTION, "S8192 at 8192 32q2kv d128", {"tokens": 8192, "offset": 8192, "head_dim": 128}),
        (kinds.ATTENTION, "32 seqs S32 10q2kv d128", {"users": 32, "tokens": 32, "q_heads": 10}),
        (kinds.REDUCE_SCATTER, "[768,2048] TP8", {"rows": 768, "inputs": 2048, "chips": 8}),
        (kinds.ALL_REDUCE, "32x4096, 4-ring", {"rows": 32, "inputs": 4096, "chips": 4}),
        (kinds.UPDATE_CACHE, "32u 8kv d128", {"users": 32, "kv_heads": 8}),
    ],
)
def test_sizes_are_read_as_a_person_writes_them(kind, text, sizes):
    found = op_shape(kind, text)._asdict()
    assert {name: found[name] for name in sizes} == sizes
    if not sizes:
        assert not any(found.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": "banana"}, "sizes of this matmul.*'banana'"),
        ({"shapes": "32x4096x16777217"}, "a size of 16777217: no tensor"),
        ({"in_dtypes": "FOO"}, "in_dtypes must name BFP4.*'FOO'"),
        ({"in_dtypes": "BF16xFOO"}, "in_dtypes must name BFP4"),
        ({"cores": "-3"}, "cores must be a number.*'-3'"),
        ({"cores": "0"}, "cores must be a number"),
        ({"cores": "many"}, "cores must be a number"),
    ],
)
def test_nonsense_is_refused_rather_than_left_out_as_too_little(tmp_path, change, message):
    with pytest.raises(ConfigError, match=rf"own.csv, line 2: .*{message}"):
        read_op_rows(write(tmp_path / "own.csv", GOOD | change))


@pytest.mark.parametrize(
    "change",
    [{"shapes": ""}, {"shapes": "32x4096x16777216"}, {"in_dtypes": ""}, {"cores": ""}, {"cores": "full grid"}],
)
def test_what_a_report_does_not_say_may_be_empty(tmp_path, change):
    assert len(read_op_rows(write(tmp_path / "own.csv", GOOD | change))) == 1


def test_a_file_as_excel_writes_it_is_read(tmp_path):
    path = write(tmp_path / "own.csv", GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_op_rows(path)) == 1
