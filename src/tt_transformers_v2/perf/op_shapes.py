# SPDX-License-Identifier: Apache-2.0
"""What a measured op is and how large, read from its name and from the shape that a report states."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..hardware.op_table import PREFILL

MATMUL, ATTENTION, NORM = "matmul", "attention", "norm"
ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER = "all_reduce", "all_gather", "reduce_scatter"
CREATE_HEADS, CONCAT_HEADS, ROPE, UPDATE_CACHE = "create_heads", "concat_heads", "rope", "update_cache"
GATED, ADD, MOVE, GAP, TOPK, SAMPLER = "silu_mul", "add", "move", "gap", "topk", "sampler"
COLLECTIVES = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER)
# Kinds by what profiles call the device operation; the first that fits counts.
_NAMES: tuple[tuple[str, str], ...] = (
    (r"(minimal)?matmul(?! (auto )?(batched|router))", MATMUL),
    (r"sdpa|scaleddotproductattention|pageddecodeattention", ATTENTION),
    (r"(layernorm|rmsnorm)(?! distributed)", NORM),
    (r"all_?reduce", ALL_REDUCE),
    (r"all_?gather", ALL_GATHER),
    (r"reduce_?scatter", REDUCE_SCATTER),
    (r"nlpcreate(qkv)?heads", CREATE_HEADS),
    (r"nlpconcatheads", CONCAT_HEADS),
    (r"rotaryembedding", ROPE),
    (r"pagedupdatecache", UPDATE_CACHE),
    (r"binary(ng)? (mul ?\+ ?(silu|gelu)|silu)", GATED),
    (r"binary(ng)? add", ADD),
    (r"reshard|shardedtointerleaved|interleavedtosharded", MOVE),
    (r"(op-to-op )?gap", GAP),
    (r"topk", TOPK),
    (r"sampling$", SAMPLER),
)
KINDS = tuple(dict.fromkeys(kind for _, kind in _NAMES))
SHORT_CONTEXT = 32  # tokens that "short" stands for: profiles of a layer begin from prompts of 17 or 18 tokens


class OpShape(NamedTuple):
    """Sizes of an op, 0 where not stated. rows, inputs, outputs: of a matmul's activation and weight; of other ops
    `rows` x `inputs`. users of a decode step, or prompts; tokens of each, `offset` of them before a chunk; heads: of an
    op on heads that are not both. context: cached tokens. chips: over which a collective runs.
    """

    rows: int = 0
    inputs: int = 0
    outputs: int = 0
    users: int = 0
    tokens: int = 0
    offset: int = 0
    q_heads: int = 0
    kv_heads: int = 0
    heads: int = 0
    head_dim: int = 0
    context: int = 0
    chips: int = 0


def op_kind(name: str, phase: str) -> str:
    """The kind of the op that a profile calls `name`; "" for ops that predictions do not have."""
    squeezed = name.casefold().removesuffix("deviceoperation")
    for pattern, kind in _NAMES:
        if re.match(pattern, squeezed):
            if kind == UPDATE_CACHE and phase == PREFILL:
                return ""
            return kind
    return ""


def op_shape(kind: str, text: str, device: str = "") -> OpShape:
    """The sizes that `text` states of an op of that kind; the tensor-parallel size of `device` where chips are not."""
    dims = _ints(r"\[?(\d+)[x,]\s*(\d+)(?:x(\d+))?", text)
    batch = _int(r"^b(\d+)\b", text)
    rows = dims[0] * (batch or 1) if dims[0] else 0
    if kind == MATMUL:
        return OpShape(rows=rows, inputs=dims[1], outputs=dims[2]) if dims[2] else OpShape()
    q_heads, kv_heads, _ = _ints(r"(\d+)q[/ ]?(\d+)kv", text)
    context = _int(r"pos(?:ition)? (\d+)", text) or _int(r"\bKV(\d+)", text)
    if re.search(r"\bshort\b", text) and not context:
        context = SHORT_CONTEXT
    return OpShape(
        rows=rows if not dims[2] else 0,
        inputs=dims[1] if not dims[2] else 0,
        users=_int(r"(\d+)u\b", text) or _int(r"(\d+) users", text) or _int(r"(\d+) seqs", text) or batch,
        tokens=_int(r"\bS(\d+)", text) or _int(r"seq (\d+)", text),
        offset=_int(r" at (\d+)", text),
        q_heads=q_heads,
        kv_heads=kv_heads or _int(r"(\d+)kv\b", text),
        heads=_int(r"(\d+)h\b", text),
        head_dim=_int(r"\bd(\d+)", text),
        context=0 if "sliding" in text else context,
        chips=_int(r"(\d+) chips", text)
        or _int(r"(\d+)-ring", text)
        or _int(r"TP(\d+)|ring (\d+)", f"{text} {device}"),
    )


def _int(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(next(group for group in found.groups() if group)) if found else 0


def _ints(pattern: str, text: str) -> tuple[int, int, int]:
    found = re.search(pattern, text)
    values = [int(group or 0) for group in found.groups()] if found else []
    first, second, third = (*values, 0, 0, 0)[:3]
    return first, second, third
