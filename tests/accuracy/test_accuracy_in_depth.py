# SPDX-License-Identifier: Apache-2.0
"""Positions, phases, texts, bars, intervals, and what the jobs of a sweep share."""

import dataclasses
import math

import pytest
import torch

from tt_transformers_v2.accuracy.accuracy_result import Bars, metrics
from tt_transformers_v2.accuracy.agreement import confidence_interval
from tt_transformers_v2.accuracy.evaluation_text import NAMED, EvaluationTokens, named_text
from tt_transformers_v2.accuracy.state_reuse import References
from tt_transformers_v2.accuracy.walk import Phases, measure
from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.backends.emulated.prepared_weights import PreparedWeights
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.layers import apply_layers, layer_entry
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.models.kept_weights import KeptWeights
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights
from tt_transformers_v2.planning.op_plans import OpPlans
from tt_transformers_v2.run.runner import run

SPEC = ModelSpec.uniform(96, 64, 3, 4, 96, num_kv_heads=2, name="tiny")


class Trained(SyntheticWeights):
    """Weights that count as real, so that logits are compared."""

    synthetic = False


def walked(config=None, *, lengths=(80, 80), texts=(), weights=None, ops=None, **how):
    generator = torch.Generator().manual_seed(4)
    windows = [torch.randint(96, (length,), generator=generator) for length in lengths]
    tokens = EvaluationTokens(windows, "made up", texts=list(texts))
    source = weights or Trained(SPEC, seed=2)
    candidate = ops or EmulatedOps(config or AutoHardwareConfig.custom("N150"), "exact")
    walk = measure(source, tokens, candidate, ReferenceOps(), max_seconds=60, progress=lambda *_: None, **how)
    return walk, source, tokens


def section(*arguments, bars=None, prefill_tokens=None, **how):
    walk, source, tokens = walked(*arguments, **how)
    return metrics(walk, source, tokens, "emulated", bars=bars, prefill_tokens=prefill_tokens)


def test_positions_are_reported_in_octaves_that_cover_every_window():
    found = section(lengths=(80, 80, 40))
    assert [(row["from"], row["to"]) for row in found["by_position"]] == [(0, 31), (32, 63), (64, 79)]
    assert [row["positions"] for row in found["by_position"]] == [96, 72, 32]
    mean = sum(row["positions"] * row["kl_divergence"] for row in found["by_position"]) / 200
    assert mean == pytest.approx(found["kl_divergence"])


def test_a_decoded_tail_equals_prefill_where_kernels_blocks_and_chunks_agree():
    config = AutoHardwareConfig.custom("N150")
    blocks = {group: {"in0_block_w": 1} for group in ("qkv", "o", "ff1_ff3", "ff2")}
    alike = blocks | {"sdpa": {"k_chunk_size": 64}}
    ops = EmulatedOps(config, "exact", plans=OpPlans(config, programs=alike))
    whole, decoded = section(ops=ops), section(ops=ops, phases=Phases(prefill_tokens=30), prefill_tokens=30)
    assert decoded["kl_divergence"] == whole["kl_divergence"]
    assert decoded["by_phase"]["prefill"]["positions"] == 60
    assert decoded["by_phase"]["decode"]["positions"] == 100
    assert whole["by_phase"] is None


def test_chunked_prefill_changes_no_figure():
    assert section(phases=Phases(chunk=32))["kl_divergence"] == section()["kl_divergence"]


def test_figures_of_each_text_and_of_all():
    found = section(texts=("one", "other"))
    assert set(found["by_text"]) == {"one", "other"}
    by_text = [row["kl_divergence"] for row in found["by_text"].values()]
    assert found["kl_divergence"] == pytest.approx(sum(by_text) / 2)


def test_the_first_module_below_its_bar_is_named():
    config = AutoHardwareConfig.custom("N150", precision={"mlp_weights": "BF16", "attention_weights": "BF16"})
    for group in ("mlp", "attention", "sdpa"):
        config.compute[group] = dataclasses.replace(config.compute[group], math_fidelity="HiFi4")
    bars = Bars(0.999, 0.998, 0.9)

    def measured():
        exponential = {"sdpa": {"exp_approx_mode": False}}  # the approximate one alone is below the bar
        ops = EmulatedOps(config, "exact", plans=OpPlans(config, programs=exponential))
        return section(ops=ops, bars=bars)["below_bar"]

    assert measured() is None
    entry = layer_entry({"select": 1, "precision": {"mlp_weights": "BFP4"}})
    config.layers = apply_layers(config, [entry], SPEC.num_layers)
    below = measured()
    assert (below["layer"], below["module"], below["basis"]) == (1, "mlp", "cumulative")
    assert below["pcc"] < below["bar"] == 0.999


