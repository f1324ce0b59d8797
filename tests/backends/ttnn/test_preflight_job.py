# SPDX-License-Identifier: Apache-2.0
"""Every op of a model asked of the real ttnn: what it refuses, what is tried in its place, what is said to help."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tt_transformers_v2.backends.ttnn.advice import candidates, kernel_group
from tt_transformers_v2.backends.ttnn.process.isolated import run_isolated
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.experiment_json import to_sections
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import Experiment, resolve
from tt_transformers_v2.preflight.preflight_job import keyed, question_of

Answer = dict[str, Any]
Row = dict[str, Any]

# Questions about one system, which one process answers: to start one takes longer than to ask.
TOGETHER: tuple[list[tuple[str, ...]], ...] = (
    [
        ("model=smollm2_135m",),
        ("model=smollm2_135m", "memory.kv_cache_placement=L1"),
        ("model=smollm2_135m", "precision.embedding=BFP8"),
        ("model=smollm2_135m", "precision=accuracy"),
        ("model=smollm2_135m", "model.sliding_window=32"),
        ("model=smollm2_135m", "runtime.programs.sdpa_prefill.exp_approx_mode=false"),
        ("model=llama8b", "runtime.programs.qkv_prefill.in0_block_w=64"),
        ("model=llama1b", "memory.weights_placement=L1"),
    ],
    [
        ("model=qwen3_0_6b", "device=t3k"),
        ("device=t3k", "model=llama70b"),
        ("device=t3k", "model=llama70b", "runtime.autofit=false"),
    ],
)
OVERFLOW = "Statically allocated dataflow buffers grow to 2000000 B which is beyond max L1 size of 1499136 B"


def experiment(*overrides: str) -> Experiment:
    checked = check_overrides([*overrides, "task=preflight"])
    return resolve(compose(checked.texts), checked.typed)


@pytest.fixture(scope="module")
def ask(cache: Path) -> Callable[..., Answer]:
    """The answer to a preflight of some overrides; the same question is asked once, with those it stands TOGETHER."""
    if importlib.util.find_spec("ttnn") is None:
        pytest.skip("ttnn is not installed: there is no wheel for this machine")
    known: dict[tuple[str, ...], Answer] = {}

    def ask(*overrides: str) -> Answer:
        if overrides not in known:
            questions = next((each for each in TOGETHER if overrides in each), [overrides])
            asked = [experiment(*each) for each in questions]
            run_isolated(
                "tt_transformers_v2.preflight.preflight_job:preflight_each",
                {"experiments": [to_sections(each) for each in asked], "advise": True},
                device=asked[0].hardware.spec,
                mock=True,
                timeout_s=300,
                cache=cache,
                on_progress=lambda facts: known.update({questions[facts["index"]]: facts["answer"]}),
            )
        return known[overrides]

    return ask


def failed(answer: Answer) -> list[Row]:
    return [row for row in answer["ops"] if row["verdict"] == "failed"]


def test_every_op_of_a_small_model_passes_and_has_its_bytes(ask: Callable[..., Answer]) -> None:
    answer = ask("model=smollm2_135m")
    rows = answer["ops"]
    assert not failed(answer)
    assert {row["phase"] for row in rows} == {"prefill", "decode"}
    assert {row["part"] for row in rows} == {"embedding", "layer 0..29", "LM head"}
    assert {"embedding", "rms_norm", "qkv", "rope", "sdpa", "o", "ff1_ff3", "silu_mul", "ff2", "add", "lm_head"} <= {
        row["op"] for row in rows
    }
    assert (answer["tokens"], answer["users"], answer["l1_usable"]) == (128, 1, 1393312)
    for row in rows:
        kinds = ("circular_buffers", "dataflow_buffers", "scratchpad", "tensors")
        assert row["peak"] == row["held"] + row["usage"]["total"] <= answer["l1_usable"]
        assert row["usage"]["total"] <= sum(row["usage"][kind] for kind in kinds)


def test_decode_counts_what_earlier_ops_hold(ask: Callable[..., Answer]) -> None:
    """Prefill's activations lie in DRAM; decode's residual is in L1 while the layer computes."""
    rows = {key: row["held"] for key, row in keyed(ask("model=smollm2_135m")["ops"]).items()}
    assert rows["prefill", "ff2", 0] < 5000
    assert rows["decode", "ff2", 0] > 10000


def test_a_cache_in_l1_is_refused_in_ttnns_words_and_moving_it_is_verified(ask: Callable[..., Answer]) -> None:
    (row,) = failed(ask("model=smollm2_135m", "memory.kv_cache_placement=L1"))
    assert (row["phase"], row["op"], row["said_by"]) == ("decode", "sdpa", "ttnn")
    assert row["said"] == "Input tensor 1 buffer type must be DRAM but got BufferType::L1"
    (fix,) = row["fixes"]
    assert fix["do"] == "memory.kv_cache_placement=DRAM"
    assert fix["all_pass"]


def test_an_embedding_in_bfp8_passes(ask: Callable[..., Answer]) -> None:
    answer = ask("model=smollm2_135m", "precision.embedding=BFP8")
    assert not failed(answer)
    assert [row["output"] for row in answer["ops"] if row["op"] == "embedding"] == [[[1, 128, 576]], [[1, 1, 576]]]


def test_accuracy_passes_whose_preset_has_the_cache_in_l1(ask: Callable[..., Answer]) -> None:
    assert not failed(ask("model=smollm2_135m", "precision=accuracy"))


def test_a_window_has_chunks_of_one_tile_in_decode(ask: Callable[..., Answer]) -> None:
    answer = ask("model=smollm2_135m", "model.sliding_window=32")
    assert not failed(answer)
    chunks = {row["phase"]: row["program"]["k_chunk_size"] for row in answer["ops"] if row["op"] == "sdpa"}
    assert chunks == {"prefill": 64, "decode": 32}


def test_the_exponential_is_chosen_without_ending_auto_fit(ask: Callable[..., Answer]) -> None:
    answer = ask("model=smollm2_135m", "runtime.programs.sdpa_prefill.exp_approx_mode=false")
    assert not failed(answer)
    modes = {row["phase"]: row["program"]["exp_approx_mode"] for row in answer["ops"] if row["op"] == "sdpa"}
    assert modes == {"prefill": False, "decode": True}


def test_a_small_part_of_the_hidden_size_is_not_taken_for_a_head(ask: Callable[..., Answer]) -> None:
    """Over 8 chips each holds 128 of 1024 columns, as wide as a head: they still make one norm."""
    assert not failed(ask("model=qwen3_0_6b", "device=t3k"))


def test_an_overflow_on_purpose_names_the_largest_block_that_passes(ask: Callable[..., Answer]) -> None:
    rows = failed(ask("model=llama8b", "runtime.programs.qkv_prefill.in0_block_w=64"))
    assert {(row["phase"], row["op"]) for row in rows} == {("prefill", "qkv")}
    for row in rows:
        assert "beyond max L1 size of 1499136 B" in row["said"]
        smaller, left_out = row["fixes"]
        assert smaller["do"] == "runtime.programs.qkv_prefill.in0_block_w=16"
        assert left_out["do"] == "leave out runtime.programs.qkv_prefill"
        assert left_out["program"]["in0_block_w"] == 4
        assert smaller["all_pass"]
        assert left_out["all_pass"]


def test_the_walk_goes_on_behind_a_refused_program_of_the_users(ask: Callable[..., Answer]) -> None:
    rows = ask("model=llama8b", "runtime.programs.qkv_prefill.in0_block_w=64")["ops"]
    assert rows[-1]["op"] == "lm_head concat"
    assert "lm_head" in {row["op"] for row in rows if row["phase"] == "prefill"}


def test_subblocks_that_dst_cannot_hold_are_refused_before_ttnn_is_asked() -> None:
    typed = ("runtime.programs.o_prefill.per_core_m=4", "runtime.programs.o_prefill.out_subblock_h=4")
    (error,) = experiment("model=smollm2_135m", *typed).errors
    assert error.what == "a subblock of o has 12 tiles (out_subblock_h x out_subblock_w); Dst holds 4."
    assert error.fix == "Set runtime.programs.o_prefill.out_subblock_h=1."


def test_blocks_that_no_core_holds_whole_are_refused_before_ttnn_is_asked() -> None:
    """ttnn would not check them, and miss the rest."""
    (error,) = experiment("model=smollm2_135m", "runtime.programs.ff2_decode.in0_block_w=4").errors
    assert error.what.startswith("in0_block_w=4 of ff2: each of 24 cores holds 2 tiles of the inner width")
    assert error.fix == "Set runtime.programs.ff2_decode.in0_block_w=2."


def test_without_auto_fit_the_same_overflow_fails_and_auto_fit_is_the_fix(ask: Callable[..., Answer]) -> None:
    wide = ("device=t3k", "model=llama70b")
    fitted = [row for row in ask(*wide)["ops"] if row["verdict"] == "fitted"]
    assert {row["op"] for row in fitted} == {"lm_head"}
    for row in fitted:
        assert (row["first_program"]["in0_block_w"], row["program"]["in0_block_w"]) == (8, 4)
        assert "beyond max L1 size" in row["said"]
    rows = failed(ask(*wide, "runtime.autofit=false"))
    assert {row["op"] for row in rows} == {"lm_head"}
    for row in rows:
        assert [fix["do"] for fix in row["fixes"]] == ["runtime.autofit=true", "compute.lm_head.fp32_dest_acc_en=false"]
        assert all(fix["all_pass"] for fix in row["fixes"])


def test_tensor_parallel_collectives_are_asked_about(ask: Callable[..., Answer]) -> None:
    ops = {(row["phase"], row["op"]) for row in ask("device=t3k", "model=llama70b")["ops"]}
    assert ("prefill", "attention reduce_scatter") in ops
    assert ("prefill", "rms_norm all_gather") in ops
    assert ("decode", "mlp all_reduce") in ops


def test_weights_that_l1_cannot_hold_are_a_row_of_their_own(ask: Callable[..., Answer]) -> None:
    rows = failed(ask("model=llama1b", "memory.weights_placement=L1"))
    assert rows
    for row in rows:
        assert row["fixes"][0]["do"] == "memory.weights_placement=DRAM"


def test_a_full_batch_on_a_blackhole_whose_rows_it_does_not_fill(ask: Callable[..., Answer]) -> None:
    answer = ask("device=p100", "model=smollm2_135m", "workload.batch=32")
    assert answer["users"] == 32
    assert not failed(answer)


def test_a_group_of_users_that_fill_no_rectangle_and_a_later_chunk(ask: Callable[..., Answer]) -> None:
    answer = ask(
        "device=n300",
        "model=smollm2_135m",
        "parallelism.tensor_parallel_size=1",
        "parallelism.data_parallel_size=2",
        "workload.batch=26",
        "workload.prompt_length=1000",
        "device.max_prefill_chunk_size=512",
    )
    assert (answer["mesh"], answer["users"], answer["tokens"], answer["chunks"]) == ([1, 1], 13, 512, 2)
    assert not failed(answer)
    assert "layer 0..29, chunk 2" in {row["part"] for row in answer["ops"]}


def refusal(op: str, phase: str, said: str, program: dict[str, Any] | None = None) -> Row:
    return {"op": op, "phase": phase, "said": said, "program": program, "passes_with": None}


def test_room_is_looked_for_where_it_costs_least_first() -> None:
    question = question_of(experiment("model=llama8b", "workload.batch=4", "memory.kv_cache_placement=L1"))
    texts = [fix.text for fix in candidates(refusal("qkv", "decode", OVERFLOW), question)]
    assert texts == [
        "compute.qkv_decode.fp32_dest_acc_en=false",
        "memory.kv_cache_placement=DRAM",
        "memory.activations_placement=DRAM",
        "workload.batch=2",
    ]
    question = question_of(experiment("model=llama8b", "workload.prompt_length=2048"))
    texts = [fix.text for fix in candidates(refusal("merge_heads", "prefill", OVERFLOW), question)]
    assert texts == [f"device.max_prefill_chunk_size={tokens}" for tokens in (1024, 512, 128)]


def test_weights_over_the_banks_may_lie_interleaved_instead() -> None:
    question = question_of(experiment("model=llama8b"))
    sharded = {"kind": "DramShardedPlan", "cores": 32, "in0_block_w": 1}
    texts = [fix.text for fix in candidates(refusal("ff1_ff3", "decode", OVERFLOW, sharded), question)]
    assert texts == ["memory.use_width_sharding=false", "memory.activations_placement=DRAM"]
    interleaved = question_of(experiment("model=llama8b", "memory.use_width_sharding=false"))
    assert [fix.text for fix in candidates(refusal("ff1_ff3", "decode", OVERFLOW), interleaved)] == texts[1:]


def test_no_fix_is_invented_for_what_ttnn_says_in_full() -> None:
    question = question_of(experiment("model=llama8b"))
    assert candidates(refusal("rope", "prefill", "All input tensors must have dtype = bfloat16"), question) == []


def test_ops_know_whose_compute_settings_they_run_with() -> None:
    assert kernel_group("sdpa", "prefill") == "sdpa_prefill"
    assert kernel_group("rms_norm", "decode") == "norm"
    assert kernel_group("ff2", "decode") == "ff2"
    assert kernel_group("mlp all_reduce", "decode") is None
