# SPDX-License-Identifier: Apache-2.0
"""Modules on their own in both phases, texts that add up, and what a card does not measure."""

import dataclasses

import pytest
import torch

from tt_transformers_v2.accuracy.agreement import Agreement
from tt_transformers_v2.accuracy.evaluation_text import EvaluationTokens
from tt_transformers_v2.accuracy.walk import Phases, measure
from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights
from tt_transformers_v2.run.on_card import _refuse_unmeasured

SPEC = ModelSpec.uniform(96, 64, 2, 4, 96, num_kv_heads=2, name="tiny")


class Trained(SyntheticWeights):
    """Weights that count as real, so that logits are compared."""

    synthetic = False


def walk(ops, *, lengths=(48, 48), texts=(), **how):
    generator = torch.Generator().manual_seed(4)
    windows = [torch.randint(96, (length,), generator=generator) for length in lengths]
    tokens = EvaluationTokens(windows, "made up", texts=list(texts))
    return measure(Trained(SPEC, seed=2), tokens, ops, ReferenceOps(), max_seconds=60, progress=lambda *_: None, **how)


def config(**kernels):
    made = AutoHardwareConfig.custom("N150", precision={"mlp_weights": "BF16", "attention_weights": "BF16"})
    for group, fidelity in kernels.items():
        made.compute[group] = dataclasses.replace(made.compute_for(group), math_fidelity=fidelity)
    return made


def test_a_module_on_its_own_is_decoded_with_the_kernels_of_decode():
    decode = Phases(prefill_tokens=8)
    same = config(qkv_prefill="HiFi4", qkv_decode="HiFi4")
    coarse = config(qkv_prefill="HiFi4", qkv_decode="LoFi")
    rows = [
        walk(EmulatedOps(hardware, "fast"), isolated=True, phases=phases).modules[1]
        for hardware, phases in ((same, Phases()), (same, decode), (coarse, decode))
    ]
    assert rows[0]["attention_isolated"] == pytest.approx(rows[1]["attention_isolated"], abs=1e-12)
    assert rows[2]["attention_isolated"] < rows[1]["attention_isolated"]
    # The MLP is the same in both phases, and alone it does not see what attention did before.
    assert rows[2]["mlp_isolated"] == rows[1]["mlp_isolated"]


def test_texts_pool_to_the_figures_of_one_text():
    ops, lengths = EmulatedOps(config(), "fast"), (48, 32, 48)
    one, several = walk(ops, lengths=lengths), walk(ops, lengths=lengths, texts=("a", "b", "b"))
    assert several.agreement.metrics() == pytest.approx(one.agreement.metrics())
    assert several.by_text["a"].positions == 48
    assert several.by_text["b"].positions == 80
    # Windows of one text stand together, whatever their length.
    assert several.agreement.by_place().place.tolist() == [*range(48), *range(48), *range(32)]


def test_absorbed_sums_equal_those_added_in_one_place():
    generator = torch.Generator().manual_seed(2)
    candidate, reference = torch.randn(2, 12, 30, generator=generator)
    targets = torch.randint(-1, 30, (12,), generator=generator)
    whole, parts = Agreement(), [Agreement(), Agreement()]
    whole.add(candidate, reference, targets)
    for own, piece in zip(parts, (slice(0, 5), slice(5, 12)), strict=True):
        own.add(candidate[piece], reference[piece], targets[piece], piece.start)
    parts[0].absorb(parts[1])
    assert parts[0].metrics() == pytest.approx(whole.metrics())
    assert torch.equal(parts[0].by_place().place, whole.by_place().place)


@pytest.mark.parametrize("override", ["workload.prefill_tokens=8", "accuracy.isolated=true"])
def test_what_a_card_does_not_measure_is_refused(override):
    checked = check_overrides(["backend=ttnn", override])
    with pytest.raises(ConfigError, match="backend=ttnn measures"):
        _refuse_unmeasured(resolve(compose(checked.texts), checked.typed))
