# SPDX-License-Identifier: Apache-2.0
"""Where a model's weights come from: one protocol, the canonical tensor names, and synthetic weights.

Matrices are [in, out], the way ttnn's linear takes its second operand, and always float32: whoever wants a
narrower format rounds from there. torch is imported only when a tensor is made.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..common.errors import ConfigError, did_you_mean
from .layer_spec import LayerSpec
from .spec import ModelSpec

if TYPE_CHECKING:
    import torch

LAYER_TENSORS = (
    "wqkv",
    "bqkv",
    "wo",
    "bo",
    "router",
    "router_bias",
    "w1",
    "w3",
    "w2",
    "b1",
    "b3",
    "b2",
    "attention_norm",
    "ffn_norm",
    "attention_post_norm",
    "ffn_post_norm",
    "q_norm",
    "k_norm",
    "sinks",
)
GLOBAL_TENSORS = ("embedding", "final_norm", "lm_head")

# Rows drawn or converted at a time: bounds the temporary memory of a table of several GB.
ROWS_AT_A_TIME = 4096


class WeightSource(Protocol):
    """A model's weights, read one tensor at a time.

    Attributes:
        spec: the model's shapes; every tensor agrees with them.
        basis: one sentence for people, saying what the weights are.
        synthetic: True when nothing was trained, so that accuracy means agreement and not quality.
        fingerprint: short hash of the content, equal for equal weights; file sources hash a sample (see
            `sampled_fingerprint`), so it tells models apart but is no proof of integrity.
    """

    spec: ModelSpec
    basis: str
    synthetic: bool
    fingerprint: str

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        """The tensor of a canonical name: float32, contiguous, of `tensor_shape`; made anew at each call.

        Raises ConfigError for an unknown name, a layer out of range, and a file that cannot be read.
        """
        ...


def embedding_rows(source: WeightSource, ids: torch.Tensor) -> torch.Tensor:
    """Rows `ids` [n] of the embedding, float32 [n, hidden]; of files no others are read. Raises ConfigError."""
    read = getattr(source, "embedding_rows", None)
    return source.tensor("embedding")[ids] if read is None else read(ids)


def expert_name(number: int) -> str:
    """What the names of an expert's tensors begin with."""
    return f"expert{number}."


def layer_tensors(spec: ModelSpec, layer: int = 0) -> dict[str, tuple[int, ...]]:
    """The tensors of a layer by canonical name, with their shapes: matrices [in, out], vectors [n].

    Experts' names begin with `expert_name`, a shared expert's with "shared.".
    """
    return _layer_tensors(spec.layer(layer), spec.hidden_dim, spec.num_heads, spec.num_kv_heads, spec.head_dim)


@functools.lru_cache(maxsize=64)
def _layer_tensors(kind: LayerSpec, *widths: int) -> dict[str, tuple[int, ...]]:
    order = {name: i for i, name in enumerate(LAYER_TENSORS)}
    own = kind.tensors(*widths)
    shapes = {name: own[name] for name in sorted(own, key=lambda name: order.get(name, len(order)))}
    if kind.experts is not None:
        each = kind.experts.mlp.tensors(widths[0])
        for number in range(kind.experts.count):
            shapes |= {expert_name(number) + name: shape for name, shape in each.items()}
    return shapes


def tensor_names(spec: ModelSpec, layer: int = 0) -> tuple[str, ...]:
    """The per-layer names that a layer of this model has."""
    return tuple(layer_tensors(spec, layer))


def every_tensor(spec: ModelSpec) -> Iterator[tuple[str, int | None]]:
    """(name, layer) of each tensor of a model: those of the whole model, then the layers'."""
    yield from ((name, None) for name in GLOBAL_TENSORS)
    yield from ((name, layer) for layer in range(spec.num_layers) for name in layer_tensors(spec, layer))


