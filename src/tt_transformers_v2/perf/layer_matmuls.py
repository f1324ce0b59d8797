# SPDX-License-Identifier: Apache-2.0
"""The matrices of each kind of layer as one chip stores them.

An MLP's width is split over the tensor-parallel chips. So is that of every expert: each chip then holds a part of all
of them, reads as much as the others whatever is routed where, and the all-reduce behind w2 serves the experts too.
(tt-metal's gpt-oss demos also know expert parallelism, whole experts on some of the chips, which is not predicted
here.) A shared expert is split the same way; its sum is formed with the experts' and needs no all-reduce of its own.
The router's matrix is whole on every chip.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..hardware.op_table import EXPERT_MATRICES, LM_HEAD, MATRICES, ROUTER, ModelOp
from ..models.layer_spec import ExpertsSpec, LayerSpec, MlpSpec
from ..models.spec import ModelSpec
from .ops import Shapes, heads_per_chip, padded


class StoredMatrix(NamedTuple):
    """A matrix of a layer on one chip: `shape` (inputs, outputs) is whole tiles, `copies` of it are stored.

    experts: those that it belongs to, None for a matrix that every token uses.
    """

    name: str
    op: ModelOp
    shape: tuple[int, int]
    copies: int = 1
    experts: ExpertsSpec | None = None


def layer_matrices_per_chip(spec: ModelSpec, kind: LayerSpec, tensor_parallel: int) -> tuple[StoredMatrix, ...]:
    """The matrices of one layer in the order it uses them; one expert's stand for all."""
    q_heads, kv_heads = heads_per_chip(spec, tensor_parallel)
    hidden, q, kv = spec.hidden_dim, q_heads * spec.head_dim, kv_heads * spec.head_dim
    found = [_stored("wqkv", MATRICES["wqkv"], hidden, q + 2 * kv), _stored("wo", MATRICES["wo"], q, hidden)]
    fed = kind.feed_forward
    if isinstance(fed, MlpSpec):
        return (*found, *_of_mlp(fed, hidden, tensor_parallel))
    found.append(_stored("router", ROUTER, hidden, fed.count))
    own = _of_mlp(fed.mlp, hidden, tensor_parallel, "experts.")
    found += [matrix._replace(copies=fed.count, experts=fed) for matrix in own]
    if fed.shared is not None:
        found += _of_mlp(fed.shared, hidden, tensor_parallel, "shared.")
    if fed.shared_gate:
        found.append(_stored("shared.gate", ROUTER, hidden, 1))
    return tuple(found)


def _of_mlp(mlp: MlpSpec, hidden: int, tensor_parallel: int, of: str = "") -> list[StoredMatrix]:
    width = math.ceil(mlp.width / tensor_parallel)
    names = ("w1", "w3", "w2") if mlp.gated else ("w1", "w2")
    ops = {name: EXPERT_MATRICES[f"{of}{name}"] if of == "experts." else MATRICES[name] for name in names}
    shapes = {"w1": (hidden, width), "w3": (hidden, width), "w2": (width, hidden)}
    return [_stored(f"{of}{name}", ops[name], *shapes[name]) for name in names]


def _stored(name: str, op: ModelOp, inputs: int, outputs: int) -> StoredMatrix:
    return StoredMatrix(name, op, (padded(inputs), padded(outputs)))


def matrices_per_chip(spec: ModelSpec, tensor_parallel: int) -> Shapes:
    """The matrices of a layer and the LM head as one chip stores them, of a model whose layers have the same ones.

    (inputs, outputs) by name, in whole tiles; experts' are one expert's.
    """
    shapes = {
        matrix.name: matrix.shape
        for kind in spec.layer_counts
        for matrix in layer_matrices_per_chip(spec, kind, tensor_parallel)
    }
    return shapes | {LM_HEAD.matrix: lm_head_per_chip(spec, tensor_parallel)}


def lm_head_per_chip(spec: ModelSpec, tensor_parallel: int) -> tuple[int, int]:
    """(inputs, outputs) of a chip's part of the LM head, in whole tiles."""
    return padded(spec.hidden_dim), padded(math.ceil(spec.vocab_size / tensor_parallel))
