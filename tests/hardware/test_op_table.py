# SPDX-License-Identifier: Apache-2.0
"""The table of ops and the schema say the same, and what follows from the table is what the groups inherit."""

import dataclasses

import pytest

from tt_transformers_v2.common.checked import field_types
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.config.layers import apply_layers, layer_entry
from tt_transformers_v2.hardware.enums import DataFormat, MathFidelity
from tt_transformers_v2.hardware.op_table import (
    DECODE,
    EXPERT_GROUPS,
    EXPERT_OPS,
    GLOBAL_OP_GROUPS,
    GLOBAL_TENSOR_GROUPS,
    LM_HEAD,
    MATRICES,
    NORM,
    OP_GROUP_PARENTS,
    OP_GROUPS,
    OP_TABLE,
    OTHER_TENSOR_GROUPS,
    PHASES,
    PREFILL,
    READERS,
    RESIDUAL_ADD,
    ROOT_OP_GROUPS,
    ROUTER,
    SDPA,
    SILU_MUL,
    TENSOR_GROUP_PARENTS,
    WEIGHT_OP_GROUPS,
    finest_op_groups,
    finest_tensor_groups,
)
from tt_transformers_v2.hardware.schema import (
    ComputeConfig,
    ComputeGroups,
    ComputeOverride,
    DeviceConfig,
    PrecisionConfig,
)
from tt_transformers_v2.models.decoder import matrix_op
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import tensor_shape

SPEC = ModelSpec.uniform(64, 256, 4, 8, 512, name="tiny")
WITH_SETTINGS = [op for op in (*OP_TABLE, *EXPERT_OPS) if op.op_group]


@pytest.fixture
def config() -> DeviceConfig:
    """Every group set to something that its neighbours are not."""
    made = DevicePresets.get_config("N150")
    formats = list(DataFormat)
    for i, group in enumerate(field_types(PrecisionConfig)):
        setattr(made.precision, group, formats[i % 3])
    made.compute = {group: ComputeConfig(throttle_level=i % 6) for i, group in enumerate(ROOT_OP_GROUPS)}
    made.compute |= {
        group: ComputeOverride(math_fidelity=list(MathFidelity)[i % 4]) for i, group in enumerate(OP_GROUP_PARENTS)
    }
    return made


def test_the_schema_has_a_field_for_every_op_group_and_no_other():
    fields = {field.name: type(getattr(ComputeGroups(), field.name)) for field in dataclasses.fields(ComputeGroups)}
    assert fields == dict.fromkeys(ROOT_OP_GROUPS, ComputeConfig) | dict.fromkeys(OP_GROUP_PARENTS, ComputeOverride)
    assert tuple(fields) == OP_GROUPS, "and in the same order"


def test_every_op_group_runs_some_op():
    reached = {finest for op in WITH_SETTINGS for phase in PHASES for finest in [op.group_in(phase)]}
    assert reached == set(OP_GROUPS) - set(OP_GROUP_PARENTS.values())
    for group in OP_GROUPS:
        assert set(finest_op_groups(group)) <= reached


def test_every_tensor_group_belongs_to_an_op_or_is_listed_as_belonging_to_none():
    of_ops = {
        group
        for op in (*OP_TABLE, *EXPERT_OPS)
        for group in (op.tensor_group, op.tensor_parent, op.activations)
        if group
    }
    coarse = set(TENSOR_GROUP_PARENTS.values())
    assert of_ops | coarse | set(OTHER_TENSOR_GROUPS) == set(field_types(PrecisionConfig))
    assert not of_ops & set(OTHER_TENSOR_GROUPS)


def test_a_tensor_group_may_be_null_exactly_where_it_inherits():
    nullable = {name for name, wanted in field_types(PrecisionConfig).items() if wanted != DataFormat}
    assert nullable == set(TENSOR_GROUP_PARENTS)


def test_the_matrices_are_those_of_the_weights():
    assert set(MATRICES) == {*SPEC.matrices(), "lm_head"}
    for name, shape in SPEC.matrices().items():
        assert tensor_shape(SPEC, name, 0) == shape
    assert all(op.kind == "matmul" and op.tensor_group and op.inputs_over for op in MATRICES.values())


def test_what_only_layers_with_experts_have():
    assert {op.op_group for op in EXPERT_OPS} == {op.tensor_group for op in EXPERT_OPS} == set(EXPERT_GROUPS)
    assert not {group for op in OP_TABLE for group in (op.op_group, op.tensor_group)} & set(EXPERT_GROUPS)
    config = DevicePresets.get_config("N150")
    assert config.precision.of("router") == "BF16"
    config.precision.mlp_weights = DataFormat.BFP4
    assert config.precision.of("experts") == "BFP4", "an expert's weights inherit as the MLP's do"
    assert config.precision.of("router") == "BF16", "but not the router's"
    for name, op in {"expert3.w2": "experts_ff2", "shared.w2": "ff2", "w2": "ff2", "router": "router"}.items():
        assert matrix_op(name).name == op
    assert matrix_op("shared.gate") is ROUTER


