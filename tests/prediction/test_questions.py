# SPDX-License-Identifier: Apache-2.0
"""What scripts/predict.py asks: single changes, targets, limits, the nearest measured row."""

import pytest

import tt_transformers_v2
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.hardware import ConfigError, DataFormat
from tt_transformers_v2.prediction import targets
from tt_transformers_v2.prediction.knobs import (
    NOISE,
    WEIGHTS,
    format_knobs,
    knobs,
    runtime_knobs,
    split_knobs,
    what_if,
)
from tt_transformers_v2.prediction.limits import batch_limit, context_limits
from tt_transformers_v2.prediction.prediction_rows import op_rows
from tt_transformers_v2.prediction.questions import (
    Refused,
    ask,
    changed,
    resolve_overrides,
    typed_overrides,
)
from tt_transformers_v2.run.performance import predict

N150 = ["device=n150", "model=llama8b", "precision=accuracy", "runtime.sampling=host"]
MEASURED = ["device=n150", "model=llama8b", "precision=accuracy"]  # as a published row: sampled on the device
T3K = ["device=t3k", "model=llama8b", "precision=accuracy"]
FF1_FF3_IN_BFP4 = ("precision.ff1_ff3=BFP4", "compute.ff1_ff3.math_fidelity=LoFi")


def typed_from_scratch(overrides):
    """The prediction as the command line makes it, without this project's shortcuts for searches."""
    checked = check_overrides(overrides)
    return predict(resolve(compose(checked.texts), checked.typed))


@pytest.fixture(scope="module")
def on_n150():
    return what_if(ask(N150))


@pytest.fixture(scope="module")
def on_t3k():
    return what_if(ask(T3K))


def gain(found, *overrides):
    (one,) = [gain for gain in found.gains if gain.knob.overrides == overrides]
    return one


def test_bfp4_in_the_mlp_pays_on_one_chip_and_hardly_on_eight(on_n150, on_t3k):
    one_chip, eight_chips = gain(on_n150, *FF1_FF3_IN_BFP4), gain(on_t3k, *FF1_FF3_IN_BFP4)
    assert 8 < one_chip.decode < 25
    assert not one_chip.within_noise
    assert 0 < eight_chips.decode < one_chip.decode / 2
    assert one_chip.memory < 0
    assert one_chip.ttft > 10


def test_gains_are_ranked_and_small_ones_are_within_noise(on_n150):
    gains = [gain.decode for gain in on_n150.gains]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > NOISE
    assert gains[-1] < -NOISE
    assert {abs(gain.decode) < NOISE for gain in on_n150.gains if gain.within_noise} == {True}
    assert any(gain.within_noise for gain in on_n150.gains)


@pytest.mark.parametrize("index", [0, 1, 5, -1])
def test_a_gain_is_what_typing_its_overrides_gives(on_n150, index):
    one = on_n150.gains[index]
    base, other = (typed_from_scratch(list(changed(N150, more))) for more in ((), one.knob.overrides))
    speeds = [prediction.speed.decode_tokens_per_s_per_user for prediction in (base, other)]
    assert one.decode == pytest.approx(100 * (speeds[1] / speeds[0] - 1))
    assert one.ttft == pytest.approx(100 * (base.speed.ttft_ms / other.speed.ttft_ms - 1))
    assert one.memory == other.memory.used - base.memory.used


def test_going_back_from_bfp4_is_listed_as_a_loss():
    found = what_if(ask(["device=n150", "model=llama8b", "precision=performance"]))
    back = gain(found, "precision.ff1_ff3=BFP8", "compute.ff1_ff3.math_fidelity=HiFi2")
    assert -25 < back.decode < -NOISE
    assert back.memory > 0


def test_a_weight_format_comes_with_the_fidelity_that_fits_and_both_win_over_the_rules():
    base = ask(["device=t3k", "model=llama70b", "precision=accuracy"])
    assert base.experiment.hardware.precision.of("ff1_ff3") == "BFP4"
    for group, op_group in WEIGHTS.items():
        for data in DataFormat:
            fidelity = data.paired_fidelity
            pair = (f"precision.{group}={data}", f"compute.{op_group}.math_fidelity={fidelity}")
            hardware = resolve_overrides(changed(base.overrides, pair)).hardware
            assert hardware.precision.of(group) == data
            assert hardware.compute_for(op_group).math_fidelity == fidelity
    weights = [knob for knob in format_knobs(base.experiment.hardware) if len(knob.overrides) == 2]
    assert {knob.overrides[0].partition("=")[0] for knob in weights} == {f"precision.{group}" for group in WEIGHTS}


@pytest.mark.parametrize("overrides", [N150, T3K, ["device=p150x4", "model=llama8b"]])
def test_every_knob_makes_another_configuration(overrides):
    experiment = resolve_overrides(overrides)
    offered = knobs(experiment)
    hashes = {resolve_overrides(changed(overrides, knob.overrides)).config_hash() for knob in offered}
    assert experiment.config_hash() not in hashes
    assert len(hashes) == len(offered)


