# SPDX-License-Identifier: Apache-2.0
"""models.decoder.Ops on pieces of tensors, as the chips of a mesh hold them, in float32 and without ttnn.

It follows what TtnnOps has ttnn do: which pieces are multiplied, what is summed along which axis of the mesh, and
rotary_embedding_llama's product with a 32x32 matrix. A value is a dict from (chip on the heads' axis, chip on the
hidden axis) to that chip's tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tt_transformers_v2.backends.reference import causal_mask, repeat_kv_heads
from tt_transformers_v2.backends.ttnn.weights import arrange
from tt_transformers_v2.backends.ttnn.weights.host_weights import Handle, Handles, matrix_axes
from tt_transformers_v2.hardware.op_table import LM_HEAD, ModelOp
from tt_transformers_v2.models.decoder import final_hidden, head_matrix, through_layers
from tt_transformers_v2.models.layer_spec import AttentionSpec, MlpSpec
from tt_transformers_v2.models.rope import one_table
from tt_transformers_v2.models.weights import WeightSource
from tt_transformers_v2.planning.split import Split

Pieces = dict[tuple[int, int], Tensor]


class MeshOps:
    """Prefill on a mesh: every chip has all of the activations that TtnnOps leaves whole."""

    name = "mesh"

    def __init__(self, source: WeightSource, split: Split) -> None:
        self.source, self.split, self.spec = source, split, source.spec
        self.chips = [(h, d) for h in range(split.heads) for d in range(split.hidden)]

    def at_layer(self, layer: int) -> MeshOps:
        return self

    def cut(self, tensor: Tensor, over_heads: int | None, over_hidden: int | None) -> Pieces:
        found = {}
        for h, d in self.chips:
            piece = tensor
            for dim, parts, index in ((over_heads, self.split.heads, h), (over_hidden, self.split.hidden, d)):
                if dim is not None:
                    piece = piece.chunk(parts, dim)[index]
            found[h, d] = piece
        return found

    def matrix(self, handle: Handle, op: ModelOp) -> Pieces:
        whole = arrange.matrix(self.spec, self.split, handle.name, self.source.tensor(*handle))
        return self.cut(whole, *matrix_axes(handle.name))

    def vector(self, handle: Any) -> Any:
        if not isinstance(handle, Handle):
            return handle
        values = self.source.tensor(*handle)
        if handle.name == "bqkv":
            return self.cut(arrange.bias(self.spec, self.split, values), 3, None)
        of_head = handle.name in ("q_norm", "k_norm")
        return self.cut(arrange.norm(self.spec, handle.name, values), None, None if of_head else 2)

    def embed(self, tokens: Tensor, handle: Handle) -> Pieces:
        pieces = self.cut(arrange.table(self.split, self.source.tensor(*handle)), 3, 1)
        rows = {chip: piece[0, 0][tokens][None, None] for chip, piece in pieces.items()}
        return {(h, d): torch.cat([rows[i, d] for i in range(self.split.heads)], -1) for h, d in self.chips}

    def linear(self, x: Pieces, weight: Pieces, bias: Pieces | None, op: ModelOp) -> Pieces:
        out = {chip: x[chip] @ weight[chip] for chip in self.chips}
        if op.op_group in ("qkv", "ff1_ff3", "lm_head"):
            out = {(h, d): sum(out[h, i] for i in range(self.split.hidden)) for h, d in self.chips}
        return out if bias is None else {chip: out[chip] + bias[chip] for chip in self.chips}

    def rms_norm(self, x: Pieces, weight: Pieces, eps: float) -> Pieces:
        width = x[0, 0].shape[-1]
        of_head = weight[0, 0].numel() == self.spec.head_dim == width
        parts = 1 if of_head else self.split.hidden
        squares = {chip: piece.square().sum(-1, keepdim=True) for chip, piece in x.items()}
        if not of_head:
            squares = {(h, d): sum(squares[h, i] for i in range(parts)) for h, d in self.chips}
        return {
            chip: x[chip] * torch.rsqrt(squares[chip] / (width * parts) + eps) * weight[chip].flatten()
            for chip in self.chips
        }

    def split_heads(self, qkv: Pieces, spec: Any) -> tuple[Pieces, Pieces, Pieces]:
        q, kv = self.split.q_heads(spec), self.split.kv_heads(spec)
        found = [
            piece[0].unflatten(-1, (-1, spec.head_dim)).transpose(1, 2).split([q, kv, kv], 1) for piece in qkv.values()
        ]
        one, two, three = (dict(zip(qkv, side, strict=True)) for side in zip(*found, strict=True))
        return one, two, three

    def merge_heads(self, attended: Pieces) -> Pieces:
        return {chip: piece.transpose(1, 2).flatten(-2)[None] for chip, piece in attended.items()}

    def reduce(self, x: Pieces, op: ModelOp) -> Pieces:
        return {(h, d): sum(x[i, d] for i in range(self.split.heads)) for h, d in self.chips}

    def rope(self, x: Pieces, cos: Tensor, sin: Tensor) -> Pieces:
        turn = arrange.rotation()[0, 0]

        def turned(piece: Tensor) -> Tensor:
            return (piece.unflatten(-1, (-1, 32)) @ turn).flatten(-2)

        return {chip: piece * cos + turned(piece) * sin for chip, piece in x.items()}

    def attention(self, q: Pieces, k: Pieces, v: Pieces, kind: AttentionSpec, sinks: object) -> Pieces:
        found = {}
        for chip, query in q.items():
            keys, values = repeat_kv_heads(k[chip], query), repeat_kv_heads(v[chip], query)
            scores = query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5
            found[chip] = torch.softmax(scores + causal_mask(query.shape[-2], kind.window), -1) @ values
        return found

    def gated(self, gate: Pieces, up: Pieces, mlp: MlpSpec) -> Pieces:
        return {chip: torch.nn.functional.silu(gate[chip]) * up[chip] for chip in self.chips}

    def add(self, x: Pieces, y: Pieces) -> Pieces:
        return {chip: x[chip] + y[chip] for chip in self.chips}


def logits_on_mesh(source: WeightSource, split: Split, tokens: Tensor) -> Tensor:
    """Logits [tokens, vocab] of a prompt [tokens], put together from the chips' parts of the vocabulary."""
    spec, ops, handles = source.spec, MeshOps(source, split), Handles(source.spec)
    tables = one_table(spec, *arrange.rotary_tables(spec, len(tokens)))
    x = through_layers(ops, handles, ops.embed(tokens, handles.tensor("embedding")), tables)
    found = ops.linear(final_hidden(ops, spec, handles, x), head_matrix(ops, handles), None, LM_HEAD)
    return torch.cat([found[h, 0] for h in range(split.heads)], -1)[0, 0][:, : spec.vocab_size]
