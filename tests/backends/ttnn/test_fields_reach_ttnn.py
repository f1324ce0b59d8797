# SPDX-License-Identifier: Apache-2.0
"""Every precision, memory and compute setting changes what ttnn is asked for, and only where it should."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from ttnn_field_walk import fields_walked

from tt_transformers_v2.common.checked import field_types
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.hardware.op_table import DECODE, EXPERT_GROUPS, OP_GROUP_PARENTS, PREFILL
from tt_transformers_v2.hardware.schema import ComputeGroups

PHASES = (PREFILL, DECODE)
Walked = dict[str, dict[str, dict[str, Any]]]  # field -> phase -> "ops" that change and what "refused" to go on

MATMULS = {"qkv", "o", "ff1_ff3", "ff2", "lm_head"}
# The formats of weights change these ops and no other.
WEIGHTS = {
    "precision.mlp_weights": {"ff1_ff3", "ff2"},
    "precision.attention_weights": {"qkv", "o"},
    "precision.ff1_ff3": {"ff1_ff3"},
    "precision.ff2": {"ff2"},
    "precision.wqkv": {"qkv"},
    "precision.wo": {"o"},
    "precision.lm_head": {"lm_head"},
}
# The other settings change these ops and what comes after them, in prefill and in decode. Prefill works in DRAM always.
OTHERS: dict[str, tuple[set[str], set[str]]] = {
    "precision.mlp_activations": ({"ff1_ff3", "silu_mul", "ff2"}, {"ff1_ff3", "silu_mul", "ff2"}),
    "precision.attention_activations": ({"embedding", "qkv"}, {"embedding", "qkv"}),
    "precision.activations": ({"embedding", "qkv"}, {"embedding", "qkv"}),
    "precision.embedding": ({"embedding"}, {"embedding"}),
    "precision.kv_cache": ({"fill_cache", "sdpa"}, {"update_cache", "sdpa"}),
    "memory.weights_placement": (MATMULS, MATMULS),
    "memory.use_width_sharding": (MATMULS, MATMULS),
    "memory.activations_placement": (set(), {"embedding", "add", "silu_mul"}),
    "memory.use_height_sharding": (set(), {"add", "silu_mul"}),
    "memory.kv_cache_placement": ({"fill_cache"}, {"update_cache", "sdpa"}),
}
# What ttnn is asked for and refuses, in its own words by phase.
REFUSED = {"memory.kv_cache_placement": ("", "buffer type must be DRAM")}
# Only the sums along both axes of a 2-D mesh travel in a format of their own.
ON_2D_MESHES = "precision.ccl"
COMPUTE = [name for name in fields_walked() if name.startswith("compute.")]


@pytest.fixture(scope="module", params=["N150", pytest.param("P150", marks=pytest.mark.slow)])
def walked(request: pytest.FixtureRequest, run: Callable[..., Walked]) -> Walked:
    """One process asks about every field, for opening takes longest."""
    return run("ttnn_field_walk:walk", request.param, fields=fields_walked())


def ops_of(group: str) -> set[tuple[str, str]]:
    """The (phase, op) pairs of an op group, by the groups that inherit from it and their names."""
    finer = [name for name, parent in OP_GROUP_PARENTS.items() if parent == group and name not in EXPERT_GROUPS]
    if finer:
        return set().union(*(ops_of(name) for name in finer))
    op, _, phase = group.rpartition("_")
    if phase in PHASES:
        return {(phase, op)}
    return {(phase, "rms_norm" if group == "norm" else group) for phase in PHASES}


def test_every_field_and_op_group_of_the_schema_is_walked() -> None:
    assert {name.split(".")[1] for name in COMPUTE} == set(field_types(ComputeGroups)) - set(EXPERT_GROUPS)
    assert {name for name in fields_walked() if name not in COMPUTE} == {*WEIGHTS, *OTHERS, ON_2D_MESHES}


def test_the_same_configuration_gives_the_same_calls(walked: Walked) -> None:
    assert walked[""] == {phase: {"ops": [], "refused": ""} for phase in PHASES}


@pytest.mark.parametrize("name", COMPUTE)
def test_a_compute_setting_reaches_the_ops_of_its_group_and_no_other(name: str, walked: Walked) -> None:
    changed = {(phase, op) for phase in PHASES for op in walked[name][phase]["ops"]}
    assert changed == ops_of(name.split(".")[1])


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_format_of_weights_reaches_their_matmuls_and_no_other(name: str, walked: Walked) -> None:
    assert [set(walked[name][phase]["ops"]) for phase in PHASES] == [WEIGHTS[name]] * 2


@pytest.mark.parametrize("name", OTHERS)
def test_a_setting_of_activations_caches_or_memory_reaches_ttnn(name: str, walked: Walked) -> None:
    for phase, reached in zip(PHASES, OTHERS[name], strict=True):
        changed = set(walked[name][phase]["ops"])
        assert reached <= changed if reached else not changed


def test_ttnn_refuses_only_what_is_known(walked: Walked) -> None:
    for name, by_phase in walked.items():
        for phase, words in zip(PHASES, REFUSED.get(name, ("", "")), strict=True):
            refused = by_phase[phase]["refused"]
            assert words in refused if words else not refused, (name, phase, refused)


def test_the_format_of_sums_reaches_ttnn_on_2d_meshes_only(walked: Walked, run: Callable[..., Walked]) -> None:
    assert [walked[ON_2D_MESHES][phase]["ops"] for phase in PHASES] == [[], []]
    upright = dataclasses.replace(DevicePresets.get_config("T3K").spec, mesh_shape=[2, 4])
    there = run("ttnn_field_walk:walk", upright, fields=[ON_2D_MESHES])
    sums = {"qkv", "attention", "ff1_ff3", "mlp", "lm_head"}
    for phase in PHASES:
        changed = there[ON_2D_MESHES][phase]["ops"]
        assert set(changed) == {f"{name} {part}" for name in sums for part in ("typecast", "all_reduce")}
        assert there[""][phase]["refused"] == there[ON_2D_MESHES][phase]["refused"] == ""


def test_ttnn_looks_no_rows_up_in_bfp4_and_unpacks_a_bfp8_table_first(run: Callable[..., dict[str, Any]]) -> None:
    """From a BFP8 table it makes a bfloat16 one, at every call and whole, before it looks anything up."""
    done = run("ttnn_field_walk:lookups")
    assert done["BF16"] == ["EmbeddingsDeviceOperation"]
    assert done["BFP8"][0].startswith("Untilize")
    assert isinstance(done["BFP4"], str)