def test_alone_a_good_module_after_a_bad_one_is_good():
    config = AutoHardwareConfig.custom("N150", precision={"mlp_weights": "BF16", "attention_weights": "BF16"})
    entry = layer_entry({"select": 0, "precision": {"mlp_weights": "BFP4", "attention_weights": "BFP4"}})
    config.layers = apply_layers(config, [entry], SPEC.num_layers)
    rows = section(config, isolated=True)["modules"]
    assert rows[0]["mlp_isolated"] < 0.999 < rows[1]["mlp_isolated"]
    assert rows[1]["mlp"] < rows[1]["mlp_isolated"]


def test_an_interval_holds_the_mean_and_narrows_with_more_positions():
    values = torch.rand(4096, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 4
    low, high = confidence_interval(values[:512])
    assert low < float(values[:512].mean()) < high
    few, many = confidence_interval(values[:512]), confidence_interval(values)
    assert many[1] - many[0] < 0.6 * (few[1] - few[0])
    assert confidence_interval(values) == many
    assert math.isnan(confidence_interval(values[:20])[0])


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(7)
    hits = 0
    for _ in range(200):
        low, high = confidence_interval(torch.rand(1024, generator=generator, dtype=torch.float64))
        hits += low <= 0.5 <= high
    assert 175 <= hits <= 199


def test_figures_are_the_same_with_what_earlier_jobs_left():
    plain = section()
    kept, prepared, references = KeptWeights(Trained(SPEC, seed=2)), PreparedWeights(), References()
    for _ in range(2):
        ops = EmulatedOps(AutoHardwareConfig.custom("N150"), "exact", prepared)
        again = section(weights=kept, ops=ops, references=references)
        assert again == plain


def test_the_reference_is_computed_once_for_a_text(monkeypatch):
    kept, references, calls = KeptWeights(Trained(SPEC, seed=2)), References(), []
    attention = ReferenceOps.attention
    monkeypatch.setattr(ReferenceOps, "attention", lambda *a: (calls.append(1), attention(*a))[1])
    section(weights=kept, references=references)
    first = len(calls)
    section(weights=kept, references=references)
    assert len(calls) == first > 0
    section(weights=kept, references=references, lengths=(60,))
    assert len(calls) > first


def test_references_make_room_for_another_text():
    references = References(most_bytes=4 * 100)
    references.add(b"a", 0, {"layer": [torch.zeros(60)]})
    references.add(b"b", 0, {"layer": [torch.zeros(60)]})
    assert references.get(b"a", 0) is None
    assert references.get(b"b", 0) is not None


def test_prepared_weights_are_bounded():
    store, made = PreparedWeights(most_bytes=4 * 150), []
    weights = [torch.zeros(100) for _ in range(3)]
    for weight in (*weights, weights[2], weights[0]):
        store.get(weight, "form", lambda: made.append(1))
    assert len(made) == 4  # the last one was still there, the first was not


@pytest.mark.parametrize("name", NAMED)
def test_named_texts_are_long_and_the_same_each_time(name):
    text, called = named_text(name)
    assert len(text) > 300_000
    assert called.endswith(f"{__import__('platform').python_version()}")
    assert named_text(name) == (text, called)


def resolved(*overrides):
    checked = check_overrides(["task=accuracy", *overrides])
    return resolve(compose(checked.texts), checked.typed)


@pytest.mark.slow
def test_several_texts_of_a_real_model(tmp_path):
    found = run(
        resolved(
            "backend.numerics=fast",
            "workload.tokens=96",
            "workload.window=48",
            "workload.texts=[python_topics,python_source]",
            "workload.prefill_tokens=16",
            "workload.skip=10",
        ),
        tmp_path,
        show_progress=False,
    )["accuracy"]
    assert len(found["by_text"]) == 2
    assert found["tokens"] == 192
    assert found["by_phase"]["decode"]["positions"] == 4 * 32
    low, high = found["confidence_interval"]["kl_divergence"]
    assert low <= found["kl_divergence"] <= high


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["workload.texts=[python_topic]"], "python_topics"),
        (["workload.texts=[]"], "empty"),
        (["workload.texts=[nowhere.txt]"], "cannot be read"),
        (["workload.texts=[python_source]", "workload.text_file=a.txt"], "both set"),
        (["workload.skip=100000000"], "tokens"),
    ],
)
def test_bad_texts_are_said_before_anything_runs(tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        run(resolved(*overrides), tmp_path, show_progress=False)


def test_a_prompt_longer_than_its_window_is_refused():
    with pytest.raises(ConfigError, match="prefill_tokens"):
        resolved("workload.prefill_tokens=600")
