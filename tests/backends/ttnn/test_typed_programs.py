# SPDX-License-Identifier: Apache-2.0
"""What planning refuses of a typed program, ttnn refuses too, and what planning takes it takes, up to the limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.hardware.op_table import DECODE, PREFILL

Run = Callable[..., Any]
OURS = ("program-block", "dram-readers")
INTERLEAVED, NO_FP32, FULL_SYNC = (
    "memory.use_width_sharding=false",
    "compute.mlp.fp32_dest_acc_en=false",
    "compute.mlp.dst_full_sync_en=true",
)
BATCH = "workload.batch=32"
# (op, phase, typed fields, further overrides, what ttnn 0.81.1 says of smollm2_135m; empty where it takes the program)
WORMHOLE: list[tuple[str, str, str, tuple[str, ...], str]] = [
    ("ff1_ff3", PREFILL, "columns=9", (), "must fit within device grid"),
    ("ff1_ff3", PREFILL, "rows=99", (), "must fit within device grid"),
    ("ff1_ff3", PREFILL, "rows=8", (), ""),
    ("ff1_ff3", PREFILL, "columns=4", (), "smaller than or equal to the number of columns"),
    ("ff1_ff3", PREFILL, "rows=2", (), "smaller than or equal to the number of rows"),
    ("ff1_ff3", PREFILL, "rows=4", (), ""),
    ("ff1_ff3", PREFILL, "out_subblock_h=2", (), "divisible by out_subblock_h"),
    ("ff1_ff3", PREFILL, "out_subblock_w=7", (), "divisible by out_subblock_w"),
    ("ff1_ff3", PREFILL, "per_core_n=8 out_subblock_w=8", (NO_FP32,), ""),
    ("ff1_ff3", PREFILL, "per_core_n=9 out_subblock_w=9", (NO_FP32,), "to fit in hardware"),
    ("ff1_ff3", PREFILL, "per_core_n=9 out_subblock_w=9", (NO_FP32, FULL_SYNC), "to fit in hardware"),
    ("ff1_ff3", PREFILL, "per_core_n=6 out_subblock_w=6", (), "to fit in hardware"),
    ("ff1_ff3", PREFILL, "per_core_n=1 out_subblock_w=1", (), "number of columns"),
    ("ff1_ff3", PREFILL, "per_core_n=100 out_subblock_w=1", (), ""),
    ("ff1_ff3", PREFILL, "per_core_m=4", (), ""),
    ("ff1_ff3", PREFILL, "per_core_m=5", (), "exceeds Mt (4)"),
    ("ff1_ff3", PREFILL, "per_core_m=17 out_subblock_h=1", ("workload.prompt_length=2048",), ""),
    ("ff1_ff3", PREFILL, "per_core_m=33 out_subblock_h=1", ("workload.prompt_length=2048",), "exceeds Mt (32)"),
    ("ff1_ff3", DECODE, "per_core_m=2", (), "Shard height 64"),
    ("ff1_ff3", DECODE, "per_core_n=1", (), ""),
    ("ff1_ff3", DECODE, "per_core_n=100", (), ""),
    ("ff1_ff3", DECODE, "readers_per_bank=2", (), "only on Blackhole"),
    ("lm_head", DECODE, "per_core_n=1", (), "number of available cores"),
    ("lm_head", PREFILL, "per_core_m=2", (), "Shard height 64"),
    ("ff1_ff3", DECODE, "columns=9", (INTERLEAVED,), "must fit within device grid"),
    ("ff1_ff3", DECODE, "columns=1", (INTERLEAVED,), "exceeds number of cores"),
    ("ff1_ff3", DECODE, "per_core_n=2 columns=4 rows=6", (INTERLEAVED,), ""),
    ("ff1_ff3", DECODE, "per_core_n=2 columns=4 rows=5", (INTERLEAVED,), "exceeds number of cores"),
    ("ff1_ff3", DECODE, "per_core_m=9", (INTERLEAVED,), ""),
    ("ff1_ff3", DECODE, "per_core_n=9 out_subblock_w=9", (INTERLEAVED, NO_FP32, FULL_SYNC), "to fit in hardware"),
    *(("sdpa", PREFILL, f"{name}={size}", (), "positive multiple of TILE_SIZE") for name, size in
      (("q_chunk_size", 100), ("k_chunk_size", 48), ("q_chunk_size", 0), ("k_chunk_size", 0))),
    ("sdpa", PREFILL, "q_chunk_size=96", (), ""),
    ("sdpa", PREFILL, "columns=9 rows=7", (), "outside the worker grid"),
    ("sdpa", PREFILL, "columns=20", (), "more cores than the device"),
    ("sdpa", DECODE, "columns=9 rows=7", (), "No core coordinate"),
    ("sdpa", DECODE, "q_chunk_size=100", (), ""),
    ("sdpa", DECODE, "k_chunk_size=0", (), ""),
    ("sdpa", DECODE, "k_chunk_size=96", ("workload.context=384",), "must be power of 2"),
    ("sdpa", DECODE, "k_chunk_size=128", ("workload.context=384",), ""),
    ("sdpa", PREFILL, "k_chunk_size=96", (), ""),
    ("sdpa", DECODE, "columns=4 rows=8", (BATCH,), ""),
    ("sdpa", DECODE, "columns=4 rows=7", (BATCH,), "must be >= batch size (32)"),
]  # fmt: skip
BLACKHOLE: list[tuple[str, str, str, tuple[str, ...], str]] = [
    ("ff1_ff3", DECODE, "readers_per_bank=3", (), ""),
    ("ff1_ff3", DECODE, "readers_per_bank=4", (), "must be in [1, 3]"),
    ("qkv", DECODE, "readers_per_bank=2", (), ""),
    ("qkv", DECODE, "readers_per_bank=3", (), "must be divisible by workers_per_bank 3"),
    ("o", DECODE, "readers_per_bank=2", (), "must be divisible by workers_per_bank 2"),
    ("ff1_ff3", PREFILL, "columns=12", (), "must fit within device grid"),
]


@pytest.mark.parametrize(("device", "asked"), [("N150", WORMHOLE), ("P150", BLACKHOLE)])
def test_planning_and_ttnn_refuse_the_same_typed_programs(device: str, asked: list[Any], run: Run) -> None:
    typed = [
        [
            f"device={device.lower()}",
            *more,
            *(f"runtime.programs.{_key(op, phase)}.{field}" for field in fields.split()),
        ]
        for op, phase, fields, more, _ in asked
    ]
    questions = [(overrides, *row[:2]) for overrides, row in zip(typed, asked, strict=True)]
    for row, overrides, said in zip(asked, typed, run("ttnn_program_jobs:typed", device, asked=questions), strict=True):
        assert (row[-1] in said) if row[-1] else said is None, (row, said)
        checked = check_overrides(overrides)
        known = [each for each in resolve(compose(checked.texts), checked.typed).findings if each.id in OURS]
        assert bool(known) == bool(said), (row, known, said)


def _key(op: str, phase: str) -> str:
    return op if op == "lm_head" else f"{op}_{phase}"
