# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from tt_transformers_v2.accuracy import agreement as agreement_module
from tt_transformers_v2.accuracy.agreement import Agreement, pcc


def test_equal_logits_agree_fully():
    logits = torch.randn(7, 20, generator=torch.Generator().manual_seed(1))
    agreement = Agreement()
    agreement.add(logits, logits, torch.arange(7))
    found = agreement.metrics()
    assert (found["top1"], found["top5"], found["kl_divergence"]) == (1.0, 1.0, 0.0)
    assert found["pcc"] == pytest.approx(1.0)
    assert found["perplexity"] == found["reference_perplexity"]


def test_figures_of_a_small_case_by_hand():
    reference = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]))
    candidate = torch.log(torch.tensor([[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]]))
    agreement = Agreement()
    agreement.add(candidate, reference, torch.tensor([1, -1]))
    found = agreement.metrics()
    kl = 0.5 * math.log(2) + 0.3 * math.log(0.6) + 0.2 * math.log(0.8)
    kl += 0.2 * math.log(2) + 0.7 * math.log(0.7 / 0.8)
    assert found["top1"] == 0.5
    assert found["kl_divergence"] == pytest.approx(kl / 2, rel=1e-5)
    assert found["perplexity"] == pytest.approx(2.0)
    assert found["reference_perplexity"] == pytest.approx(1 / 0.3)
    assert (found["next_token_top1"], found["reference_next_token_top1"]) == (1.0, 0.0)


def test_chunks_add_up_to_the_whole():
    generator = torch.Generator().manual_seed(2)
    candidate, reference = torch.randn(2, 12, 30, generator=generator)
    targets = torch.randint(-1, 30, (12,), generator=generator)
    whole, parts = Agreement(), Agreement()
    whole.add(candidate, reference, targets)
    for piece in (slice(0, 5), slice(5, 12)):
        parts.add(candidate[piece], reference[piece], targets[piece])
    assert parts.metrics() == pytest.approx(whole.metrics())


@pytest.mark.parametrize("at_once", [1, 90, 91, 330])
def test_pieces_that_are_compared_at_a_time_change_nothing(monkeypatch, at_once):
    generator = torch.Generator().manual_seed(2)
    candidate, reference = torch.randn(2, 12, 30, generator=generator)
    targets = torch.randint(-1, 30, (12,), generator=generator)
    whole, pieces = Agreement(), Agreement()
    whole.add(candidate, reference, targets, 5)
    monkeypatch.setattr(agreement_module, "_AT_ONCE", at_once)
    pieces.add(candidate, reference, targets, 5)
    assert len(whole.series) == 1 < len(pieces.series)
    assert pieces.metrics() == pytest.approx(whole.metrics())
    assert pieces.by_place().place.tolist() == list(range(5, 17))
    assert torch.equal(pieces.by_place().kl, whole.by_place().kl)


def test_top5_counts_the_candidates_best_among_the_references_five():
    reference = torch.arange(10.0).repeat(2, 1)
    candidate = torch.zeros(2, 10)
    candidate[0, 6] = candidate[1, 4] = 1.0
    agreement = Agreement()
    agreement.add(candidate, reference, torch.tensor([-1, -1]))
    assert agreement.metrics()["top5"] == 0.5


def test_correlation_of_constant_signals():
    assert pcc(torch.ones(4), torch.ones(4)) == 1.0
    assert math.isnan(pcc(torch.ones(4), torch.arange(4.0)))
    assert pcc(torch.arange(4.0), -torch.arange(4.0)) == pytest.approx(-1.0)