def test_what_does_not_fit_is_left_out_with_the_reason(on_n150):
    reasons = {str(knob): why for knob, why in on_n150.left_out}
    assert "does not fit" in reasons["precision.mlp_weights=BF16 compute.mlp.math_fidelity=HiFi4"]


def test_a_change_that_brings_a_warning_or_less_trust_says_so(on_t3k):
    assert gain(on_t3k, "compute.ff2.math_fidelity=LoFi").warnings == ("fidelity-below-format",)
    assert gain(on_t3k, *FF1_FF3_IN_BFP4).warnings == ()
    assert gain(on_t3k, "runtime.sampling=host").trust[0].startswith("TTFT extrapolated")
    assert [one[:17] for one in gain(on_t3k, "runtime.prefill=untraced").trust] == ["TTFT extrapolated"]
    assert gain(on_t3k, *FF1_FF3_IN_BFP4).trust == ()


def test_splits_use_every_chip_and_readers_are_a_matter_of_blackhole():
    t3k = resolve_overrides(T3K)
    assert [str(knob) for knob in split_knobs(t3k.hardware)] == [
        f"parallelism.tensor_parallel_size={size} parallelism.data_parallel_size={8 // size}" for size in (4, 2, 1)
    ]
    assert split_knobs(resolve_overrides(N150).hardware) == []
    on_blackhole = [str(knob) for knob in runtime_knobs(resolve_overrides(["device=p150", "model=llama8b"]))]
    assert "runtime.dram_readers_per_bank=2" in on_blackhole
    assert not any("readers" in str(knob) for knob in runtime_knobs(t3k))


def test_a_target_is_reached_by_every_option_and_the_cheapest_come_first():
    found = targets.search(["model=llama8b", "device=t3k", "precision.kv_cache=BF16", "runtime.sampling=host"], 25)
    prices = [option.price for option in found.reaching]
    assert prices == sorted(prices)
    assert prices[0][0] == 1
    assert {option.device for option in found.reaching} >= {"N150", "N300", "T3K"}
    for option in found.reaching:
        answer = option.answer
        assert answer.tokens_per_s_per_user >= 25
        assert answer.experiment.errors == []
        assert answer.experiment.hardware.precision.kv_cache == "BF16", "what was typed stays"
        assert answer.low_tokens_per_s_per_user < answer.tokens_per_s_per_user
    first, last = found.reaching[0].answer, found.reaching[-1].answer
    for answer in (first, last):
        again = typed_from_scratch(list(answer.overrides)).speed.decode_tokens_per_s_per_user
        assert again == answer.tokens_per_s_per_user


@pytest.mark.parametrize(("model", "devices"), [("llama8b", ("n150", "n300")), ("llama1b", ("t3k", "p150"))])
def test_where_nothing_reaches_the_best_is_the_best_of_all_that_could_be_tried(monkeypatch, model, devices):
    monkeypatch.setattr(targets, "groups", lambda: {"device": devices})
    found = targets.search([f"model={model}"], 1000)
    assert found.reaching == []
    fastest = 0.0
    for device in devices:
        for mode in targets.MODES:
            base = ask([f"device={device}", f"precision={mode}", f"model={model}"])
            splits = [(), *(knob.overrides for knob in split_knobs(base.experiment.hardware))]
            answers = [ask(changed(base.overrides, split)) for split in splits if fits(base, split)]
            quickest = max(answers, key=lambda answer: answer.tokens_per_s_per_user)
            tried = [*answers, *(one.answer for one in what_if(quickest).gains if is_of_the_search(one.knob))]
            fastest = max(fastest, *(answer.tokens_per_s_per_user for answer in tried))
    assert found.best.answer.tokens_per_s_per_user == pytest.approx(fastest)


def fits(base, split):
    return not resolve_overrides(changed(base.overrides, split)).errors


def is_of_the_search(knob):
    """Formats and runtime; fidelities alone drop bits, and splits are tried anyway."""
    return knob.overrides[0].startswith(("precision.", "runtime."))


def test_what_does_not_fit_is_left_out_of_a_search_and_counted():
    found = targets.search(["model=llama70b"], 10)
    assert found.left_out["do not fit in DRAM"] > 10
    assert not {"N150", "N300", "P150"} & {option.device for option in found.reaching}
    assert "T3K" in {option.device for option in found.reaching}


