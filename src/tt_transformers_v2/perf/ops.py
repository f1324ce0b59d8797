# SPDX-License-Identifier: Apache-2.0
"""What one chip executes: the op inventory of a decode step and of a prompt, in bytes and flops.

All quantities are per chip and per execution; `Op.count` says how often the op runs. Sharding is
tt_transformers' on a 1-D mesh: wqkv, ff1, ff3 and the LM head are split by output features, wo and ff2 by
input features and reduced over the chips; every data-parallel group holds a whole model. Key and value heads
are replicated once there are fewer of them than tensor-parallel chips. Nothing here knows how long an op
takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..hardware.errors import ConfigError
from ..hardware.schema import OP_GROUP_PARENTS, DeviceConfig, MathFidelity, Placement
from ..models.spec import ModelSpec

TILE = 32  # rows and columns of a tile
Shapes = dict[str, tuple[int, int]]  # matrix -> (input, output features)


@dataclass(frozen=True)
class Op:
    """One op on one chip.

    kind: "weights" (a matmul), "kv" (attention), "collectives" or "overhead".
    compute_group: the op group whose fidelity it runs at, "" where there is none.
    tensor_group: the tensor group of its weights, "" where there is none.
    count: executions per decode step or per prompt. rows: rows of the activation, padded to tiles.
    weight_bytes, kv_bytes: bytes read from DRAM per execution. tiles: weight tiles read.
    flops: matrix flops per execution. scores: attention scores exponentiated. payload: bytes that a chip
        brings to a collective over `chips` chips. context: cached tokens attended to (decode attention).
        pairs: (user, KV head) pairs.
    """

    name: str
    kind: str
    compute_group: str = ""
    tensor_group: str = ""
    fidelity: MathFidelity | None = None
    count: int = 1
    rows: int = 0
    weight_bytes: float = 0.0
    kv_bytes: float = 0.0
    tiles: float = 0.0
    flops: float = 0.0
    scores: float = 0.0
    payload: float = 0.0
    chips: int = 1
    context: int = 0
    pairs: int = 0

    @property
    def bytes(self) -> float:
        """DRAM bytes read per chip and execution."""
        return self.weight_bytes + self.kv_bytes


def padded(elements: float, multiple: int = TILE) -> int:
    """`elements` rounded up to a multiple."""
    return math.ceil(elements / multiple) * multiple


def heads_per_chip(spec: ModelSpec, tensor_parallel: int) -> tuple[int, int]:
    """Query heads and KV heads on one chip; KV heads are replicated when there are fewer than chips."""
    return math.ceil(spec.num_heads / tensor_parallel), math.ceil(spec.num_kv_heads / tensor_parallel)


def padded_prompt(length: int) -> int:
    """Tokens computed for a prompt: 128, 1024, then powers of two (get_padded_prefill_len)."""
    if length <= 128:
        return 128
    return 1024 if length <= 1024 else 1 << (length - 1).bit_length()


def matrices_per_chip(hw: DeviceConfig, spec: ModelSpec) -> Shapes:
    """A layer's weight matrices and the LM head as one chip stores them: (inputs, outputs) in whole tiles."""
    tp = hw.parallelism.tensor_parallel_size
    q_heads, kv_heads = heads_per_chip(spec, tp)
    q, hidden, ff = q_heads * spec.head_dim, spec.hidden_dim, math.ceil(spec.intermediate_dim / tp)
    shapes = {
        "wqkv": (hidden, q + 2 * kv_heads * spec.head_dim),
        "wo": (q, hidden),
        "ff1": (hidden, ff),
        "ff3": (hidden, ff),
        "ff2": (ff, hidden),
        "lm_head": (hidden, math.ceil(spec.vocab_size / tp)),
    }
    return {name: (padded(rows), padded(columns)) for name, (rows, columns) in shapes.items()}


