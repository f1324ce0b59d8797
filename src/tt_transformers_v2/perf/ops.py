# SPDX-License-Identifier: Apache-2.0
"""What one chip executes: the ops of a decode step and of a prompt, in bytes and flops.

All quantities are per chip and per execution. Sharding is tt_transformers' on a 1-D mesh: wqkv, w1, w3 and the
LM head are split by output features, wo and w2 by input features and reduced over the chips; every data-parallel
group holds a whole model. Key and value heads are replicated once there are fewer of them than tensor-parallel
chips. Nothing here knows how long an op takes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..common.errors import ConfigError
from ..common.units import TILE
from ..hardware.enums import DataFormat, MathFidelity
from ..hardware.op_table import (
    DECODE,
    EMBEDDING,
    OP_GROUP_PARENTS,
    OP_TABLE,
    PREFILL,
    ROOT_OP_GROUPS,
    SDPA,
    TENSOR_GROUP_PARENTS,
    ModelOp,
)
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..planning.plans import prefill_attention
from .decode_blocks import in0_block_w

INTERLEAVED_BLOCK = (2, 1)  # tiles of K per block, even and odd K: planning.plans.interleaved_matmul
_ANY_GRID = (8, 8)  # a prompt's chunks do not depend on it
Shapes = dict[str, tuple[int, int]]  # matrix -> (input, output features)


class Op(NamedTuple):
    """One op on one chip.

    kind: "weights" (a matmul), "kv" (attention), "collectives" or "overhead".
    compute_group: the op group whose fidelity it runs at, "" where there is none.
    tensor_group: the tensor group of what it reads or sends, "" where there is none.
    rows: rows of the activation, padded to tiles.
    weight_bytes, kv_bytes: bytes read from DRAM per execution; weights include what pads them to the DRAM banks.
    tiles: weight tiles. bank_tiles: tiles on the fullest DRAM bank, 0 where the weights are not sharded over banks.
    flops: matrix flops per execution. scores: attention scores exponentiated. payload: bytes that a chip
        brings to a collective over `chips` chips; gather_only: an all-gather without a reduce-scatter before it.
    context: cached tokens attended to (decode attention). pairs: (user, KV head) pairs; group: query heads of each;
        head_dim: their width.
    deep: tiles of K of a matmul; block: those per block of it in decode (in0_block_w), 0 where that is not known.
    chunks: of a prompt's attention, a head's chunk of
        queries each; key_chunks: chunks of keys that one of them sees, on average.
    """

    name: str
    kind: str
    compute_group: str = ""
    tensor_group: str = ""
    fidelity: MathFidelity | None = None
    rows: int = 0
    weight_bytes: float = 0.0
    kv_bytes: float = 0.0
    tiles: float = 0.0
    bank_tiles: float = 0.0
    flops: float = 0.0
    scores: float = 0.0
    payload: float = 0.0
    chips: int = 1
    gather_only: bool = False
    context: int = 0
    pairs: int = 0
    group: float = 0.0
    head_dim: int = 0
    deep: int = 0
    block: int = 0
    chunks: int = 0
    key_chunks: float = 0.0

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


def fused_all_gather_matmul(hw: DeviceConfig, spec: ModelSpec) -> bool:
    """Whether wo is multiplied while the heads are gathered, instead of summed by a reduce-scatter afterwards.

    tt_transformers does so over eight chips when hidden_dim / 32 / 8 is a multiple of 8 (model_config.py@17a8a99d):
    for hidden sizes 2048, 4096 and 8192, not for 3072 and 5120.
    """
    return gathers_heads(hw, spec.hidden_dim)


def gathers_heads(hw: DeviceConfig, hidden_dim: int) -> bool:
    """`fused_all_gather_matmul` for a hidden size."""
    one_row = min(hw.spec.mesh_shape) == 1 or hw.parallelism.data_parallel_size > 1
    return one_row and hw.parallelism.tensor_parallel_size == 8 and hidden_dim % (TILE * 8 * 8) == 0


def matmul_op(
    op: ModelOp,
    shape: tuple[int, int],
    *,
    phase: str,
    weights: DataFormat,
    fidelity: MathFidelity,
    rows: int,
    banks: int,
    in_dram: bool = True,
    fused: bool = False,
) -> Op:
    """One weight matmul of a chip. `banks`: DRAM banks over which its columns are sharded, 0 for interleaved.

    `fused`: multiplied while its input is gathered.
    A sharded weight is padded to as many tile columns on every bank (tt_transformers' create_dram_sharded_mem_config).
    """
    inputs, outputs = shape
    deep, wide = inputs // TILE, outputs // TILE
    on_a_bank = deep * math.ceil(wide / banks) if banks else 0
    stored = on_a_bank * banks if banks else deep * wide
    return Op(
        name=op.name,
        kind="weights",
        compute_group=op.group_in(phase),
        tensor_group=op.tensor_group,
        fidelity=fidelity,
        rows=rows,
        weight_bytes=float(stored * weights.tile_bytes) if in_dram else 0.0,
        tiles=float(deep * wide),
        bank_tiles=float(on_a_bank),
        flops=2.0 * rows * inputs * outputs,
        deep=deep,
        block=in0_block_w(op.name, deep, wide) if banks else 0 if fused else INTERLEAVED_BLOCK[deep % 2],
    )


def decode_attention_op(
    spec: ModelSpec,
    tensor_parallel: int,
    *,
    batch: int,
    context: int,
    kv_cache: DataFormat,
    fidelity: MathFidelity,
    in_dram: bool,
    window: int | None = None,
    places: int | None = None,
) -> Op:
    """Attention of one token of `batch` users over `context` cached tokens each, or the last `window` of them.

    `places`: users that the program computes for, at least those there; None for them alone.
    """
    q_heads, kv_heads = heads_per_chip(spec, tensor_parallel)
    seen = min(context, window) if window else context
    cached = padded(seen) * padded(spec.head_dim) * kv_cache.bytes_per_element
    return Op(
        name=SDPA.name,
        kind="kv",
        compute_group=SDPA.group_in(DECODE),
        tensor_group=SDPA.tensor_group,
        group=q_heads / kv_heads,
        fidelity=fidelity,
        rows=padded(batch),
        kv_bytes=2.0 * batch * kv_heads * cached if in_dram else 0.0,
        flops=4.0 * batch * q_heads * spec.head_dim * seen,
        context=seen,
        pairs=(places or batch) * kv_heads,
        head_dim=spec.head_dim,
    )


def prefill_attention_op(
    spec: ModelSpec,
    tensor_parallel: int,
    *,
    tokens: int,
    rows: int,
    chunks: int,
    fidelity: MathFidelity,
    window: int | None = None,
    users: int = 1,
) -> Op:
    """Causal attention of the prompts of `users`, `tokens` each, one of `chunks`: half of the scores are computed, or
    with a `window` those of so many keys a query."""
    q_heads, _ = heads_per_chip(spec, tensor_parallel)
    scores = users * q_heads * tokens * tokens / 2
    chunk = min(tokens, prefill_attention(tokens, _ANY_GRID).q_chunk_size)
    if window and window < tokens:
        scores = users * q_heads * tokens * window
    return Op(
        name=SDPA.name,
        kind="kv",
        compute_group=SDPA.group_in(PREFILL),
        tensor_group=SDPA.tensor_group,
        fidelity=fidelity,
        rows=rows,
        flops=4.0 * spec.head_dim * scores / chunks,
        scores=scores / chunks,
        chunks=q_heads * math.ceil(rows / chunk),
        key_chunks=(scores / (users * q_heads * tokens) + chunk / 2) / chunk,
        head_dim=spec.head_dim,
    )


def all_reduce_op(
    op: ModelOp,
    spec: ModelSpec,
    chips: int,
    *,
    parts: int,
    rows: int,
    tensor_group: str,
    activations: DataFormat,
    gather_only: bool,
) -> Op:
    """The sum over tensor-parallel chips after a matmul with wo or w2, of hidden_dim / `parts` columns.

    On 1-D meshes tt_transformers reduces what the matmul wrote, in the activations' format; its `ccl` format serves
    2-D meshes only. `tensor_group` is the group that has the format.
    """
    return Op(
        name=f"all_gather_{op.half}" if gather_only else f"all_reduce_{op.half}",
        kind="collectives",
        tensor_group=tensor_group,
        rows=rows,
        payload=rows * spec.hidden_dim / parts * activations.bytes_per_element,
        chips=chips,
        gather_only=gather_only,
    )


def embedding_op(spec: ModelSpec, tensor_parallel: int, *, rows: int, table: DataFormat) -> Op:
    """Table rows read from DRAM; the table is split by width."""
    per_row = spec.hidden_dim / tensor_parallel * table.bytes_per_element
    return Op(
        name=EMBEDDING.name, kind="weights", tensor_group=EMBEDDING.tensor_group, rows=rows, weight_bytes=rows * per_row
    )


def formats(hw: DeviceConfig) -> dict[str, DataFormat]:
    """hw.precision.of(group) of every tensor group that an op reads or writes: every prediction asks."""
    own = vars(hw.precision)
    return {group: own[group] or own[parent] for group, parent in _TENSOR_GROUPS.items()}


_TENSOR_GROUPS = {
    group: TENSOR_GROUP_PARENTS.get(group, group)
    for op in OP_TABLE
    for group in (op.tensor_group, op.activations)
    if group
}


def fidelities(hw: DeviceConfig) -> dict[str, MathFidelity]:
    """hw.compute_for(group).math_fidelity of every op group, without the other settings: every prediction asks."""
    found: dict[str, MathFidelity] = {}
    for group, parent in _FROM_COARSE_TO_FINE:
        own = hw.compute.get(group)
        fidelity = None if own is None else own.math_fidelity
        if fidelity is None:
            fidelity = found[parent] if parent else hw.compute_for(group).math_fidelity
        found[group] = fidelity
    return found


_FROM_COARSE_TO_FINE: tuple[tuple[str, str], ...] = (
    *((root, "") for root in ROOT_OP_GROUPS),
    *OP_GROUP_PARENTS.items(),
)


def require_positive(**values: int) -> None:
    """ConfigError unless every value is a whole number of at least 1."""
    for name, value in values.items():
        if type(value) is int and value > 0:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}.")
