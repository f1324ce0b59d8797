# SPDX-License-Identifier: Apache-2.0
"""The small ops of a layer, the blocks of K of decode matmuls, and what each does to a prediction."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from places import ROOT
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware.enums import Arch, DataFormat
from tt_transformers_v2.perf.calibration import Calibration
from tt_transformers_v2.perf.decode_blocks import activation_cores, in0_block_w
from tt_transformers_v2.perf.layer_ops import GAP, HEAD_NORM, REST, decode_layer_ops, prefill_layer_ops
from tt_transformers_v2.perf.op_costs import MULTICORE_TOPK, OP_COSTS
from tt_transformers_v2.perf.prediction import predict
from tt_transformers_v2.prediction.questions import resolve_overrides


def data(name="tt_metal_2026"):
    return yaml.safe_load((ROOT / f"conf/calibration/{name}.yaml").read_text(encoding="utf-8"))


NEW, OLD = Calibration.from_dict(data()), Calibration.from_dict(data("tt_metal_2025"))


def costs(arch):
    found = NEW.of(arch).ops
    assert found is not None
    return found


def experiment(*overrides):
    return resolve_overrides(overrides)


def lines(calibration, *overrides, batch=32, tokens=128):
    own = experiment(*overrides)
    found = predict(own.hardware, own.spec, calibration, prompt_length=tokens, batch=batch)
    return {line.op.name: line for line in reversed(found.speed.ops)}  # of the first kind of layer


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "block"),
    # Inner Dim Block Size of Llama-3.1-8B's matmuls on N150 in tt-metal's models/autoports @3d6a972a.
    [
        ("wqkv", 4096, 6144, 4),
        ("wo", 4096, 4096, 4),
        ("ff1", 4096, 14336, 2),
        ("ff3", 4096, 14336, 2),
        ("ff2", 14336, 4096, 7),
    ],
)
def test_blocks_of_k_are_those_of_a_published_profile(op, inputs, outputs, block):
    assert in0_block_w(op, inputs // 32, outputs // 32) == block


def test_activations_of_the_mlp_lie_on_the_cores_that_divide_both_sides():
    assert activation_cores("ff1", 128, 448) == 64
    assert activation_cores("ff1", 128, 7) == 1
    assert activation_cores("lm_head", 128, 4008) == 64


def small_ops_us(arch, spec, batch, cache):
    ops = decode_layer_ops(costs(arch), spec, 1, batch=batch, kv_cache=cache, bandwidth=288.0)
    gaps = sum(op.us * op.executions for op in ops if op.name == GAP)
    return sum(op.us * op.executions for op in ops) - gaps, gaps


def test_the_small_ops_of_a_layer_come_to_what_profiles_of_an_8b_show():
    spec = experiment("device=n150", "model=llama8b").spec
    wormhole, gaps = small_ops_us(Arch.wormhole_b0, spec, 32, DataFormat.BF16)
    assert wormhole == pytest.approx(156, abs=12)  # 149 to 167 us in five profiles
    assert gaps == pytest.approx(15, abs=3)
    blackhole, gaps = small_ops_us(Arch.blackhole, spec, 32, DataFormat.BFP8)
    assert blackhole + gaps == pytest.approx(105, abs=15)


def test_norms_of_queries_and_keys_and_their_gaps_count_where_the_model_has_them():
    spec = experiment("device=n150", "model=llama8b").spec
    plain = decode_layer_ops(costs(Arch.wormhole_b0), spec, 1, batch=1, kv_cache=DataFormat.BFP8, bandwidth=288.0)
    normed = decode_layer_ops(
        costs(Arch.wormhole_b0),
        dataclasses.replace(spec, qk_norm=True),
        1,
        batch=1,
        kv_cache=DataFormat.BFP8,
        bandwidth=288.0,
    )
    assert HEAD_NORM not in {op.name for op in plain}
    assert {op.name: op.executions for op in normed}[HEAD_NORM] == 2
    assert {op.name: op.executions for op in normed}[GAP] == {op.name: op.executions for op in plain}[GAP] + 2


def test_long_prompts_are_bound_by_bytes_and_short_ones_by_fixed_costs():
    spec = experiment("device=n150", "model=llama8b").spec

    def us(rows):
        ops = prefill_layer_ops(costs(Arch.wormhole_b0), spec, 1, rows=rows, cores=64, bandwidth=288.0)
        return {op.name: op.us for op in ops}

    assert us(8192)["add"] == pytest.approx(2 * us(4096)["add"])
    assert us(32)["rope"] == costs(Arch.wormhole_b0).rope_us
    assert us(8192)["rope"] > us(32)["rope"]


def test_the_ops_of_a_layer_stand_in_the_table_of_ops_and_the_lump_in_the_old_calibration():
    asked = ("device=n150", "model=llama8b", "precision=performance")
    new, old = lines(NEW, *asked), lines(OLD, *asked)
    small = {"rms_norm", "create_heads", "rope", "update_cache", "concat_heads", "silu_mul", "add", "move", GAP}
    assert small <= set(new)
    assert "norms_rope_residual" not in new
    assert "norms_rope_residual" in old
    assert not small & set(old)


def test_what_a_layer_takes_beyond_its_ops_has_a_line_only_where_there_is_any():
    asked = ("device=n150", "model=llama8b")
    with_rest, without = (lines(NEW.replace(layer_overhead_us=us), *asked) for us in (10.0, 0.0))
    assert with_rest[REST].us == 10.0
    assert REST not in without


def test_a_narrower_cache_makes_its_update_cheaper():
    asked = ("device=n150", "model=llama8b")
    wide, narrow = (lines(NEW, *asked, f"precision.kv_cache={f}")["update_cache"].us for f in ("BF16", "BFP8"))
    assert wide / narrow == pytest.approx(25.7 / 16.0, rel=0.05)  # N150, measured


def test_short_blocks_of_k_cost_a_low_fidelity_matmul_and_not_one_bound_by_bandwidth():
    asked = ("device=n150", "model=llama8b")
    narrow = lines(NEW, *asked, "precision.ff1_ff3=BFP4", "compute.ff1_ff3.math_fidelity=LoFi")
    wide = lines(NEW, *asked, "precision.ff1_ff3=BFP8", "compute.ff1_ff3.math_fidelity=HiFi2")
    assert narrow["ff1"].us == pytest.approx(183, rel=0.05)  # measured, as the next
    assert wide["ff1"].us == pytest.approx(254, rel=0.05)
    free = NEW.replace(block_cycles=0.0)
    assert lines(free, *asked, "precision.ff1_ff3=BFP4", "compute.ff1_ff3.math_fidelity=LoFi")["ff1"].us < 140
    unblocked = lines(free, *asked, "precision.ff1_ff3=BFP8", "compute.ff1_ff3.math_fidelity=HiFi2")["ff1"].us
    assert unblocked == pytest.approx(wide["ff1"].us, rel=0.05)


@pytest.mark.parametrize(
    ("width", "many_cores"),
    [
        (MULTICORE_TOPK[0] - 1, False),
        (MULTICORE_TOPK[0], True),
        (MULTICORE_TOPK[1], True),
        (MULTICORE_TOPK[1] + 1, False),
    ],
)
def test_top_k_outside_the_many_core_program_is_paid_by_the_logit(width, many_cores):
    own = costs(Arch.blackhole)
    assert own.topk(width) == (own.topk_us if many_cores else own.topk_element_us * width)


def test_a_calibration_has_every_op_cost_or_none():
    broken = data()
    del broken["blackhole"]["rope_us"]
    with pytest.raises(ConfigError, match="lacks rope_us"):
        Calibration.from_dict(broken)
    for name in OP_COSTS:
        broken["blackhole"].pop(name, None)
    assert Calibration.from_dict(broken).of(Arch.blackhole).ops is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gap_us", -1, "must be a number of at least 0"),
        ("sdpa_decode_efficiency", 1.1, "must be at most 1"),
        ("elementwise_efficiency", 0, "must be more than 0"),
    ],
)
def test_impossible_op_costs_are_named(name, value, message):
    broken = data()
    broken["blackhole"][name] = {"value": value}
    with pytest.raises(ConfigError, match=f"calibration.blackhole.{name}.value {message}|{name}.*{message}"):
        Calibration.from_dict(broken)


def test_op_costs_of_a_calibration_without_any_cannot_be_replaced():
    with pytest.raises(ConfigError, match="needs a calibration with costs of single ops"):
        OLD.replace(gap_us=1.0)
    assert NEW.replace(gap_us=9.0).of(Arch.blackhole).ops.gap_us == 9.0
