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
    """config.json of the model in a GGUF file.

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
    values = {key: _as_meant(value, family.defaults.get(key)) for key, value in values.items()}
    rope = values.get("rope_parameters")
    # As transformers before version 5 has it, which version 5 and vLLM read too; what is newer is in its own form.
    if isinstance(rope, Mapping) and "llama_4_scaling_beta" not in rope:
        del values["rope_parameters"]
        beside = ("rope_theta", "partial_rotary_factor")
        values |= {key: rope[key] for key in beside if key in rope}
        values["rope_scaling"] = {key: value for key, value in rope.items() if key not in beside} or None
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


def _as_meant(value: Any, default: Any) -> Any:
    """A float as the whole number that its key holds: GGUF has no others for some."""
    whole = isinstance(default, int) and not isinstance(default, bool) and isinstance(value, float)
    return int(value) if whole and value.is_integer() else value


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