# Matrix -> (tensor group of its weights, op group in decode, op group in prefill)
_GROUPS = {
    "wqkv": ("wqkv", "qkv_decode", "qkv_prefill"),
    "wo": ("wo", "o_decode", "o_prefill"),
    "ff1": ("ff1_ff3", "ff1_ff3", "ff1_ff3"),
    "ff3": ("ff1_ff3", "ff1_ff3", "ff1_ff3"),
    "ff2": ("ff2", "ff2", "ff2"),
    "lm_head": ("lm_head", "lm_head", "lm_head"),
}


def layer_kinds(hw: DeviceConfig, spec: ModelSpec) -> list[tuple[DeviceConfig, int]]:
    """The configurations that the model's layers have, and how many layers have each."""
    counts: dict[int, int] = {}
    for own in hw.layers.values():
        counts[id(own)] = counts.get(id(own), 0) + 1
    by_id = {id(own): own for own in hw.layers.values()}
    common = spec.num_layers - len(hw.layers)
    return ([(hw, common)] if common else []) + [(by_id[key], count) for key, count in counts.items()]


def decode_ops(hw: DeviceConfig, spec: ModelSpec, *, batch: int, context: int) -> list[Op]:
    """Ops of one decode step: one token for each of `batch` users, `context` tokens in every user's cache.

    Layers of one configuration are counted together; those with per-layer entries come as ops of their own.
    """
    require_positive(batch=batch, context=context)
    rows, shapes = padded(batch), matrices_per_chip(hw, spec)
    layers = [
        op
        for own, count in layer_kinds(hw, spec)
        for op in _layer(
            own,
            spec,
            shapes,
            rows=rows,
            count=count,
            phase="decode",
            attention=_decode_attention(own, spec, batch=batch, context=context, count=count),
        )
    ]
    return [
        _embedding(hw, spec, rows),
        *layers,
        _matmul(hw, shapes["lm_head"], "lm_head", rows=rows, count=1, phase="decode"),
        Op(name="sampling_and_host", kind="overhead", rows=batch),
    ]


def _decode_attention(hw: DeviceConfig, spec: ModelSpec, *, batch: int, context: int, count: int) -> Op:
    q_heads, kv_heads = heads_per_chip(spec, hw.parallelism.tensor_parallel_size)
    seen = min(context, spec.sliding_window) if spec.sliding_window else context
    cached = padded(seen) * padded(spec.head_dim) * hw.precision.of("kv_cache").bytes_per_element
    kv_in_dram = hw.memory.kv_cache_placement == Placement.DRAM
    return Op(
        name="sdpa",
        kind="kv",
        compute_group="sdpa_decode",
        fidelity=_fidelity(hw, "sdpa_decode"),
        count=count,
        rows=padded(batch),
        kv_bytes=2.0 * batch * kv_heads * cached if kv_in_dram else 0.0,
        flops=4.0 * batch * q_heads * spec.head_dim * seen,
        context=seen,
        pairs=batch * kv_heads,
    )


def prefill_ops(hw: DeviceConfig, spec: ModelSpec, *, prompt_length: int) -> list[Op]:
    """Ops of one user's prompt, in chunks of at most hw.max_prefill_chunk_size tokens.

    The LM head sees the last tile of tokens only. Attention is causal: half of the scores are computed.
    """
    require_positive(prompt_length=prompt_length)
    tokens = padded_prompt(prompt_length)
    rows = min(tokens, hw.max_prefill_chunk_size)
    chunks = math.ceil(tokens / rows)
    shapes = matrices_per_chip(hw, spec)
    layers = [
        op
        for own, count in layer_kinds(hw, spec)
        for op in _layer(
            own,
            spec,
            shapes,
            rows=rows,
            count=count * chunks,
            phase="prefill",
            attention=_prefill_attention(own, spec, tokens=tokens, chunks=chunks, count=count),
        )
    ]
    return [
        _embedding(hw, spec, tokens),
        *layers,
        _matmul(hw, shapes["lm_head"], "lm_head", rows=TILE, count=1, phase="prefill"),
        Op(name="sampling_and_host", kind="overhead", rows=1),
    ]