@pytest.mark.parametrize(
    ("name", "decode", "prefill"),
    [
        ("wqkv", "qkv_decode", "qkv_prefill"),
        ("wo", "o_decode", "o_prefill"),
        ("w1", "ff1_ff3", "ff1_ff3"),
        ("w3", "ff1_ff3", "ff1_ff3"),
        ("w2", "ff2", "ff2"),
        ("lm_head", "lm_head", "lm_head"),
    ],
)
def test_the_op_group_of_a_matrix_in_each_phase(name, decode, prefill):
    assert (MATRICES[name].group_in(DECODE), MATRICES[name].group_in(PREFILL)) == (decode, prefill)


def test_attention_has_a_group_for_each_phase_and_norms_have_one():
    assert [SDPA.group_in(phase) for phase in PHASES] == ["sdpa_decode", "sdpa_prefill"]
    assert [NORM.group_in(phase) for phase in PHASES] == ["norm", "norm"]


@pytest.mark.parametrize("op", WITH_SETTINGS, ids=lambda op: op.name)
@pytest.mark.parametrize("phase", PHASES)
def test_an_op_runs_with_the_settings_of_its_finest_group(config, op, phase):
    group = f"{op.op_group}_{phase}" if f"{op.op_group}_{phase}" in OP_GROUPS else op.op_group
    assert config.kernel(op, phase) == config.compute_for(group)
    if op.op_parent:
        root = config.compute[op.op_parent]
        assert config.kernel(op, phase).throttle_level == root.throttle_level, "what is not set comes from the root"


@pytest.mark.parametrize("op", OP_TABLE, ids=lambda op: op.name)
def test_an_op_writes_the_format_of_its_half(config, op):
    group = "mlp_activations" if op.half == "mlp" else "attention_activations"
    assert config.activations(op) == getattr(config.precision, group)
    assert config.precision.mlp_activations != config.precision.attention_activations


def test_activations_inherit_from_the_coarse_group(config):
    config.precision.mlp_activations = config.precision.attention_activations = None
    config.precision.activations = DataFormat.BFP8
    assert config.activations(SILU_MUL) == config.activations(RESIDUAL_ADD) == "BFP8"


def test_an_op_without_settings_of_its_own_has_no_kernel(config):
    with pytest.raises(ConfigError, match="no op group"):
        config.kernel(SILU_MUL, DECODE)


def test_weights_and_the_op_groups_that_multiply_by_them():
    assert WEIGHT_OP_GROUPS == {"ff1_ff3": "ff1_ff3", "ff2": "ff2", "wqkv": "qkv", "wo": "o", "lm_head": "lm_head"}
    assert [op.matrix for op in READERS["ff1_ff3"]] == ["w1", "w3"]
    assert READERS["kv_cache"] == (SDPA,)


def test_finest_groups():
    assert finest_op_groups("attention") == ("qkv_decode", "qkv_prefill", "o_decode", "o_prefill")
    assert finest_op_groups("mlp") == ("ff1_ff3", "ff2", "experts")
    assert finest_op_groups("norm") == ("norm",)
    assert set(finest_tensor_groups("mlp_weights")) == {"ff1_ff3", "ff2", "experts"}
    assert finest_tensor_groups("kv_cache") == ("kv_cache",)


def test_what_belongs_to_the_whole_model_is_no_layers_own():
    assert set(GLOBAL_TENSOR_GROUPS) == {"lm_head", "embedding"}
    assert (LM_HEAD.op_group,) == GLOBAL_OP_GROUPS


def test_layers_that_are_alike_are_one_kind_and_the_rest_comes_first(config):
    assert [(own is config, list(layers)) for own, layers in config.layer_kinds(4)] == [(True, [0, 1, 2, 3])]
    entry = layer_entry({"select": "0, 3", "precision": {"ff2": "BF16"}})
    config.layers = apply_layers(config, [entry], 4)
    first, second = config.layer_kinds(4)
    assert first == (config, [1, 2])
    assert second == (config.for_layer(0), [0, 3])
    assert config.own_layers() == [second]


def test_where_every_layer_has_settings_of_its_own_the_model_has_no_other_kind(config):
    entries = [
        layer_entry({"select": select, "precision": {"ff2": data}}) for select, data in (("0", "BF16"), ("1", "BFP4"))
    ]
    config.layers = apply_layers(config, entries, 2)
    assert [layers for _, layers in config.layer_kinds(2)] == [[0], [1]]


def test_the_fidelity_that_reads_a_format_is_not_always_the_one_it_is_paired_with():
    assert [data.lowest_fidelity for data in DataFormat] == ["LoFi", "HiFi2", "HiFi2"]
    assert [data.paired_fidelity for data in DataFormat] == ["LoFi", "HiFi2", "HiFi4"]
    assert all(data.lowest_fidelity.phases <= data.paired_fidelity.phases for data in DataFormat)
