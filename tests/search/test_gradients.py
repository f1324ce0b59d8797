# SPDX-License-Identifier: Apache-2.0
"""Sensitivities estimated by gradients, compared with what they estimate."""

import dataclasses
import statistics

import pytest
import torch
from searching import resolved, search

from places import DATA
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.search_schema import SearchMethod
from tt_transformers_v2.hardware.op_table import READERS
from tt_transformers_v2.models.open_model import open_weights
from tt_transformers_v2.numerics import quantize
from tt_transformers_v2.search.gradient_estimates import EstimateFile, Estimator
from tt_transformers_v2.search.gradient_sensitivity import chosen_checks, method_of
from tt_transformers_v2.search.space import Place, configured, read_option, read_space
from tt_transformers_v2.search.subject import open_subject
from tt_transformers_v2.search.target import Target

# Fidelities that cut nothing off bf16 activations: what remains is the format of the weights.
SITES = ("ff1_ff3", "ff2", "wqkv", "wo")
FORMATS = {site: ["BF16/HIFI4", "BFP4/HIFI4"] for site in SITES}


class Rounded:
    """A source with one layer's matrices of a site in another format."""

    def __init__(self, source, place, fmt):
        self.spec, self._source = source.spec, source
        names = {op.matrix for op in READERS[place.site]}
        self._names = names | {f"shared.{name}" for name in names}
        self._place, self._fmt = place, fmt

    def tensor(self, name, layer=None):
        found = self._source.tensor(name, layer)
        changed = layer in (self._place.layer, None) and name in self._names
        return quantize(found, self._fmt) if changed else found


def estimate(source, hardware, space, windows, samples, file, **more):
    wanted = [(place, option) for place in space.places() for option in space.options[place.site][1:]]
    base = configured(hardware, space.base(), space.num_layers)
    estimator = Estimator(source, windows, base, space, wanted, samples)
    return estimator.run(file, **{"deadline": float("inf"), "progress": lambda *_: None} | more)


def tokens(source, windows=4, length=32):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(source.spec.vocab_size, (windows, length), generator=generator)


def reference_kl(target, source, place):
    """The KL per position between the float32 reference and itself with one site rounded to BFP4."""
    other = Target(Rounded(source, place, "bfp4"), target.windows)
    return target.divergence(lambda rows: other.logits[rows]).kl


@pytest.fixture(scope="module")
def hardware(tiny_model):
    return resolved(tiny_model).hardware


@pytest.mark.parametrize(
    ("family", "sites", "within"),
    # A router's other choice of experts is no small change: the first order does not see it.
    [(None, SITES, 0.3), ("gemma2", SITES, 0.3), ("qwen2_moe", ("wo", "ff1_ff3"), 0.5), ("mixtral", ("wo",), 0.5)],
)
def test_estimates_are_the_kl_of_the_reference_with_rounded_weights(
    tiny_model, hardware, tmp_path, family, sites, within
):
    source, _ = open_weights(None, path=str(DATA / "families" / family if family else tiny_model))
    windows = tokens(source)
    space = read_space({site: FORMATS[site] for site in sites}, source.spec.num_layers)
    estimates = estimate(source, hardware, space, windows, 8, EstimateFile(tmp_path / "file"))
    assert not estimates.left_out
    estimated = {place: found.kl for (place, _), found in estimates.found.items()}
    target = Target(source, windows)
    measured = {place: reference_kl(target, source, place) for place in estimated}
    assert sum(estimated.values()) == pytest.approx(sum(measured.values()), rel=within)
    for place, kl in measured.items():
        assert kl / 3 < estimated[place] < kl * 3, place


def test_the_lm_head_needs_no_gradient(tiny_model, hardware, tmp_path):
    source, _ = open_weights(None, path=str(tiny_model))
    windows = tokens(source)
    space = read_space({"lm_head": FORMATS["ff2"]}, source.spec.num_layers)
    found = estimate(source, hardware, space, windows, 1, EstimateFile(tmp_path / "file")).found
    assert [place for place, _ in found] == [Place(-1, "lm_head")]
    measured = reference_kl(Target(source, windows), source, Place(None, "lm_head"))
    assert next(iter(found.values())).kl == pytest.approx(measured, rel=0.05)


def test_a_smaller_kv_cache_costs_more_and_no_change_nothing(tiny_model, hardware, tmp_path):
    source, _ = open_weights(None, path=str(tiny_model))
    space = read_space({"kv_cache": ["BF16", "BFP8", "BFP4"]}, source.spec.num_layers)
    found = estimate(source, hardware, space, tokens(source), 8, EstimateFile(tmp_path / "file")).found
    for layer in range(source.spec.num_layers):
        eight, four = (found[Place(layer, "kv_cache"), read_option(text, "")].kl for text in ("BFP8", "BFP4"))
        assert 0 <= abs(eight) < four / 4


def test_lofi_cuts_what_bfp8_holds_and_nothing_of_bfp4(tiny_model, hardware, tmp_path):
    source, _ = open_weights(None, path=str(tiny_model))
    options = ["BFP8/HiFi2", "BFP8/LoFi", "BFP4/HiFi2", "BFP4/LoFi"]
    space = read_space({"ff2": options}, source.spec.num_layers)
    found = estimate(source, hardware, space, tokens(source), 4, EstimateFile(tmp_path / "file")).found
    kl = {option.text: estimate.operands for (place, option), estimate in found.items() if place.layer == 0}
    assert kl["BFP8/LoFi"] > 0
    assert kl["BFP4/HiFi2"] == kl["BFP4/LoFi"]


