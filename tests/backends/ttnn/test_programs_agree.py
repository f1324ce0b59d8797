# SPDX-License-Identifier: Apache-2.0
"""The plan, the program config that reaches ttnn and the blocks that reach the emulated matrix unit are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tt_transformers_v2.backends.emulated import emulated_ops
from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.backends.emulated.matrix_units import FastUnit
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.planned import op_plans
from tt_transformers_v2.config.resolve import Experiment, resolve_or_refuse
from tt_transformers_v2.hardware.op_table import DECODE, LM_HEAD, MATRICES, PREFILL
from tt_transformers_v2.models.decoder import LayerWeights, decoder_layer, head_matrix
from tt_transformers_v2.models.kv_cache import KVCache
from tt_transformers_v2.models.rope import rope_tables
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.perf.ops import padded_prompt
from tt_transformers_v2.planning.plans import DramShardedPlan, Multicast1DPlan, MulticastPlan

Run = Callable[..., Any]
PHASES = (PREFILL, DECODE)
# (device, overrides) of pairs that are asked in one process.
PAIRS = [
    ("N150", [["model=smollm2_135m"], ["model=llama1b", "memory.use_width_sharding=false"]]),
    ("P150x4", [["model=llama8b"]]),
    pytest.param(
        "N150",
        [["model=qwen2_5_0_5b", "precision=accuracy", "memory.kv_cache_placement=DRAM"], ["model=llama8b"]],
        marks=pytest.mark.slow,
    ),
    pytest.param("N300", [["model=qwen2_5_7b"]], marks=pytest.mark.slow),
    pytest.param("T3K", [["model=llama8b", "workload.batch=32"], ["model=llama70b"]], marks=pytest.mark.slow),
    pytest.param("P150", [["model=qwen3_0_6b"], ["model=phi3_mini"]], marks=pytest.mark.slow),
    pytest.param("P100", [["model=smollm2_1_7b", "workload.prompt_length=2000"]], marks=pytest.mark.slow),
    pytest.param("WH_GALAXY", [["model=llama70b"]], marks=pytest.mark.slow),
]
KINDS = {
    DramShardedPlan: "MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig",
    MulticastPlan: "MatmulMultiCoreReuseMultiCastProgramConfig",
    Multicast1DPlan: "MatmulMultiCoreReuseMultiCast1DProgramConfig",
}
EVERY = ("in0_block_w", "per_core_M", "per_core_N", "out_subblock_h", "out_subblock_w")
FIELDS = {"per_core_M": "per_core_m", "per_core_N": "per_core_n"}


@pytest.mark.parametrize(("device", "pairs"), PAIRS)
def test_plan_ttnn_and_emulation_have_the_same_programs(
    device: str, pairs: list[list[str]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [[f"device={device.lower()}", *overrides] for overrides in pairs]
    for overrides, calls in zip(asked, run("ttnn_program_jobs:linears", device, asked=asked), strict=True):
        experiment = experiment_of(overrides)
        emulated = blocks_that_reach_the_unit(experiment, monkeypatch)
        plans = op_plans(experiment)
        compared = set()
        for call in calls:
            if call["part"] not in (calls[0]["part"], "LM head") or (call["op"], call["phase"]) in compared:
                continue  # layers of other kinds, parts of the LM head, and FF3, which is as FF1
            compared.add((call["op"], call["phase"]))
            op = next(op for op in MATRICES.values() if op.op_group == call["op"])
            at = plans.at_layer(0) if op.in_layer else plans
            rows = 32 if op.one_tile and call["phase"] == PREFILL else prompt_rows(experiment)
            planned = at.matmul(
                op, call["phase"], rows if call["phase"] == PREFILL else plans.users, *plans.parts[op.matrix]
            )
            assert (planned.inputs, planned.outputs) == (call["inputs"], call["outputs"])
            assert KINDS[type(planned.plan)] == call["kind"]
            known = {name: FIELDS.get(name, name) for name in EVERY if hasattr(planned.plan, FIELDS.get(name, name))}
            assert {name: getattr(planned.plan, own) for name, own in known.items()} == {
                name: call[name] for name in known
            }
            seen = emulated[op.matrix, call["phase"]]
            assert seen == (call["inputs"], call["in0_block_w"], call["fp32_dest_acc_en"], call["packer_l1_acc"])
        assert compared == {(op.op_group, phase) for op in MATRICES.values() for phase in PHASES}


def experiment_of(overrides: list[str]) -> Experiment:
    checked = check_overrides([*overrides, "task=preflight"])
    return resolve_or_refuse(compose(checked.texts), checked.typed)


def prompt_rows(experiment: Experiment) -> int:
    return min(padded_prompt(experiment.config.workload.prompt_length), experiment.hardware.max_prefill_chunk_size)


class Nothing:
    """Weights of a model's shapes that take no memory."""

    synthetic = True

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        shapes = {**self.spec.matrices(), "lm_head": (self.spec.hidden_dim, self.spec.vocab_size)}
        q, kv = (heads * self.spec.head_dim for heads in (self.spec.num_heads, self.spec.num_kv_heads))
        widths = {"bqkv": q + 2 * kv, "q_norm": self.spec.head_dim, "k_norm": self.spec.head_dim}
        return torch.zeros(1).expand(shapes.get(name, (widths.get(name, self.spec.hidden_dim),)))


