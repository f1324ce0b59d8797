# SPDX-License-Identifier: Apache-2.0
"""The prediction against published Llama rows on Wormhole (tt-metal PERF.md @040a27c1).

A loose guard: some constants were fitted on these rows, so this says that the form holds, not that it
foretells.
"""

from __future__ import annotations

import csv
from statistics import mean

import pytest
from perf_cases import CALIBRATION, ROOT, make_device, make_model

from tt_transformers_v2.perf import Performance, predict_performance

with (ROOT / "tests/data/perf_points_llama_wormhole.csv").open(encoding="utf-8", newline="") as handle:
    ROWS = list(csv.DictReader(handle))


def predict(row: dict[str, str]) -> Performance:
    """In accuracy mode tt_transformers keeps BFP4 for FF1 and FF3 of the 70B; smaller Llamas are BFP8."""
    bfp8 = row["mode"] == "accuracy" and not row["model"].endswith("70B")
    device = make_device(
        row["device"],
        ff1_ff3="BFP8" if bfp8 else "BFP4",
        mlp_fidelity="HiFi2" if bfp8 else "LoFi",
        tensor_parallel=int(row["tp"]),
        data_parallel=int(row["dp"]),
    )
    sizes = {"prompt_length": int(row["seq"]), "batch": int(row["batch"])}
    return predict_performance(device, make_model(row["model"]), CALIBRATION, **sizes)


def error(row: dict[str, str]) -> float:
    return abs(predict(row).decode_tokens_per_s_per_user / float(row["tsu"]) - 1)


@pytest.mark.parametrize(("batch", "seq", "rows"), [("1", "128", 22), ("1", "65536", 10), ("32", "128", 10)])
def test_decode_error(batch, seq, rows):
    errors = [error(row) for row in ROWS if (row["batch"], row["seq"]) == (batch, seq)]
    assert len(errors) == rows
    print(f"decode tokens/s/user, batch {batch}, {seq} tokens: MAPE {mean(errors):.1%}, worst {max(errors):.1%}")
    assert mean(errors) < 0.15
    assert max(errors) < 0.25


def test_ttft_error():
    """Time to first token is known to be harder: short prompts are bound by host dispatch."""
    errors = [abs(predict(row).ttft_ms / float(row["ttft_ms"]) - 1) for row in ROWS]
    print(f"time to first token: MAPE {mean(errors):.1%}, worst {max(errors):.1%}")
    assert mean(errors) < 0.25


def test_speed_up_from_accuracy_to_performance():
    """What-ifs are the point: the ratio of two predictions against the ratio of the published rows."""
    short = [row for row in ROWS if row["batch"] == "1" and row["seq"] == "128" and row["dp"] == "1"]
    key = ("model", "device", "tp")
    modes = {(*(row[k] for k in key), row["mode"]): row for row in short}
    differences = []
    for (*same, mode), fast in modes.items():
        slow = modes.get((*same, "accuracy"))
        if mode == "performance" and slow:
            measured = float(fast["tsu"]) / float(slow["tsu"])
            ratio = predict(fast).decode_tokens_per_s_per_user / predict(slow).decode_tokens_per_s_per_user
            differences.append(abs(ratio - measured))
    assert len(differences) == 10
    print(f"accuracy -> performance speed-up: mean absolute difference {mean(differences):.3f}")
    assert mean(differences) < 0.03
