# SPDX-License-Identifier: Apache-2.0
"""A model of a known family from a few numbers: the family says what its layers compute, as it does for a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError, did_you_mean
from .config_values import ConfigValues
from .families import COMMON_DEFAULTS, FAMILIES
from .huggingface_config import layers_of_family
from .spec import ModelSpec

# conf/model's name of a number -> config.json's.
KEYS: Mapping[str, str] = {
    "vocab_size": "vocab_size",
    "hidden_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "intermediate_dim": "intermediate_size",
    "tie_embeddings": "tie_word_embeddings",
    "norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "max_context": "max_position_embeddings",
    "sliding_window": "sliding_window",
}
_WHERE = Path("model.config")


def family_spec(model: Mapping[str, Any]) -> ModelSpec:
    """The specification that conf/model's values describe with a `model_type`.

    `model` has the fields of config.experiment_schema.ModelConfig: the numbers of KEYS, and in `config` those that only
    some families have, by their names in config.json. Raises ConfigError for a family that is not known, for values
    that contradict each other, and for a key of `config` that the family does not read or that has a field of its own.
    """
    kind, more = model["model_type"], dict(model.get("config") or {})
    family = FAMILIES.get(kind)
    if family is None or family.tower:
        known = [name for name, each in FAMILIES.items() if not each.tower]
        hint = did_you_mean(kind, known) or f"Known: {', '.join(known)}."
        raise ConfigError(f"no model_type named {kind!r}.", hint)
    for name, key in KEYS.items():
        if key in more:
            raise ConfigError(f"model.config.{key} has a key of its own.", f"Use model.{name}.")
    given = {
        key: model.get(name) for name, key in KEYS.items() if model.get(name) is not None or name == "sliding_window"
    }
    config = ConfigValues(_WHERE, given | more, COMMON_DEFAULTS | dict(family.defaults))
    spec = layers_of_family(config, family, str(model["name"]), str(model.get("family", "")))
    read = config.read | {key.removeprefix("1/") for key in family.folds.values()}
    for key in more:
        if key not in read:
            known = sorted(read - set(KEYS.values()))
            raise ConfigError(f"model.config.{key} is nothing that {kind} reads.", did_you_mean(str(key), known))
    return spec