def test_the_longest_context_fits_and_one_page_more_does_not():
    limits = context_limits(N150)
    assert [limit.batch for limit in limits] == [1, 2, 4, 8, 16, 32]
    contexts = [limit.context for limit in limits]
    assert contexts == sorted(contexts, reverse=True)
    assert 1000 < contexts[-1] < contexts[0]
    for limit in (limits[0], limits[-1]):
        assert limit.answer.prediction.memory.fits
        beyond = (f"workload.batch={limit.users}", f"workload.context={limit.context + 32}")
        assert [finding.id for finding in resolve_overrides([*N150, *beyond]).errors] == ["dram-overflow"]


def test_the_models_own_limit_and_no_room_at_all_are_told_apart():
    (one, *_) = context_limits(["device=p150", "model=llama1b"])
    assert (one.context, one.limited_by_model) == (131072, True)
    nothing = context_limits(["device=n150", "model=llama70b"])
    assert {(limit.context, limit.answer) for limit in nothing} == {(0, None)}


def test_the_largest_batch_fits_and_one_user_more_does_not():
    asked = [*N150, "workload.context=8192"]
    limit = batch_limit(asked)
    assert 1 < limit.users < limit.of_device
    errors = [resolve_overrides([*asked, f"workload.batch={limit.users + more}"]).errors for more in (0, 1)]
    assert errors[0] == []
    assert [finding.id for finding in errors[1]] == ["dram-overflow"]
    assert batch_limit(["device=t3k", "model=llama8b"]).users == 32, "what the device takes"


def test_groups_count_all_their_users():
    split = ["parallelism.tensor_parallel_size=4", "parallelism.data_parallel_size=2"]
    limits = context_limits(["device=t3k", "model=llama8b", *split])
    assert [(limit.batch, limit.users) for limit in limits][:2] == [(1, 2), (2, 4)]
    assert limits[0].answer.experiment.config.workload.batch == 2


def test_only_the_same_configuration_has_a_ratio_to_its_measurement():
    answer = ask(MEASURED)
    same = answer.nearest
    assert same.differs == ()
    assert same.decode_ratio == pytest.approx(answer.tokens_per_s_per_user / same.row.tokens_per_s_per_user)
    assert same.ttft_ratio == pytest.approx(answer.ttft_ms / same.row.ttft_ms)
    for more, part in {
        "precision.ff2=BF16": "precision",
        "compute.ff2.math_fidelity=LoFi": "compute",
        "workload.batch=4": "users",
        "workload.context=512": "context",
        "device.max_prefill_chunk_size=64": "device.max_prefill_chunk_size",
        "runtime.prefill=untraced": "prefill",
    }.items():
        other = ask([*MEASURED, more]).nearest
        assert part in other.differs
        assert other.decode_ratio is None
        assert other.ttft_ratio is None


def test_a_typed_value_that_changes_nothing_is_still_the_measured_configuration():
    assert ask([*MEASURED, "precision.ff2=BFP8"]).nearest.differs == ()


def test_layers_that_differ_have_their_own_rows_of_the_op_table():
    prediction = ask(["device=n150", "model=llama8b", "precision=performance"]).prediction
    rows = {(row.op.name, str(row.data)): row.count for row in op_rows(prediction, "decode")}
    assert rows["ff1", "BFP4"] == 31
    assert rows["ff1", "BFP8"] == 1
    assert rows["ff2", "BFP8"] == 32
    assert sum(row.share for row in op_rows(prediction, "decode")) == pytest.approx(1)


def test_python_asks_as_the_command_line_does():
    prediction = tt_transformers_v2.predict(*N150)
    assert prediction.speed == typed_from_scratch(N150).speed
    assert prediction.decode.kind == "calibrated"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["device=n150", "model=llama70b"], "does not fit on N150"),
        (["device=n151"], "Did you mean device=n150"),
        (["device=n150", "device=t3k"], "given twice"),
        (["device=n151", "modle=llama8b"], "unknown key 'modle'"),
    ],
)
def test_python_raises_config_errors(overrides, words):
    with pytest.raises(ConfigError, match=words):
        tt_transformers_v2.predict(*overrides)


def test_what_has_no_support_has_no_figures():
    two_stages = ["device=n300", "parallelism.tensor_parallel_size=1", "parallelism.pipeline_parallel_size=2"]
    prediction = tt_transformers_v2.predict(*two_stages)
    assert not prediction.supported
    with pytest.raises(ConfigError, match="pipeline"):
        _ = prediction.speed
    with pytest.raises(ConfigError, match="pipeline"):
        what_if(ask(two_stages))


def test_overrides_are_answered_in_the_spelling_of_their_files():
    assert typed_overrides(["device=T3000", "model=Llama-3.1-8B-Instruct", "seed=1"])[0] == "device=t3k"
    with pytest.raises(Refused) as refused:
        ask(["device=n150", "model=llama70b"])
    assert refused.value.overflows


def test_the_package_predicts_twice_in_a_process():
    """The room of predictions must not stand where the function does."""
    import tt_transformers_v2

    for _ in range(2):
        assert tt_transformers_v2.predict("device=n150", "model=llama1b").supported
