# SPDX-License-Identifier: Apache-2.0
"""models.decoder.Ops on pieces of tensors, as the chips of a mesh hold them, in float32 and without ttnn.

It follows what TtnnOps has ttnn do: which pieces are multiplied, what is summed along which axis of the mesh, and
rotary_embedding_llama's product with a 32x32 matrix. A value is a dict from (chip on the heads' axis, chip on the
hidden axis) to that chip's tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tt_transformers_v2.backends.reference import ReferenceOps, causal_mask, repeat_kv_heads
from tt_transformers_v2.backends.ttnn.weights import arrange
from tt_transformers_v2.backends.ttnn.weights.host_weights import Handle, Handles
from tt_transformers_v2.backends.ttnn.weights.tensor_names import bias_axes, is_bias, matrix_axes
from tt_transformers_v2.hardware.op_table import ModelOp
from tt_transformers_v2.models.decoder import final_hidden, head_matrix, logits_of, through_layers
from tt_transformers_v2.models.layer_spec import AttentionSpec, ExpertsSpec, MlpSpec
from tt_transformers_v2.models.weights import WeightSource
from tt_transformers_v2.planning.split import Split

Pieces = dict[tuple[int, int], Tensor]


class MeshOps:
    """Prefill on a mesh: every chip has all of the activations that TtnnOps leaves whole."""

    name = "mesh"

    def __init__(self, source: WeightSource, split: Split) -> None:
        self.source, self.split, self.spec = source, split, source.spec
        self.chips = [(h, d) for h in range(split.heads) for d in range(split.hidden)]

    layer = 0

    def at_layer(self, layer: int) -> MeshOps:
        own = copy.copy(self)
        own.layer = layer
        return own

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
        values = self.source.tensor(*handle)
        whole = arrange.matrix(self.spec, self.split, handle.name, values, handle.layer)
        return self.cut(whole, *matrix_axes(handle.name))

    def layer_matrix(self, weights: Any, name: str, op: ModelOp) -> Pieces:
        return self.matrix(weights[name], op)

    def vector(self, handle: Any) -> Any:
        if not isinstance(handle, Handle):
            return handle
        values = self.source.tensor(*handle)
        if is_bias(handle.name):
            axes = bias_axes(handle.name, fractured=False, hidden_split=self.split.hidden > 1)
            return self.cut(arrange.bias(self.spec, self.split, handle.name, values, handle.layer), *axes)
        attention = self.spec.layer(self.layer).attention
        if handle.name == "sinks":
            heads, scale = self.split.q_heads(self.spec), attention.scale_for(self.spec.head_dim)
            return self.cut(arrange.sinks(values, heads, scale, decode=False), 1, None)
        whole = arrange.norm(self.spec, self.split, handle.name, values)
        if handle.name in arrange.ROTATED_NORMS:
            return self.cut(whole, 2 if attention.qk_norm == "all" else None, None)
        return self.cut(whole, None, 2)

    def embed(self, tokens: Tensor, handle: Handle) -> Pieces:
        pieces = self.cut(arrange.table(self.split, self.source.tensor(*handle)), 3, 1)
        rows = {chip: piece[0, 0][tokens][None, None] for chip, piece in pieces.items()}
        return {(h, d): torch.cat([rows[i, d] for i in range(self.split.heads)], -1) for h, d in self.chips}

    def linear(self, x: Pieces, weight: Pieces, bias: Pieces | None, op: ModelOp) -> Pieces:
        out = {chip: x[chip] @ weight[chip] for chip in self.chips}
        if op.inputs_over == "hidden":
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

    def for_heads(self, spec: Any) -> MeshOps:
        return self

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

    def attention(self, q: Pieces, k: Pieces, v: Pieces, kind: AttentionSpec, sinks: Pieces | None) -> Pieces:
        """As ttnn has it: sinks are scaled along with the scores."""
        found = {}
        for chip, query in q.items():
            keys, values = repeat_kv_heads(k[chip], query), repeat_kv_heads(v[chip], query)
            scores = query @ keys.transpose(-1, -2) + causal_mask(query.shape[-2], kind.window)
            if sinks is not None:
                scores = torch.cat((scores, sinks[chip].expand(*scores.shape[:-1], 1)), -1)
            shares = torch.softmax(scores * kind.scale_for(query.shape[-1]), -1)
            found[chip] = shares[..., : keys.shape[-2]] @ values
        return found

    def norm_all_heads(self, qkv: Pieces, q_norm: Pieces, k_norm: Pieces, spec: Any) -> Pieces:
        q, kv = (heads * spec.head_dim for heads in (self.split.q_heads(spec), self.split.kv_heads(spec)))
        found: dict[tuple[int, int], list[Tensor]] = {chip: [] for chip in self.chips}
        for first, last, weight in ((0, q, q_norm), (q, q + kv, k_norm)):
            parts = {chip: piece[..., first:last] for chip, piece in qkv.items()}
            for h, d in self.chips:
                means = [parts[i, d].square().mean(-1, keepdim=True) for i in range(self.split.heads)]
                rms = torch.rsqrt(torch.stack(means).mean(0) + spec.norm_eps)
                found[h, d].append(parts[h, d] * rms * weight[h, d].flatten())
        return {chip: torch.cat([*found[chip], qkv[chip][..., q + kv :]], -1) for chip in self.chips}

    def gated(self, gate: Pieces, up: Pieces, mlp: MlpSpec) -> Pieces:
        return {chip: ReferenceOps().gated(gate[chip], up[chip], mlp) for chip in self.chips}

    def activated(self, x: Pieces, mlp: MlpSpec) -> Pieces:
        return {chip: ReferenceOps().activated(piece, mlp) for chip, piece in x.items()}

    def biased(self, x: Pieces, bias: Pieces, op: ModelOp) -> Pieces:
        return self.add(x, bias)

    def route(self, scores: Pieces, experts: ExpertsSpec) -> tuple[Pieces, Pieces]:
        """The shares of all experts on each chip, 0 where one was not chosen."""
        spread = {}
        for chip, piece in scores.items():
            own = piece[..., : experts.count]
            chosen, shares = ReferenceOps().route(own, experts)
            spread[chip] = torch.zeros_like(own).scatter(-1, chosen, shares)
        return scores, spread

    def mixed(self, x: Pieces, chosen: Pieces, shares: Pieces, expert: Callable[[Any, int, Any], Any]) -> Pieces:
        total = {chip: torch.zeros_like(piece) for chip, piece in x.items()}
        for number in range(shares[0, 0].shape[-1]):
            output = expert(self, number, x)
            total = {chip: total[chip] + output[chip] * shares[chip][..., number, None] for chip in self.chips}
        return total

    def scaled(self, x: Pieces, gate: Pieces) -> Pieces:
        return {chip: piece * torch.sigmoid(gate[chip][..., :1]) for chip, piece in x.items()}

    def capped(self, logits: Pieces, cap: float) -> Pieces:
        return {chip: cap * torch.tanh(piece / cap) for chip, piece in logits.items()}

    def add(self, x: Pieces, y: Pieces) -> Pieces:
        return {chip: x[chip] + y[chip] for chip in self.chips}


def logits_on_mesh(source: WeightSource, split: Split, tokens: Tensor) -> Tensor:
    """Logits [tokens, vocab] of a prompt [tokens], put together from the chips' parts of the vocabulary."""
    spec, ops, handles = source.spec, MeshOps(source, split), Handles(source.spec)
    tables = arrange.rotary_tables(spec, len(tokens))
    x = through_layers(ops, handles, ops.embed(tokens, handles.tensor("embedding")), tables)
    found = logits_of(ops, spec, head_matrix(ops, handles), final_hidden(ops, spec, handles, x))
    return torch.cat([found[h, 0] for h in range(split.heads)], -1)[0, 0][:, : spec.vocab_size]
