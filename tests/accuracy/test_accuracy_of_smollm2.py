# SPDX-License-Identifier: Apache-2.0
"""Figures on SmolLM2's real weights and the default text, against those known for them."""

import pytest

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.run.runner import run


def accuracy(folder, *overrides):
    checked = check_overrides(["task=accuracy", *overrides])
    return run(resolve(compose(checked.texts), checked.typed), folder, show_progress=False)["accuracy"]


def test_reference_predicts_the_text_as_well_as_is_known(tmp_path):
    """Perplexity 15.8, next-token top-1 0.456 and top-5 0.696 on Python 3.11.7's text; other texts differ a little."""
    found = accuracy(tmp_path, "backend=reference", "workload.tokens=2000", "workload.window=500")
    assert found["reference_perplexity"] == pytest.approx(15.8, rel=0.06)
    assert found["reference_next_token_top1"] == pytest.approx(0.456, abs=0.015)
    assert found["reference_next_token_top5"] == pytest.approx(0.696, abs=0.015)


def test_accuracy_beats_performance_beats_all_bfp4_lofi(tmp_path):
    asked = ("backend.numerics=fast", "workload.tokens=256")  # the three KL are far enough apart for half of a window
    exact = accuracy(tmp_path, *asked, "precision=accuracy")
    quick = accuracy(tmp_path, *asked, "precision=performance")
    coarse = accuracy(
        tmp_path,
        *asked,
        "precision=custom",
        "precision.mlp_weights=BFP4",
        "precision.attention_weights=BFP4",
        "precision.kv_cache=BFP4",
        "precision.lm_head=BFP4",
        *(f"compute.{group}.math_fidelity=LoFi" for group in ("mlp", "attention", "sdpa", "lm_head")),
    )
    assert exact["kl_divergence"] < quick["kl_divergence"] < coarse["kl_divergence"]
    assert exact["top1"] > quick["top1"] > coarse["top1"]
    assert quick["kl_divergence"] == pytest.approx(0.13, abs=0.03)
    assert exact["numerics"] == quick["numerics"] == "fast"


def test_exact_numerics_are_the_default_and_close_to_fast_ones(tmp_path):
    exact = accuracy(tmp_path, "workload.tokens=64")
    fast = accuracy(tmp_path, "workload.tokens=64", "backend.numerics=fast")
    assert (exact["numerics"], fast["numerics"]) == ("exact", "fast")
    assert exact["kl_divergence"] == pytest.approx(fast["kl_divergence"], rel=0.3)
    assert exact["kl_divergence"] != fast["kl_divergence"]


def test_a_run_that_would_take_too_long_is_approximate_and_says_so(tmp_path):
    found = accuracy(tmp_path, "workload.tokens=16", "backend.exact_max_seconds=0")
    assert found["numerics"] == "fast"
