# SPDX-License-Identifier: Apache-2.0
"""Which stored tensors of a GGUF file make up a canonical one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .gguf_config import GgufConfig
from .spec import ModelSpec
from .weights import tensor_shape

_GLOBAL = {"embedding": "token_embd", "final_norm": "output_norm", "lm_head": "output"}
_NORMS = {
    "attention_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "attention_post_norm": "post_attention_norm",
    "ffn_post_norm": "post_ffw_norm",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
}
_OTHERS = {
    "wo": "attn_output.weight",
    "bo": "attn_output.bias",
    "sinks": "attn_sinks.weight",
    "router": "ffn_gate_inp.weight",
    "router_bias": "ffn_gate_inp.bias",
}
_MLP = {"1": "ffn_gate", "3": "ffn_up", "2": "ffn_down"}


@dataclass(frozen=True)
class GgufPiece:
    """Rows `start` to `stop` of a stored tensor of `shape`, [out, in] or [out].

    expert: the first index, of a tensor that holds all experts. scale: the tensor that multiplies it (NVFP4), with one
    number, or one for each expert; "" for none.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int
    expert: int | None = None
    scale: str = ""

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The shape that `scale` must have."""
        return (1,) if self.expert is None else self.shape[:1]


class GgufTensors:
    """The stored names of a file's tensors; `spec` is the model that they must be of."""

    def __init__(self, config: GgufConfig, spec: ModelSpec) -> None:
        self.config, self.spec, self.names = config, spec, config.file.tensors

    def pieces(self, name: str, layer: int | None) -> Iterator[GgufPiece]:
        """The stored tensors that make up a canonical one, side by side along its outputs."""
        shape = tensor_shape(self.spec, name, layer)
        if layer is None:
            stored = _GLOBAL["embedding" if name == "lm_head" and self.spec.tie_embeddings else name]
            yield self._piece(f"{stored}.weight", shape if name == "embedding" else shape[::-1])
            return
        at, (group, _, own) = f"blk.{layer}.", name.rpartition(".")
        if own in _NORMS:
            stored = self.config.architecture.norms.get(own) or _NORMS[own]
            yield self._piece(f"{at}{stored}.weight", shape)
        elif own in _OTHERS and not group:
            yield self._piece(at + _OTHERS[own], shape[::-1])
        elif own in ("wqkv", "bqkv"):
            yield from self._qkv(at, own, shape)
        elif group:
            yield self._expert(at, int(group.removeprefix("expert")), own, shape)
        else:
            yield self._mlp(at, own, shape)

    def _piece(
        self, name: str, shape: tuple[int, ...], rows: tuple[int, int] | None = None, expert: int | None = None
    ) -> GgufPiece:
        start, stop = rows or (0, shape[0] if expert is None else shape[1])
        scale = f"{name.removesuffix('.weight')}.scale"
        return GgufPiece(name, shape, start, stop, expert, scale if scale in self.names else "")

    def _qkv(self, at: str, own: str, shape: tuple[int, ...]) -> Iterator[GgufPiece]:
        kind, inner = ("weight", shape[:1]) if own == "wqkv" else ("bias", ())
        heads = {"q": self.spec.num_heads, "k": self.spec.num_kv_heads, "v": self.spec.num_kv_heads}
        parts = {f"attn_{part}": count * self.spec.head_dim for part, count in heads.items()}
        if f"{at}attn_qkv.{kind}" in self.names:
            parts = {"attn_qkv": shape[-1]}
        for part, rows in parts.items():
            yield self._piece(f"{at}{part}.{kind}", (rows, *inner))

    def _mlp(self, at: str, own: str, shape: tuple[int, ...]) -> GgufPiece:
        kind = "weight" if own.startswith("w") else "bias"
        fused = self.config.family.gated and f"{at}ffn_gate.weight" not in self.names
        if fused and own[1] != "2" and self.config.architecture.family == "phi3":
            width = shape[-1]
            first = 0 if own[1] == "1" else width
            return self._piece(f"{at}ffn_up.{kind}", (2 * width, *shape[:-1]), (first, first + width))
        return self._piece(f"{at}{_MLP[own[1]]}.{kind}", shape[::-1])

    def _expert(self, at: str, number: int, own: str, shape: tuple[int, ...]) -> GgufPiece:
        kind = "weight" if own.startswith("w") else "bias"
        count = next(kind.experts.count for kind in self.spec.layer_counts if kind.experts is not None)
        width, both = shape[-1], f"{at}ffn_gate_up_exps.{kind}"
        if own[1] != "2" and both in self.names:
            first = 0 if own[1] == "1" else width
            return self._piece(both, (count, 2 * width, *shape[:-1]), (first, first + width), number)
        return self._piece(f"{at}{_MLP[own[1]]}_exps.{kind}", (count, *shape[::-1]), None, number)