def test_a_pass_that_was_stopped_goes_on_to_the_same_figures(tiny_model, hardware, tmp_path, monkeypatch):
    source, _ = open_weights(None, path=str(tiny_model))
    windows, space = tokens(source), read_space(FORMATS, source.spec.num_layers)
    whole = estimate(source, hardware, space, windows, 2, EstimateFile(tmp_path / "whole")).found
    write = EstimateFile.write

    def once(self, *state):
        write(self, *state)
        raise KeyboardInterrupt

    monkeypatch.setattr(EstimateFile, "write", once)
    with pytest.raises(KeyboardInterrupt):
        estimate(source, hardware, space, windows, 2, EstimateFile(tmp_path / "file"))
    monkeypatch.setattr(EstimateFile, "write", write)
    kept = EstimateFile(tmp_path / "file")
    assert kept.next_layer == source.spec.num_layers - 2
    again = estimate(source, hardware, space, windows, 2, kept)
    assert again.found == whole
    # All is known now: nothing is computed.
    assert estimate(source, hardware, space, windows, 2, EstimateFile(tmp_path / "file")).cost is None


def test_what_the_time_does_not_allow_is_left_out(tiny_model, hardware, tmp_path):
    source, _ = open_weights(None, path=str(tiny_model))
    space = read_space(FORMATS, source.spec.num_layers)
    estimates = estimate(source, hardware, space, tokens(source), 1, EstimateFile(tmp_path / "file"), deadline=0)
    assert not estimates.found
    assert len(estimates.left_out) == 4 * source.spec.num_layers


def test_windows_that_do_not_fit_together_are_taken_in_turn(tiny_model, hardware, tmp_path, monkeypatch):
    from tt_transformers_v2.search import gradients

    source, _ = open_weights(None, path=str(tiny_model))
    windows, space = tokens(source), read_space(FORMATS, source.spec.num_layers)
    together = estimate(source, hardware, space, windows, 2, EstimateFile(tmp_path / "a")).found
    monkeypatch.setattr(gradients, "TOKENS_AT_ONCE", 40)
    apart = estimate(source, hardware, space, windows, 2, EstimateFile(tmp_path / "b")).found
    for change, found in together.items():
        assert apart[change].operands == pytest.approx(found.operands, rel=1e-3), change


def test_a_broken_file_of_estimates_is_named(tmp_path):
    (tmp_path / "file.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(ConfigError, match="cannot be read"):
        EstimateFile(tmp_path / "file.safetensors")


def test_checks_lie_where_the_sum_of_the_estimates_comes_from():
    option = read_option("BFP4", "")
    estimated = {(Place(layer, "ff2"), option): kl for layer, kl in enumerate((1.0, 0.0, 4.0, 1.0, -1.0, 2.0))}
    assert [place.layer for place, _ in chosen_checks(estimated, 2)] == [3, 2]
    assert [place.layer for place, _ in chosen_checks(estimated, 1)] == [5]
    assert len(chosen_checks(estimated, 100)) == 4


def test_auto_takes_the_method_that_computes_less(tiny_model):
    subject = open_subject(resolved(tiny_model, "search.gradient_checks=2", "search.gradient_samples=1"))
    # Gradients: two passes and one back, three options and the exact product, half of the model for each of two checks.
    costs = 2 + 1 + 3 + 1 + 1
    for changes, method in ((2 * costs, SearchMethod.measured), (2 * costs + 1, SearchMethod.gradient)):
        wanted = [subject.wanted[0]] * changes
        assert method_of(dataclasses.replace(subject, wanted=wanted)) is method
    typed = dataclasses.replace(subject.settings, method=SearchMethod.measured)
    assert method_of(dataclasses.replace(subject, wanted=wanted, settings=typed)) is SearchMethod.measured


def test_a_search_by_gradients_says_what_was_estimated_and_what_measured(tiny_model, tmp_path):
    lines = ("search.method=gradient", "search.gradient_checks=3", "search.points=3")
    section = search(tiny_model, tmp_path / "one", *lines)
    assert section["method"] == "gradient"
    methods = [row["method"] for row in section["sensitivities"]]
    checks = section["estimates"]["checks"]
    assert methods.count("measured") == len(checks) <= 3
    assert methods.count("gradient") == len(methods) - len(checks) > 0
    assert all((row["top1_change"] is None) == (row["method"] == "gradient") for row in section["sensitivities"])
    if section["estimates"]["scale"] is not None:
        ratio = statistics.median(check["measured"] / check["estimated"] for check in checks)
        assert section["estimates"]["scale"] == pytest.approx(ratio)
    assert section["points"][0]["kl_divergence"] < section["points"][-1]["kl_divergence"]
    again = search(tiny_model, tmp_path / "two", *lines)
    assert again["sensitivities"] == section["sensitivities"]
    assert again["points"] == section["points"]
    assert again["sensitivity_cost"]["measured_now"] == 0
