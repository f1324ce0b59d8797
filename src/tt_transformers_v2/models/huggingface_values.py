# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file's metadata say, as config.json and tokenizer_config.json of a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..common.errors import ConfigError
from .families import FAMILIES
from .gguf_config import GgufConfig

# llama.cpp's keys of special tokens -> those of config.json and tokenizer_config.json.
_SPECIAL = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}


def config_of_gguf(config: GgufConfig) -> dict[str, Any]:
    """config.json of the model in a GGUF file, for transformers 5 and older.

    Raises ConfigError where the file has biases that its family's config.json cannot say.
    """
    kind = next(key for key, family in FAMILIES.items() if family.name and _is(config, key))
    family, own = FAMILIES[kind], config.family
    said: dict[str, Any] = {}
    for name in ("qkv_bias", "output_bias", "mlp_bias"):
        stated, there = getattr(family, name), bool(getattr(own, name))
        if isinstance(stated, str):
            if said.setdefault(stated, there) != there:
                raise ConfigError(f"{config.file.path}: no config.json of {kind} can say which biases it has.")
        elif stated != there:
            raise ConfigError(f"{config.file.path}: no config.json of {kind} can say which biases it has.")
    values = dict(family.defaults) | config.values.values | said
    rope = values.get("rope_parameters")
    if isinstance(rope, Mapping):
        # transformers before version 5 reads these two.
        values["rope_theta"] = rope["rope_theta"]
        scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
        if "partial_rotary_factor" in rope:
            values["partial_rotary_factor"] = rope["partial_rotary_factor"]
        values["rope_parameters"] = {"rope_type": "default"} | dict(rope)
        values["rope_scaling"] = scaling or None
    values.setdefault(family.activation, "silu")
    tokens = {
        f"{name}_id": config.file.metadata.get(f"tokenizer.ggml.{key}_token_id")
        for key, name in _SPECIAL.items()
        if key != "unknown"
    }
    return {
        "architectures": [family.classes[0]],
        "model_type": kind,
        "torch_dtype": "bfloat16",
        **{key: value for key, value in tokens.items() if isinstance(value, int)},
        **values,
    }


def _is(config: GgufConfig, kind: str) -> bool:
    own = config.architecture
    return kind == (own.with_experts if config.metadata.given("expert_count") else own.family)


def tokenizer_settings_of_gguf(config: GgufConfig) -> dict[str, Any]:
    """tokenizer_config.json: the class that reads tokenizer.json, the special tokens and the chat template."""
    metadata = config.file.metadata
    found: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.spec.max_context,
    }
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    for key, name in _SPECIAL.items():
        number = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(number, int) and 0 <= number < len(tokens):
            found[name] = tokens[number]
    if isinstance(template := metadata.get("tokenizer.chat_template"), str):
        found["chat_template"] = template
    return found