def tensor_shape(spec: ModelSpec, name: str, layer: int | None = None) -> tuple[int, ...]:
    """Shape of a tensor by its canonical name: matrices [in, out], vectors [n].

    Raises ConfigError for a name the model does not have, a layer out of range, a layer given to a global
    tensor and a layer missing for a per-layer one.
    """
    hidden = spec.hidden_dim
    whole: dict[str, tuple[int, ...]] = {
        "embedding": (spec.vocab_size, hidden),
        "final_norm": (hidden,),
        "lm_head": (hidden, spec.vocab_size),
    }
    if name in whole:
        if layer is not None:
            raise ConfigError(f"weights: {name} belongs to the whole model, not to layer {layer}.")
        return whole[name]
    in_range = layer is not None and 0 <= layer < spec.num_layers
    shapes = layer_tensors(spec, layer if in_range and layer is not None else 0)
    if name not in shapes:
        why = f"{spec.name} has no such tensor" if name in LAYER_TENSORS else "unknown tensor"
        raise ConfigError(f"weights: {why}: {name!r}.", did_you_mean(name, (*shapes, *whole)))
    if not in_range:
        raise ConfigError(f"weights: {name} needs a layer from 0 to {spec.num_layers - 1}, not {layer}.")
    return shapes[name]


def sampled_fingerprint(files: Iterable[tuple[Path, int]]) -> str:
    """16 hex digits that tell weight files apart without reading them whole.

    Args:
        files: path and length of the header in bytes, which is hashed in full (at most 64 MB of it).

    Also hashed: each file's size and 64 pieces of 4 KiB spread evenly over it, the last one at its end. Names
    and dates are not, so a copy has its original's fingerprint. Raises OSError.
    """
    digest = hashlib.sha256()
    for path, header_bytes in files:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(size.to_bytes(8, "little"))
            digest.update(file.read(min(header_bytes, 64 << 20)))
            last = max(size - 4096, 0)
            for piece in range(64):
                file.seek(last * piece // 63)
                digest.update(file.read(4096))
    return digest.hexdigest()[:16]


class SyntheticWeights:
    """Random weights for a model that has none at hand: right in shape and scale, without meaning.

    A tensor depends on (seed, name, layer) alone, not on the order of calls. Matrices are normal with
    standard deviation 1/sqrt(fan in), which keeps the scale of what passes through them; the embedding has
    0.02, the initialisation that these families are trained from, which also gives logits of a sensible scale
    where the embedding is tied to the LM head (0.02 * sqrt(hidden), about 1). Biases have 0.02, sinks 1, norms
    are ones.
    """

    synthetic = True

    def __init__(self, spec: ModelSpec, seed: int = 0) -> None:
        self.spec = spec
        self.seed = seed
        self.basis = f"synthetic weights (seed {seed})"
        layers = f" {spec.kinds!r} {spec.pattern!r} {spec.logit_cap!r}" if spec.kinds or spec.logit_cap else ""
        self.fingerprint = hashlib.sha256(f"synthetic 1: {seed} {spec!r}{layers}".encode()).hexdigest()[:16]

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        """As WeightSource.tensor; about 20 ns an element on one core, no memory beside the tensor."""
        import torch

        shape = tensor_shape(self.spec, name, layer)
        if name.endswith("norm"):
            return torch.ones(shape)
        if name == "lm_head" and self.spec.tie_embeddings:
            return self._tied_head()
        values = np.empty(shape, dtype=np.float32)
        self._generator(name, layer).standard_normal(out=values, dtype=np.float32)
        values *= np.float32(self._deviation(name, shape))
        return torch.from_numpy(values)

    def _tied_head(self) -> torch.Tensor:
        import torch

        vocab, hidden = self.spec.vocab_size, self.spec.hidden_dim
        generator, deviation = self._generator("embedding", None), np.float32(0.02)
        head = np.empty((hidden, vocab), dtype=np.float32)
        # The generator's stream runs on, so that pieces drawn in order are the embedding drawn at once.
        for start in range(0, vocab, ROWS_AT_A_TIME):
            rows = min(ROWS_AT_A_TIME, vocab - start)
            head[:, start : start + rows] = generator.standard_normal((rows, hidden), dtype=np.float32).T
        head *= deviation
        return torch.from_numpy(head)

    def _generator(self, name: str, layer: int | None) -> np.random.Generator:
        key = hashlib.sha256(f"{self.seed}/{name}/{layer}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))

    @staticmethod
    def _deviation(name: str, shape: tuple[int, ...]) -> float:
        if name == "sinks":
            return 1.0
        return 0.02 if name == "embedding" or len(shape) == 1 else shape[0] ** -0.5
