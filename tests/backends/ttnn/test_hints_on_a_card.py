# SPDX-License-Identifier: Apache-2.0
"""What a run on a card says when ttnn refuses an op: the hints of the preflight, told as not tried."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tt_transformers_v2.backends.ttnn.advice import advised
from tt_transformers_v2.backends.ttnn.ops.op_settings import Settings
from tt_transformers_v2.backends.ttnn.preflight_walk import question_of
from tt_transformers_v2.backends.ttnn.recording.autofit import Fitting, memory_named
from tt_transformers_v2.backends.ttnn.recording.recorder import OpRefused
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import Experiment, resolve
from tt_transformers_v2.planning import plans

OVERFLOW = "Statically allocated circular buffers grow to 2465120 B which is beyond max L1 size of 1499136 B"


def experiment(*overrides: str) -> Experiment:
    checked = check_overrides(["model=llama8b", *overrides])
    return resolve(compose(checked), checked.typed)


def refused(asked: Experiment, phase: str, op: str, said: str, plan: plans.Plan | None = None) -> None:
    """An op of a run that ttnn refuses, with all that stands around a run on a card."""

    def call(tried: Any) -> None:
        raise RuntimeError(f"TT_FATAL @ a.cpp:1: x\ninfo:\n{said}\nbacktrace:\n")

    run: Any = SimpleNamespace(
        recorder=Fitting(autofit=False), phase=phase, programs={}, readers_per_bank=1, row_limit=1024
    )
    with memory_named("N150"), advised(question_of(asked)):
        Settings(run, asked.hardware).do(op, call, plan)


def test_what_may_help_is_told_in_the_preflights_words() -> None:
    asked = experiment("memory.kv_cache_placement=L1")
    with pytest.raises(ConfigError) as told:
        refused(asked, "decode", "sdpa", "Input tensor 1 buffer type must be DRAM but got BufferType::L1")
    assert told.value.message == (
        "ttnn refused sdpa in decode: Input tensor 1 buffer type must be DRAM but got BufferType::L1"
    )
    assert told.value.hint == (
        "May help: memory.kv_cache_placement=DRAM (ttnn's decode attention reads the cache from DRAM only). "
        "task=preflight tries it without a card."
    )


def test_a_typed_program_is_the_first_suspect() -> None:
    asked = experiment("runtime.programs.qkv_prefill.in0_block_w=64")
    plan = plans.prefill_matmul(4096, 6144, rows=128, grid=(8, 8), fp32_dest_acc_en=True)
    with pytest.raises(ConfigError, match=r"May help: leave out runtime.programs.qkv_prefill") as told:
        refused(asked, "prefill", "qkv", OVERFLOW, plan)
    assert told.value.hint is not None
    assert "; or " in told.value.hint


def test_the_phase_decides_which_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"compute.qkv_decode.fp32_dest_acc_en=false"):
        refused(experiment(), "decode", "qkv", OVERFLOW)
    with pytest.raises(ConfigError, match=r"compute.qkv_prefill.fp32_dest_acc_en=false"):
        refused(experiment(), "prefill", "qkv", OVERFLOW)


def test_what_no_hint_is_known_for_keeps_its_own_message() -> None:
    with pytest.raises(OpRefused, match=r"^add: shapes differ$"):
        refused(experiment(), "prefill", "add", "shapes differ")
    with pytest.raises(ConfigError, match="the DRAM of N150 is full"):
        refused(experiment(), "prefill", "add", "Out of Memory: Not enough space to allocate 9 B DRAM buffer")


def test_nothing_is_said_where_nothing_fails() -> None:
    with advised(question_of(experiment())):
        pass
