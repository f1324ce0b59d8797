# SPDX-License-Identifier: Apache-2.0
"""The shapes of models that conf/model describes, by the names that published tables and rows call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ..models.spec import ModelSpec
from .conf_folders import conf_dirs, read_yaml, remembered
from .groups import aliases

# What conf/model/<option>.yaml says of a model's shape, for ModelSpec.uniform.
SHAPE_KEYS = (
    "vocab_size",
    "hidden_dim",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "intermediate_dim",
    "name",
    "family",
    "tie_embeddings",
    "qkv_bias",
    "qk_norm",
    "max_context",
)


class LayerShape(NamedTuple):
    """What decides the activations and the cache of a decoder: widths in elements, heads, and how many layers."""

    hidden_dim: int
    intermediate_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, model: Any) -> LayerShape | None:
        """The shape of a model specification; None for a model of which only the name is known, or whose layers have
        no one shape."""
        found: list[Any] = [getattr(model, name, None) for name in cls._fields]
        return cls(*found) if all(isinstance(value, int) for value in found) else None


def described_spec(name: str) -> ModelSpec | None:
    """The specification of the model that `name` means, with or without -Instruct; None where conf/model has none."""
    return _described_spec(name.casefold(), conf_dirs())


@remembered
def _described_spec(name: str, roots: tuple[Path, ...]) -> ModelSpec | None:
    known = aliases("model")
    option = known.get(name) or known.get(f"{name}-instruct")
    if option is None:
        return None
    described = read_yaml(f"model/{option}.yaml")
    if described.get("num_layers") is None:
        return None
    if described.get("model_type"):
        from ..models.family_spec import family_spec  # which few models need

        return family_spec(described)
    return ModelSpec.uniform(**{key: described[key] for key in SHAPE_KEYS if key in described})