def blocks_that_reach_the_unit(experiment: Experiment, patch: pytest.MonkeyPatch) -> dict[tuple[str, str], Any]:
    """Matrix and phase -> K of a chip in elements, block, Dst mode and L1 accumulation as the unit is given them."""
    found: dict[tuple[str, str], Any] = {}
    now = ["", ""]

    class Watched(FastUnit):
        def prepare(self, weight: torch.Tensor, kernel: Any) -> torch.Tensor:
            return weight

        def linear(self, x: Any, weight: Any, bias: Any, kernel: Any, out: str, in0_block_w: int) -> torch.Tensor:
            assert x.shape[-1] == weight.shape[-2]
            found[now[0], now[1]] = (x.shape[-1], in0_block_w, kernel.fp32_dest_acc_en, kernel.packer_l1_acc)
            return torch.zeros(*x.shape[:-1], weight.shape[-1])

    class Ops(EmulatedOps):
        def linear(self, x: Any, weight: Any, bias: Any, op: Any) -> torch.Tensor:
            now[:] = op.matrix, self.phase
            return super().linear(x, weight, bias, op)

    patch.setattr(emulated_ops, "quantize", lambda x, fmt: x)
    spec, tokens = experiment.spec, 4
    ops = Ops(experiment.hardware, plans=op_plans(experiment))
    ops.unit = Watched()
    weights, x = Nothing(spec), torch.zeros(1, tokens, spec.hidden_dim)
    tables = rope_tables(spec, torch.arange(tokens))
    for phase in PHASES:
        own = ops.at_layer(0).in_phase(phase).continuing(KVCache())
        decoder_layer(own, spec, LayerWeights(weights, 0), x, tables)  # type: ignore[arg-type]
        head = ops.in_phase(phase)
        head.linear(x, head_matrix(head, weights), None, LM_HEAD)  # type: ignore[arg-type]
    return found


# Rows, inputs, outputs, whether activations lie in L1.
SHAPES = [
    [32, 576, 576, True],
    [32, 576, 1536, True],
    [32, 1056, 2112, True],
    [32, 2048, 2048, True],
    [32, 4096, 14336, True],
    [32, 576, 192, False],
    [64, 512, 128, False],
]


@pytest.mark.parametrize("device", ["N150", pytest.param("P150", marks=pytest.mark.slow)])
def test_interleaved_weights_get_the_program_that_ttnn_takes_by_itself(device: str, run: Run) -> None:
    """As far as the L1 that a program asks for tells. An odd number of K tiles has one tile in a block."""
    for shape, (automatic, ours) in zip(SHAPES, run("ttnn_program_jobs:automatic", device, shapes=SHAPES), strict=True):
        assert automatic == ours, shape
