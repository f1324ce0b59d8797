# SPDX-License-Identifier: Apache-2.0
"""Likelihoods and greedy text, against whole forward passes of the same backend."""

from __future__ import annotations

import pytest
import torch

from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.auto_config import AutoHardwareConfig
from tt_transformers_v2.evaluate import likelihoods
from tt_transformers_v2.evaluate.generation import Generation
from tt_transformers_v2.evaluate.likelihoods import Asked, Likelihoods
from tt_transformers_v2.models.decoder import forward
from tt_transformers_v2.models.kept_weights import KeptWeights
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights

SPEC = ModelSpec(
    vocab_size=256,
    hidden_dim=64,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=32,
    intermediate_dim=96,
    max_context=64,
)
QUESTIONS = [
    Asked((1, 2, 3, 4), (5,)),
    Asked((1, 2, 3, 4), (9,)),
    Asked((1, 2), (3, 4, 7)),  # reads what the first two read
    Asked((8, 9), (10, 11)),
    Asked((3,), (200, 100, 50, 25, 12)),
]


def silent(stage: str, done: int, total: int) -> None:
    assert 0 <= done <= total


def backends() -> list:
    hardware = AutoHardwareConfig.from_device("N150", mode="performance", model_spec=SPEC)
    return [ReferenceOps(), EmulatedOps(hardware, "exact")]


def source() -> KeptWeights:
    return KeptWeights(SyntheticWeights(SPEC, 1))


def expected(ops: object, asked: Asked) -> tuple[float, bool]:
    logits = forward(ops, source(), torch.tensor([asked.read]))[0].double()
    rows = logits[len(asked.context) - 1 :]
    targets = torch.tensor(asked.continuation)
    chances = torch.log_softmax(rows, dim=-1)[torch.arange(len(targets)), targets]
    return float(chances.sum()), bool((rows.argmax(dim=-1) == targets).all())


@pytest.mark.parametrize("ops", backends(), ids=lambda ops: ops.name)
def test_likelihoods_are_those_of_each_text_alone(ops: object) -> None:
    own = Likelihoods(source(), ops)
    for found, asked in zip(own.of(QUESTIONS, silent), QUESTIONS, strict=True):
        likelihood, greedy = expected(ops, asked)
        assert found.log_likelihood == pytest.approx(likelihood, rel=1e-6 if ops.name == "reference" else 1e-12)
        assert found.greedy is greedy


def test_a_text_that_several_questions_read_is_computed_once() -> None:
    own = Likelihoods(source(), ReferenceOps())
    own.of(QUESTIONS, silent)
    assert own.computed == 4 + 3 + 5


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_batch_size_changes_no_bit_of_the_emulated_model(batch_size: int) -> None:
    ops = backends()[1]
    many = [Asked((first, 2, 3), (4, 5)) for first in range(5)]
    alone = [Likelihoods(source(), ops).of([asked], silent)[0] for asked in many]
    assert Likelihoods(source(), ops, batch_size=batch_size).of(many, silent) == alone


def test_passes_by_memory_and_pieces_of_logits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Likelihoods(source(), ReferenceOps()).of(QUESTIONS, silent)
    monkeypatch.setattr(likelihoods, "STATES_BYTES", 1)
    monkeypatch.setattr(likelihoods, "LOGITS_AT_A_TIME", 2 * SPEC.vocab_size)
    apart = Likelihoods(source(), ReferenceOps()).of(QUESTIONS, silent)
    assert [own.log_likelihood for own in apart] == pytest.approx([own.log_likelihood for own in whole], rel=1e-6)
    assert [own.greedy for own in apart] == [own.greedy for own in whole]


def test_the_greedy_continuation_is_found_greedy_and_another_is_not() -> None:
    made = Generation(source(), ReferenceOps()).of([(1, 2, 3)], 4, lambda ids: False, silent)[0]
    questions = [Asked((1, 2, 3), tuple(made)), Asked((1, 2, 3), (*made[:-1], (made[-1] + 1) % 256))]
    assert [own.greedy for own in Likelihoods(source(), ReferenceOps()).of(questions, silent)] == [True, False]


@pytest.mark.parametrize(("read", "fits"), [(64, True), (65, False)])
def test_a_text_as_long_as_the_context_is_read_whole_and_a_longer_one_loses_its_beginning(
    read: int, fits: bool
) -> None:
    asked = Asked(tuple(range(read - 1)), (1, 2))
    assert (asked.within(64) == asked) is fits
    assert len(asked.within(64).read) == 64
    assert asked.within(64).continuation == (1, 2)


def test_a_continuation_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="65 tokens is longer than the model's context of 64"):
        Asked((1,), (2,) * 65).within(64)
    assert len(Asked((1,), (2,) * 64).within(64).read) == 64


def test_a_token_beyond_the_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="tokens must be 0 to 255"):
        Likelihoods(source(), ReferenceOps()).of([Asked((256,), (1,))], silent)


def test_greedy_text_from_the_cache_is_that_of_whole_passes() -> None:
    made = Generation(source(), ReferenceOps()).of([(1, 2, 3), (7, 7, 7), (5,)], 5, lambda ids: False, silent)
    for prompt, found in zip([(1, 2, 3), (7, 7, 7), (5,)], made, strict=True):
        ids = list(prompt)
        for _ in range(5):
            ids.append(int(forward(ReferenceOps(), source(), torch.tensor([ids]))[0, -1].argmax()))
        assert found == ids[len(prompt) :]


@pytest.mark.parametrize("ops", backends(), ids=lambda ops: ops.name)
@pytest.mark.parametrize("chunk", [None, 32])
def test_a_sequence_that_ends_leaves_its_batch_and_the_others_go_on_as_alone(ops: object, chunk: int | None) -> None:
    prompts = [tuple(range(first, first + 40)) for first in (0, 50, 100)]
    alone = [Generation(source(), ops, chunk).of([prompt], 6, lambda ids: False, silent)[0] for prompt in prompts]
    stops = {alone[1][0], alone[0][2]}

    def ended(ids: list[int]) -> bool:
        return ids[-1] in stops

    def cut(ids: list[int]) -> list[int]:
        return next((ids[: at + 1] for at, token in enumerate(ids) if token in stops), ids)

    own = Generation(source(), ops, chunk)
    assert own.of(prompts, 6, ended, silent) == [cut(ids) for ids in alone]
    assert own.computed < 3 * 40 + 3 * 5


def test_equal_prompts_are_generated_once() -> None:
    own = Generation(source(), ReferenceOps())
    made = own.of([(1, 2), (1, 2)], 3, lambda ids: False, silent)
    assert made[0] == made[1]
    assert own.computed == 2 + 2  # the last new token is not read
