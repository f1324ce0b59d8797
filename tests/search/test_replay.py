# SPDX-License-Identifier: Apache-2.0
"""Running again from the changed layer gives what running the whole model gives, for half the work."""

import pytest
import torch
from searching import resolved

from tt_transformers_v2.accuracy.agreement import Agreement
from tt_transformers_v2.search.measured_variants import Measured, key_of
from tt_transformers_v2.search.space import Place, configured
from tt_transformers_v2.search.subject import open_subject
from tt_transformers_v2.search.target import Divergence

HEAD = "search.space.lm_head=[BFP8/HIFI2,BFP4/LOFI]"


@pytest.fixture(scope="module")
def subject(tiny_model):
    return open_subject(resolved(tiny_model, HEAD), everything=True)


@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_every_variant_equals_its_whole_run_to_the_last_bit(subject, numerics):
    replay = subject.replay(subject.seen, numerics)()
    for place, option in subject.wanted:
        hardware = configured(subject.base.hardware, {place: option}, 2)
        assert replay.variant(place, hardware) == replay.whole(hardware), (place, option)


def test_the_base_run_equals_the_whole_run_of_the_base(subject):
    replay = subject.replay(subject.seen, "fast")()
    assert replay.base == replay.whole(subject.base.hardware)


def test_only_what_comes_after_the_change_is_computed(subject):
    replay = subject.replay(subject.seen, "fast")()
    for place, layers in (
        (Place(0, "wo"), 2.0),
        (Place(0, "ff2"), 1.5),
        (Place(1, "ff2"), 0.5),
        (Place(-1, "lm_head"), 0),
    ):
        before = replay.layers_run
        option = subject.space.options[place.site][1]
        replay.variant(place, configured(subject.base.hardware, {place: option}, 2))
        assert replay.layers_run - before == layers


def test_divergence_is_what_agreement_says(subject):
    replay = subject.replay(subject.seen, "fast")()
    target, generator = replay.target, torch.Generator().manual_seed(1)
    logits = target.logits + 0.3 * torch.randn(target.logits.shape, generator=generator)
    found = target.divergence(lambda rows: logits[rows])
    agreement = Agreement()
    agreement.add(logits, target.logits, torch.full((len(logits),), -1))
    expected = agreement.metrics()
    assert found.kl == pytest.approx(expected["kl_divergence"], rel=1e-4)
    assert found.top1 == expected["top1"]
    assert found.pcc == pytest.approx(expected["pcc"], abs=1e-6)
    assert found.kl_low < found.kl < found.kl_high
    same = target.divergence(lambda rows: target.logits[rows])
    assert (same.kl, same.top1, same.pcc) == (pytest.approx(0, abs=1e-6), 1.0, pytest.approx(1.0))


def test_search_and_verification_share_no_window(subject):
    seen, unseen = ({tuple(window.tolist()) for window in windows} for windows in (subject.seen, subject.unseen))
    assert len(seen) == len(unseen) == 2
    assert not seen & unseen


def test_measurements_are_read_back_but_for_a_line_cut_off(tmp_path):
    path, figures = tmp_path / "cache" / "a.jsonl", Divergence(0.1, 0.9, 0.99, 0.05, 0.2)
    known = Measured(path)
    known.add("one", figures)
    with path.open("a") as file:
        file.write('{"name": "two", "kl": 0.')
    again = Measured(path)
    assert (again.get("one"), again.get("two")) == (figures, None)
    again.add("three", figures)
    assert Measured(path).get("three") == figures


def test_measurements_of_something_else_have_another_name():
    parts = {"weights": "a", "tokens": 1}
    assert key_of(parts) == key_of(dict(reversed(parts.items())))
    assert key_of(parts) != key_of(parts | {"tokens": 2})