def _prefill_attention(hw: DeviceConfig, spec: ModelSpec, *, tokens: int, chunks: int, count: int) -> Op:
    q_heads, _ = heads_per_chip(spec, hw.parallelism.tensor_parallel_size)
    scores = q_heads * tokens * tokens / 2
    if spec.sliding_window and spec.sliding_window < tokens:
        scores = q_heads * tokens * spec.sliding_window
    return Op(
        name="sdpa",
        kind="kv",
        compute_group="sdpa_prefill",
        fidelity=_fidelity(hw, "sdpa_prefill"),
        count=count * chunks,
        rows=min(tokens, hw.max_prefill_chunk_size),
        flops=4.0 * spec.head_dim * scores / chunks,
        scores=scores / chunks,
    )


def _layer(
    hw: DeviceConfig, spec: ModelSpec, shapes: Shapes, *, rows: int, count: int, phase: str, attention: Op
) -> list[Op]:
    """One decoder layer in order of execution, `count` times; the glue op stands for everything small."""

    def matmul(name: str) -> Op:
        return _matmul(hw, shapes[name], name, rows=rows, count=count, phase=phase)

    ops = [matmul("wqkv"), attention, matmul("wo"), *_all_reduce(hw, spec, "attention", rows, count)]
    ops += [matmul("ff1"), matmul("ff3"), matmul("ff2"), *_all_reduce(hw, spec, "mlp", rows, count)]
    glue = Op(name="norms_rope_residual", kind="overhead", compute_group="norm", count=count, rows=rows)
    return [*ops, glue]


def _matmul(hw: DeviceConfig, shape: tuple[int, int], name: str, *, rows: int, count: int, phase: str) -> Op:
    tensor_group, decode_group, prefill_group = _GROUPS[name]
    compute_group = decode_group if phase == "decode" else prefill_group
    inputs, outputs = shape
    tiles = inputs * outputs / (TILE * TILE)
    in_dram = hw.memory.weights_placement == Placement.DRAM
    return Op(
        name=name,
        kind="weights",
        compute_group=compute_group,
        tensor_group=tensor_group,
        fidelity=_fidelity(hw, compute_group),
        count=count,
        rows=rows,
        weight_bytes=tiles * hw.precision.of(tensor_group).tile_bytes if in_dram else 0.0,
        tiles=tiles,
        flops=2.0 * rows * inputs * outputs,
    )


def _all_reduce(hw: DeviceConfig, spec: ModelSpec, half: str, rows: int, count: int) -> list[Op]:
    """The sum over tensor-parallel chips after wo or ff2; none on one chip.

    The payload is in the activations' format: on 1-D meshes tt_transformers reduces what the matmul wrote,
    and its `ccl` format serves 2-D meshes only.
    """
    chips = hw.parallelism.tensor_parallel_size
    if chips == 1:
        return []
    payload = rows * spec.hidden_dim * hw.precision.of(f"{half}_activations").bytes_per_element
    return [
        Op(
            name=f"all_reduce_{half}",
            kind="collectives",
            count=count,
            rows=rows,
            payload=payload,
            chips=chips,
        )
    ]


def _embedding(hw: DeviceConfig, spec: ModelSpec, rows: int) -> Op:
    """Table rows read from DRAM; the table is split by width."""
    per_row = spec.hidden_dim / hw.parallelism.tensor_parallel_size * hw.precision.of("embedding").bytes_per_element
    return Op(name="embedding", kind="weights", tensor_group="embedding", rows=rows, weight_bytes=rows * per_row)


def _fidelity(hw: DeviceConfig, group: str) -> MathFidelity:
    """hw.compute_for(group).math_fidelity, without the five other settings: it runs in every prediction."""
    own = hw.compute.get(group)
    if own is not None and own.math_fidelity is not None:
        return own.math_fidelity
    parent = OP_GROUP_PARENTS.get(group)
    return _fidelity(hw, parent) if parent else hw.compute_for(group).math_fidelity


def require_positive(**values: int) -> None:
    """ConfigError unless every value is a whole number of at least 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}.")
