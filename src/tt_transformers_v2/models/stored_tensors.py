# SPDX-License-Identifier: Apache-2.0
"""Which stored tensors of a Hugging Face folder make up a canonical one, and in which order a head's dimensions are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ..common.errors import ConfigError
from .families import ExpertsKeys
from .head_order import head_order
from .huggingface_config import FolderConfig
from .layer_spec import AttentionSpec
from .weights import tensor_shape

# What stands before the names of the decoder's tensors and, of the last three, of a model with a tower.
_PREFIXES = ("model.", "", "language_model.model.", "model.language_model.", "language_model.")
_GLOBAL = {"embedding": "embed_tokens", "final_norm": "norm"}
_NORMS = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_ATTENTION = {"wo": "o_proj.weight", "bo": "o_proj.bias", "q_norm": "q_norm.weight", "k_norm": "k_norm.weight"}
_MLP = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
# Buffers that some files hold, and that follow from config.json.
IGNORED = ("rotary_emb.inv_freq", "masked_bias", "attn.bias")
TOWERS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop`, every `step`-th, of a stored tensor of `shape`, torch's [out, in].

    expert: the first index, of a tensor that holds all experts. turned: it is stored as [in, out]. blocks: `name` and
    this one hold MXFP4's blocks and scales.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int
    step: int = 1
    expert: int | None = None
    turned: bool = False
    scales: str = ""

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(range(self.start, self.stop, self.step))


class StoredTensors:
    """The stored names of a folder's tensors."""

    def __init__(self, config: FolderConfig, names: Collection[str]) -> None:
        """`names` are the tensors that the folder has. Raises ConfigError where no decoder is among them."""
        self.config, self.spec, self.names = config, config.spec, names
        embeddings = [prefix for prefix in _PREFIXES if f"{prefix}embed_tokens.weight" in names]
        if len(embeddings) > 1:
            raise ConfigError(f"{config.values.path.parent} holds several decoders: {', '.join(embeddings)}.")
        self.prefix = embeddings[0] if embeddings else _PREFIXES[0]
        heads = [f"{self.prefix.removesuffix('model.')}lm_head.weight", "lm_head.weight"]
        self.head = next((name for name in heads if name in names), None)
        self.fused_qkv = f"{self.prefix}layers.0.self_attn.qkv_proj.weight" in names
        self.fused_mlp = f"{self.prefix}layers.0.mlp.gate_up_proj.weight" in names

    def pieces(self, name: str, layer: int | None) -> Iterator[Piece]:
        """The stored tensors that make up a canonical one, side by side along its outputs."""
        shape = tensor_shape(self.spec, name, layer)
        if layer is None:
            yield self._whole(self._global(name), shape if name == "embedding" else shape[::-1])
            return
        at, group, own = f"{self.prefix}layers.{layer}.", *_split(name)
        keys = self.config.family.experts
        if own in _NORMS or own.endswith("post_norm"):
            stored = self.config.family.stored_norms.get(own) or _NORMS[own]
            yield self._whole(f"{at}{stored}.weight", shape)
        elif own in ("wqkv", "bqkv"):
            yield from self._qkv(f"{at}self_attn.", own, shape)
        elif own in _ATTENTION:
            yield self._whole(f"{at}self_attn.{_ATTENTION[own]}", shape[::-1])
        elif own == "sinks":
            yield self._whole(f"{at}self_attn.sinks", shape)
        elif group == "" and own in ("router", "router_bias"):
            assert keys is not None
            kind = "weight" if own == "router" else "bias"
            yield self._whole(f"{at}{keys.stored}.{keys.router_name}.{kind}", shape[::-1])
        elif group == "shared":
            inner = "shared_expert_gate" if own == "gate" else f"shared_expert.{_MLP[own]}"
            yield self._whole(f"{at}mlp.{inner}.weight", shape[::-1])
        elif group.startswith("expert"):
            assert keys is not None
            yield self._expert(f"{at}{keys.stored}.", keys, int(group.removeprefix("expert")), own, shape)
        else:
            yield self._mlp(f"{at}mlp.", own, shape)

    def _whole(self, name: str, shape: tuple[int, ...]) -> Piece:
        return Piece(name, shape, 0, shape[0])

    def _global(self, name: str) -> str:
        if name != "lm_head":
            return f"{self.prefix}{_GLOBAL[name]}.weight"
        # Where both are there, the head is the stored one whatever tie_word_embeddings says, as in transformers 5.
        if self.head is not None:
            return self.head
        return self._global("embedding") if self.spec.tie_embeddings else "lm_head.weight"

    def _qkv(self, at: str, own: str, shape: tuple[int, ...]) -> Iterator[Piece]:
        inner, kind = (shape[:1], "weight") if own == "wqkv" else ((), "bias")
        heads = {"q": self.spec.num_heads, "k": self.spec.num_kv_heads, "v": self.spec.num_kv_heads}
        parts = {f"{part}_proj": count * self.spec.head_dim for part, count in heads.items()}
        for part, rows in ({"qkv_proj": shape[-1]} if self.fused_qkv else parts).items():
            yield Piece(f"{at}{part}.{kind}", (rows, *inner), 0, rows)

    def _mlp(self, at: str, own: str, shape: tuple[int, ...]) -> Piece:
        matrix = own.replace("b", "w")
        kind = "weight" if own == matrix else "bias"
        if self.fused_mlp and matrix != "w2":
            width = shape[-1]
            start = 0 if matrix == "w1" else width
            return Piece(f"{at}gate_up_proj.{kind}", (2 * width, *shape[:-1]), start, start + width)
        stored = "up_proj" if matrix == "w1" and not self.config.family.gated else _MLP[matrix]
        return self._whole(f"{at}{stored}.{kind}", shape[::-1])

    def _expert(self, at: str, keys: ExpertsKeys, number: int, own: str, shape: tuple[int, ...]) -> Piece:
        matrix = own.replace("b", "w")
        if not keys.fused:
            return self._whole(f"{at}experts.{number}.{keys.names[matrix]}.weight", shape[::-1])
        name = f"{at}experts.{'down_proj' if matrix == 'w2' else 'gate_up_proj'}"
        alternating = matrix != "w2"
        outputs = shape[-1] * (2 if alternating else 1)
        rows = (int(matrix == "w3"), outputs, 2 if alternating else 1, number)
        count = self._experts_count()
        if own != matrix:
            return Piece(f"{name}_bias", (count, outputs), *rows)
        if self.config.quantised:
            return Piece(f"{name}_blocks", (count, outputs, shape[0] // 32, 16), *rows, scales=f"{name}_scales")
        return Piece(name, (count, shape[0], outputs), *rows, turned=True)

    def _experts_count(self) -> int:
        return next(kind.experts.count for kind in self.spec.layer_counts if kind.experts is not None)

    def unread(self, read: Collection[str]) -> list[str]:
        """The tensors that are not in `read` and that a decoder would use, sorted."""
        left = [name for name in self.names if name not in read and not name.endswith(IGNORED)]
        if self.config.tower:
            left = [name for name in left if not name.startswith(TOWERS)]
        return sorted(left)

    def head_order(self, kind: AttentionSpec) -> list[int] | None:
        """Where each dimension of a head of q and k is stored, None where it is in its place."""
        return head_order(kind.rotary, self.spec.head_dim, interleaved=self.config.family.interleaved)


def _split(name: str) -> tuple[str, str]:
    group, _, own = name.rpartition(".")
    return group, own
