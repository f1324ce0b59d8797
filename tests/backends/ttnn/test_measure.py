# SPDX-License-Identifier: Apache-2.0
"""How speed is measured and how programs are fitted, with a model and ops that are none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from tt_transformers_v2.backends.ttnn.measure_speed import measure_speed, median
from tt_transformers_v2.backends.ttnn.recording.autofit import Fitting, memory_named
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.planning.plans import DramShardedPlan

PLAN = DramShardedPlan(cores=8, in0_block_w=8, per_core_m=1, per_core_n=4)
TOO_LARGE = "TT_THROW @ /a.cpp:1: x\ninfo:\ncircular buffers grow to 2465120 B which is beyond max L1 size of 1499136 B"


class FakeModel:
    """Notes what is asked of it; the token after t is t + 1. It is its own decoder."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.decoder = self

    def prefill(self, tokens: Sequence[int], user: int = 0) -> torch.Tensor:
        self.calls.append(("prefill", str(user)))
        return torch.nn.functional.one_hot(torch.tensor(tokens[-1] + 1), 100).float()

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        self.calls.append(("step", f"{tokens} at {positions}"))
        return torch.nn.functional.one_hot(torch.tensor(tokens) + 1, 100).float()

    def record(self, tokens: Sequence[int], positions: Sequence[int]) -> None:
        self.calls.append(("record", f"{tokens} at {positions}"))

    def release(self) -> None:
        self.calls.append(("release",))


def test_warm_up_comes_first_and_no_prompt_after_the_trace() -> None:
    model, seen = FakeModel(), []
    timings = measure_speed(
        model, [[1, 2], [3, 4]], context=7, runs=2, steps=2, trace=True, progress=lambda *facts: seen.append(facts)
    )
    assert model.calls == [
        ("prefill", "0"),
        ("prefill", "0"),
        ("prefill", "0"),
        ("prefill", "0"),
        ("prefill", "1"),
        ("record", "[3, 5] at [7, 7]"),
        ("step", "[3, 5] at [7, 7]"),
        ("step", "[4, 6] at [8, 8]"),
        ("release",),
    ]
    assert (len(timings.prompts_ms), len(timings.steps_ms)) == (2, 2)
    assert seen[-1] == ("decode", 2, 2)


def test_without_a_trace_a_step_warms_up() -> None:
    model = FakeModel()
    measure_speed(model, [[1]], context=1, runs=1, steps=1, trace=False, progress=lambda *facts: None)
    assert [call[0] for call in model.calls[-3:]] == ["step", "step", "release"]


def test_the_trace_is_released_when_a_step_fails() -> None:
    class Fails(FakeModel):
        def step(self, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
            raise RuntimeError("device hang")

    model = Fails()
    with pytest.raises(RuntimeError, match="device hang"):
        measure_speed(model, [[1]], context=1, runs=1, steps=1, trace=True, progress=lambda *facts: None)
    assert model.calls[-1] == ("release",)


def test_the_median_is_a_measured_value() -> None:
    assert median([3.0, 1.0, 2.0, 9.0]) == 2.0


def fits(most: int) -> tuple[list[int], object]:
    tried: list[int] = []

    def call(plan: DramShardedPlan) -> str:
        tried.append(plan.in0_block_w)
        if plan.in0_block_w > most:
            raise RuntimeError(TOO_LARGE)
        return "out"

    return tried, call


def test_a_program_that_overflows_l1_is_made_smaller_once() -> None:
    recorder, (tried, call) = Fitting(autofit=True), fits(2)
    assert recorder.run("ff2", call, PLAN) == "out"
    assert recorder.run("ff2", call, PLAN) == "out"
    assert tried == [8, 4, 2, 2]
    assert recorder.smaller == 1


def test_what_fitted_one_layer_is_made_smaller_still_where_another_needs_it() -> None:
    recorder, (_, first) = Fitting(autofit=True), fits(4)
    recorder.run("ff2", first, PLAN)
    tried, second = fits(2)
    assert recorder.run("ff2", second, PLAN) == "out"
    assert tried == [4, 2]
    assert recorder.smaller == 1


def test_what_fits_at_once_is_no_smaller_program() -> None:
    recorder, (_, call) = Fitting(autofit=True), fits(8)
    recorder.run("ff2", call, PLAN)
    assert recorder.smaller == 0


@pytest.mark.parametrize(("autofit", "fixed"), [(False, False), (True, True)])
def test_what_the_user_fixed_is_not_fitted(autofit: bool, fixed: bool) -> None:
    tried, call = fits(2)
    with pytest.raises(RuntimeError, match=r"^ff2: circular buffers grow to 2465120 B"):
        Fitting(autofit).run("ff2", call, PLAN, fixed=fixed)
    assert tried == [8]


def test_other_refusals_and_full_dram_are_not_fitted() -> None:
    for said in ("shapes differ", "Out of Memory: Not enough space to allocate 9 B DRAM buffer across 12 banks"):
        tried: list[int] = []

        def call(plan: DramShardedPlan, said: str = said, tried: list[int] = tried) -> None:
            tried.append(plan.in0_block_w)
            raise RuntimeError(said)

        with pytest.raises(RuntimeError, match=f"ff2: {said[:12]}"):
            Fitting(autofit=True).run("ff2", call, PLAN)
        assert tried == [8]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Out of Memory: Not enough space to allocate 9 B DRAM buffer", r"the DRAM of N150 is full: .*workload\.batch"),
        (TOO_LARGE, r"the L1 of N150's cores is full: .*task=preflight"),
    ],
)
def test_full_memory_is_told_with_what_to_do(said: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told), memory_named("N150"):
        raise RuntimeError(said)


def test_other_refusals_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), memory_named("N150"):
        raise RuntimeError("shapes differ")
