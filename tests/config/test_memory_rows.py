# SPDX-License-Identifier: Apache-2.0
"""The memory map against what ran and what ran out of DRAM on cards: the rows that its reserve was fitted to."""

from __future__ import annotations

import pytest

from tt_transformers_v2.calibrate.measured_rows import row_overrides
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.groups import option
from tt_transformers_v2.config.known_overflows import memory_rows
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.perf.measurements import MeasuredRow
from tt_transformers_v2.perf.memory import FRAGMENTED, RESERVE, UNNAMED, memory_fit


def experiment(*overrides):
    checked = check_overrides(overrides)
    return resolve(compose(checked.texts), checked.typed)


def configuration(row):
    """A memory row as a user would type it; what it does not state is left as it comes."""
    speed = MeasuredRow(
        row.model, row.device, row.tensor_parallel, row.data_parallel, row.batch, 128, row.mode, 1.0, 1.0, row.source
    )
    texts = [text for text in row_overrides(speed) if not text.startswith(("device=", "model="))]
    texts += [f"device={option('device', row.device)}", f"model={option('model', row.model)}"]
    texts += [] if row.chunk is None else [f"device.max_prefill_chunk_size={row.chunk}"]
    texts += [] if row.trace_region is None else [f"device.trace_region_size={row.trace_region}"]
    return [*texts, f"model.max_context={max(row.context, 131072)}", f"workload.context={row.context}"]


COUNTED = [row for row in memory_rows() if not row.flag]


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: f"{row.line}-{row.model}-{row.device}")
def test_what_ran_fits_and_what_ran_out_does_not(row):
    found = experiment(*configuration(row))
    assert [finding.id for finding in found.errors] == ([] if row.ran else ["dram-overflow"])


def test_flagged_rows_say_why_they_do_not_count():
    flagged = [row for row in memory_rows() if row.flag]
    assert len(flagged) == 3
    assert all(len(row.flag.split()) > 3 for row in flagged)


def slack(row):
    """Share of DRAM left by what is named, and prefill's share, of a memory row."""
    found = experiment(*configuration(row))
    fit = memory_fit(found.hardware, found.spec, batch=row.batch, context=row.context)
    return (fit.dram_size - fit.used - fit.activations - fit.rotary) / fit.dram_size, fit.activations / fit.dram_size


def test_the_two_constants_of_the_reserve_are_held_from_both_sides():
    """A few thousandths more of either and a row that ran would not fit; less, and one that ran out would."""
    slacks = [(row.ran, *slack(row)) for row in COUNTED]

    def explained(unnamed, fragmented):
        return all(
            (left >= max(RESERVE - prefill, unnamed + fragmented * prefill)) is ran for ran, left, prefill in slacks
        )

    assert explained(UNNAMED, FRAGMENTED)
    assert not explained(UNNAMED + 0.004, FRAGMENTED)
    assert not explained(UNNAMED - 0.004, FRAGMENTED)
    assert not explained(UNNAMED, FRAGMENTED + 0.1)
    assert not explained(UNNAMED, FRAGMENTED - 0.05)


N150 = ("device=n150", "model=llama8b")
TWO_OF_THEM = ("device=n300", "model=llama8b", "parallelism.tensor_parallel_size=1", "parallelism.data_parallel_size=2")


@pytest.mark.parametrize(
    "asked",
    [
        (*N150, "workload.context=65536"),
        (*N150, "workload.context=65536", "device.max_prefill_chunk_size=1024"),
        (*N150, "workload.context=65536", "precision=accuracy"),
        (*TWO_OF_THEM, "workload.context=65536", "workload.batch=2", "device.max_prefill_chunk_size=1024"),
        (*N150, "model.name=mine", "workload.context=62272", "device.max_prefill_chunk_size=1024"),
    ],
    ids=" ".join,
)
def test_what_a_report_says_ran_out_fits_in_no_other_guise(asked):
    (error,) = experiment(*asked).errors
    assert error.id == "dram-overflow"
    assert "On a card Llama-3.1-8B ran out of DRAM with 65536 tokens" in error.why


@pytest.mark.parametrize(
    "asked",
    [
        (*N150, "workload.context=62240"),
        (*N150, "workload.context=65536", "precision.kv_cache=BFP4"),
        ("device=p100", "model=llama8b", "workload.context=65536"),
        ("device=n300", "model=llama8b", "workload.context=65536"),
        # Reports of more trace region, and of chunks that shorter ones have been seen to mend.
        ("device=t3k", "model=llama70b", "workload.batch=2", "workload.context=100000"),
        ("device=t3k", "model=llama70b", "workload.batch=2", "workload.context=100000", "precision=accuracy"),
    ],
    ids=" ".join,
)
def test_a_report_says_nothing_of_what_needs_less(asked):
    assert not experiment(*asked).errors
