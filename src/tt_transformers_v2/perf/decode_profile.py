# SPDX-License-Identifier: Apache-2.0
"""A predicted decode step as the device profiler would record it: every op of one chip, in order of execution.

The order within a layer, the op codes and the layouts are those of Llama-3.1-8B under tt_transformers' recipe in
tt-metal's models/autoports @3d6a972a (decode_trace_perf_report.csv).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from ..common.errors import ConfigError
from ..common.units import TILE
from ..hardware.enums import DataFormat
from ..hardware.op_table import (
    EMBEDDING,
    LM_HEAD,
    MATRICES,
    NORM,
    RESIDUAL_ADD,
    SDPA,
    SILU_MUL,
)
from ..hardware.schema import DeviceConfig
from ..planning import plans
from .decode_blocks import activation_cores
from .layer_matmuls import matrices_per_chip
from .layer_ops import CONCAT_HEADS, CREATE_HEADS, HEAD_NORM, MOVE, ROPE, UPDATE_CACHE
from .ops import formats, heads_per_chip, padded
from .ops_csv import ProfiledOp, Tensor
from .prediction import Prediction
from .speed import OpLine
from .timing import HOST_OPS

# Ops as predictions print them -> the profiler's op code.
CODES: Mapping[str, str] = {
    EMBEDDING.name: "EmbeddingsDeviceOperation",
    NORM.name: "LayerNormDeviceOperation",
    HEAD_NORM: "LayerNormDeviceOperation",
    CREATE_HEADS: "NLPCreateQKVHeadsDecodeDeviceOperation",
    ROPE: "RotaryEmbeddingLlamaDeviceOperation",
    UPDATE_CACHE: "PagedUpdateCacheDeviceOperation",
    SDPA.name: "SdpaDecodeDeviceOperation",
    CONCAT_HEADS: "NLPConcatHeadsDecodeDeviceOperation",
    SILU_MUL.name: "BinaryNgDeviceOperation",
    RESIDUAL_ADD.name: "BinaryNgDeviceOperation",
    **{op.name: "MatmulDeviceOperation" for op in MATRICES.values()},
}
_GATHER, _REDUCE = "AllGatherAsyncDeviceOperation", "AllReduceAsyncDeviceOperation"
# Moves of a layer, by what stands before them.
_MOVES = {
    "wqkv": "ShardedToInterleavedDeviceOperation",
    SDPA.name: "InterleavedToShardedDeviceOperation",
    "attention": "ReshardDeviceOperation",
    "ff2": "ReshardDeviceOperation",
}
_SHARDED, _INTERLEAVED, _HEADS = "L1_WIDTH_SHARDED", "L1_INTERLEAVED", "L1_HEIGHT_SHARDED"
_LAYER_STARTS = "wqkv"


def decode_profile(prediction: Prediction) -> tuple[list[ProfiledOp], float]:
    """The ops of one decode step, and the microseconds of it that no device op accounts for (host, rest of a layer).

    Raises ConfigError where the prediction has no figures, for layers that are not of the Llama kind, and for a
    calibration without costs of single ops.
    """
    constants = prediction.calibration.of(prediction.hardware.spec.chip.arch)
    if constants.ops is None:
        raise ConfigError(
            f"calibration {prediction.calibration.name} has one lump a layer and no single ops to list.",
            "Use calibration=tt_metal_2026.",
        )
    if prediction.spec.kinds:
        raise ConfigError(
            f"the layers of {prediction.spec.name} are not of the Llama kind, the only one profiled here.",
            "scripts/predict.py has its ops without an order.",
        )
    walk = _Step(prediction, constants.ops.gap_us, constants.readers_per_bank)
    ops = list(walk.ops())
    listed = sum(op.us + op.gap_us for op in ops)
    return ops, prediction.speed.decode_us - listed


class _Step:
    """One decode step of a prediction."""

    def __init__(self, prediction: Prediction, gap_us: float, readers_per_bank: int) -> None:
        self.hw, self.spec, self.gap_us = prediction.hardware, prediction.spec, gap_us
        self.batch, self.context = prediction.batch, prediction.context
        self.tp = self.hw.parallelism.tensor_parallel_size
        self.q_heads, self.kv_heads = heads_per_chip(self.spec, self.tp)
        self.matrices = matrices_per_chip(self.spec, self.tp)
        self.rows = padded(self.batch)
        system = self.hw.spec
        self.grid = system.grid[0], system.grid[1]
        self.readers = plans.reader_cores(system.chip.dram_banks, readers_per_bank, self.grid)
        self.lines = prediction.speed.ops

    def ops(self) -> Iterator[ProfiledOp]:
        """Embedding, every layer, LM head."""
        by_layer = self._lines_by_layer()
        first, last = self._outside(EMBEDDING.name), self._outside(LM_HEAD.name)
        if first is not None:
            yield self._elementwise(first, formats(self.hw)["attention_activations"], self.spec.hidden_dim, gap=False)
        for layer in range(self.spec.num_layers):
            own, lines = by_layer[layer]
            yield from self._layer(own, lines)
        if last is not None:
            yield self._matmul(last, self.hw)

    def _outside(self, name: str) -> OpLine | None:
        return next((line for line in self.lines if line.op.name == name), None)

    def _lines_by_layer(self) -> dict[int, tuple[DeviceConfig, dict[str, OpLine]]]:
        """Each layer's configuration and lines by op; kinds of layers follow each other in a prediction's lines."""
        groups: list[dict[str, OpLine]] = []
        for line in self.lines:
            if line.op.name == _LAYER_STARTS:
                groups.append({})
            if groups and line.op.name not in (LM_HEAD.name, *HOST_OPS):
                groups[-1][line.op.name] = line
        kinds = self.hw.layer_kinds(self.spec.num_layers)
        return {layer: (own, lines) for (own, layers), lines in zip(kinds, groups, strict=True) for layer in layers}

    def _layer(self, own: DeviceConfig, lines: dict[str, OpLine]) -> Iterator[ProfiledOp]:
        """One layer in order of execution."""
        data = formats(own)
        residual, mlp = data["attention_activations"], data["mlp_activations"]
        hidden, q = self.spec.hidden_dim, self.q_heads * self.spec.head_dim
        width = self.matrices["w1"][1]
        yield self._norm(lines[NORM.name], residual)
        yield self._matmul(lines["wqkv"], own)
        yield self._move(lines, "wqkv", residual, self.matrices["wqkv"][1])
        yield self._on_heads(lines[CREATE_HEADS], residual, self.q_heads)
        if HEAD_NORM in lines:
            yield self._on_heads(lines[HEAD_NORM], residual, self.q_heads)
            yield self._on_heads(lines[HEAD_NORM], residual, self.kv_heads)
        yield self._on_heads(lines[ROPE], residual, self.q_heads)
        yield self._on_heads(lines[ROPE], residual, self.kv_heads)
        for _ in range(2):
            yield self._with_cache(lines[UPDATE_CACHE], residual, data["kv_cache"])
        yield self._with_cache(lines[SDPA.name], residual, data["kv_cache"])
        yield self._move(lines, SDPA.name, residual, q)
        yield self._on_heads(lines[CONCAT_HEADS], residual, self.q_heads)
        yield self._matmul(lines["wo"], own)
        yield from self._collective(lines, "attention", residual)
        yield self._elementwise(lines[RESIDUAL_ADD.name], residual, hidden)
        yield self._move(lines, "attention", residual, hidden)
        yield self._norm(lines[NORM.name], residual)
        yield self._matmul(lines["ff1"], own)
        yield self._matmul(lines["ff3"], own)
        yield self._elementwise(lines[SILU_MUL.name], mlp, width)
        yield self._matmul(lines["ff2"], own)
        yield from self._collective(lines, "mlp", mlp)
        yield self._move(lines, "ff2", residual, hidden)
        yield self._elementwise(lines[RESIDUAL_ADD.name], residual, hidden)

    def _op(
        self,
        line: OpLine,
        code: str,
        cores: int,
        inputs: Sequence[Tensor],
        output: Tensor,
        *,
        gap: bool = True,
        attributes: str = "",
    ) -> ProfiledOp:
        fidelity = line.op.fidelity.value if line.op.fidelity is not None else ""
        gap_us = self.gap_us if gap else 0.0
        return ProfiledOp(line.op.name, code, line.us, gap_us, cores, tuple(inputs), output, fidelity, attributes)

    def _activation(self, width: int, data: DataFormat, memory: str = _SHARDED) -> Tensor:
        return Tensor((1, 1, self.rows, padded(width)), (1, 1, self.batch, width), data, memory)

    def _matmul(self, line: OpLine, own: DeviceConfig) -> ProfiledOp:
        op = next(each for each in MATRICES.values() if each.name == line.op.name)
        inputs, outputs = self.matrices[op.matrix]
        data = formats(own)
        into = data["mlp_activations"] if op.matrix == "w2" else data["attention_activations"]
        out = data[op.activations]
        place = "DRAM" if line.op.bytes else "L1"
        if not line.op.bank_tiles:
            weight = self._weight(inputs, outputs, data[op.tensor_group], f"{place}_INTERLEAVED")
            plan = "MatmulMultiCoreReuseMultiCast1DProgramConfig"
            cores, attributes = self.grid[0] * self.grid[1], f"{{'program_config': '{plan}(mcast_in0=true)'}}"
        else:
            weight = self._weight(inputs, outputs, data[op.tensor_group], f"{place}_WIDTH_SHARDED")
            cores = self.readers
            held = activation_cores(op.name, inputs // TILE, outputs // TILE)
            plan = "MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig"
            per_core_n = math.ceil(outputs / TILE / held)
            attributes = (
                f"{{'program_config': '{plan}(in0_block_w={line.op.block};per_core_M={self.rows // TILE};"
                f"per_core_N={per_core_n};fused_activation=std::nullopt)'}}"
            )
        return self._op(
            line,
            CODES[op.name],
            cores,
            (self._activation(inputs, into), weight),
            self._activation(outputs, out),
            attributes=attributes,
        )

    def _weight(self, inputs: int, outputs: int, data: DataFormat, memory: str) -> Tensor:
        shape = (1, 1, inputs, outputs)
        return Tensor(shape, shape, data, memory)

    def _norm(self, line: OpLine, data: DataFormat) -> ProfiledOp:
        deep = math.ceil(self.spec.hidden_dim / TILE)
        activation = self._activation(self.spec.hidden_dim, data)
        return self._op(line, CODES[line.op.name], activation_cores("wqkv", deep, deep), (activation,), activation)

    def _elementwise(self, line: OpLine, data: DataFormat, width: int, *, gap: bool = True) -> ProfiledOp:
        activation = self._activation(width, data)
        both = (activation,) if line.op.name == EMBEDDING.name else (activation, activation)
        cores = min(self.grid[0] * self.grid[1], activation.shape[3] // TILE)
        code = CODES[line.op.name]
        kind = {RESIDUAL_ADD.name: "ADD", SILU_MUL.name: "MUL"}.get(line.op.name)
        attributes = f"{{'binary_op_type': 'BinaryOpType::{kind}'}}" if kind else ""
        return self._op(line, code, cores, both, activation, gap=gap, attributes=attributes)

    def _on_heads(self, line: OpLine, data: DataFormat, heads: int) -> ProfiledOp:
        shape = (1, self.batch, padded(heads), padded(self.spec.head_dim))
        tensor = Tensor(shape, (1, self.batch, heads, self.spec.head_dim), data, _HEADS)
        return self._op(line, CODES[line.op.name], min(self.batch, self.grid[0] * self.grid[1]), (tensor,), tensor)

    def _with_cache(self, line: OpLine, data: DataFormat, cache: DataFormat) -> ProfiledOp:
        shape = (1, self.batch, padded(self.q_heads), padded(self.spec.head_dim))
        query = Tensor(shape, (1, self.batch, self.q_heads, self.spec.head_dim), data, _HEADS)
        held = (self.batch, self.kv_heads, padded(self.context), self.spec.head_dim)
        place = self.hw.memory.kv_cache_placement.value
        keys = Tensor(held, held, cache, f"{place}_INTERLEAVED")
        return self._op(line, CODES[line.op.name], self.grid[0] * self.grid[1], (query, keys), query)

    def _move(self, lines: dict[str, OpLine], behind: str, data: DataFormat, width: int) -> ProfiledOp:
        code = _MOVES[behind]
        before = self._activation(width, data, _INTERLEAVED if code.startswith("Interleaved") else _SHARDED)
        after = self._activation(width, data, _INTERLEAVED if code.startswith("Sharded") else _SHARDED)
        return self._op(lines[MOVE], code, min(self.grid[0] * self.grid[1], 32), (before,), after)

    def _collective(self, lines: dict[str, OpLine], half: str, data: DataFormat) -> Iterator[ProfiledOp]:
        for name, code in ((f"all_gather_{half}", _GATHER), (f"all_reduce_{half}", _REDUCE)):
            if name in lines:
                activation = self._activation(self.spec.hidden_dim, data)
                yield self._op(lines[name], code, 0, (activation,), activation)
