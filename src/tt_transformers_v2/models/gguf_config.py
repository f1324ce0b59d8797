# SPDX-License-Identifier: Apache-2.0
"""Metadata of a GGUF file, said as the config.json of the same model, which models.huggingface_config reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError, did_you_mean
from .config_values import ConfigValues
from .families import COMMON_DEFAULTS, FAMILIES, FULL, SLIDING, Family
from .gguf_architectures import ARCHITECTURES, NEUTRAL
from .gguf_file import GgufFile, model_name, read_gguf
from .gguf_rope import rope_values
from .huggingface_config import ConfigReader, Folds
from .spec import ModelSpec

_LARGEST = 2**31 - 1  # as in config.json


class Metadata:
    """The metadata that belongs to the architecture; keys are without its name. `read` collects those asked for."""

    def __init__(self, file: GgufFile, architecture: str) -> None:
        self.file, self.architecture = file, architecture
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or the default."""
        self.read.add(key)
        return self.file.metadata.get(f"{self.architecture}.{key}", default)

    def fail(self, message: str, hint: str = "") -> ConfigError:
        """The error that names the file."""
        return ConfigError(f"{self.file.path}: {message}", hint)

    def whole(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least `least`. Raises ConfigError naming the key, also where it is missing."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
            what = "is missing" if value is None else f"must be a whole number, not {str(value)[:60]!r}"
            raise self.fail(f"metadata {self.architecture}.{key} {what}.")
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        """A finite number above 0; written as float32, it is rounded to the seven digits that were meant."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e30:
            what = "is missing" if value is None else f"must be a number, not {str(value)[:60]!r}"
            raise self.fail(f"metadata {self.architecture}.{key} {what}.")
        return float(f"{value:.7g}")

    def given(self, key: str) -> bool:
        """Whether the file says anything but 0 for the key."""
        return self.get(key) not in (None, 0)


class GgufConfig:
    """A GGUF file's model.

    architecture: what is known of its `general.architecture`. family: the entry of FAMILIES, with the biases that the
    file has. spec: the model.
    """

    def __init__(self, path: Path | str) -> None:
        """Reads the metadata. Raises ConfigError naming the file for what is malformed or cannot be computed."""
        self.file = file = read_gguf(path)
        named = file.metadata.get("general.architecture")
        if not isinstance(named, str) or named not in ARCHITECTURES:
            hint = did_you_mean(named, ARCHITECTURES) if isinstance(named, str) else ""
            supported = f"Supported: {', '.join(ARCHITECTURES)}; or use the model's Hugging Face folder (safetensors)."
            raise ConfigError(
                f"{path}: architecture {str(named)[:40]!r} is not supported from GGUF.",
                supported if not hint else f"{hint} {supported}",
            )
        self.architecture = ARCHITECTURES[named]
        self.metadata = Metadata(file, named)
        if (parts := file.metadata.get("split.count", 1)) not in (0, 1):
            raise self.metadata.fail(
                f"it is one of {str(parts)[:20]} parts of a model.", "Merge them: llama-gguf-split --merge."
            )
        self.family = self._family()
        values = self._values()
        self.values = ConfigValues(file.path, values, COMMON_DEFAULTS | dict(self.family.defaults))
        self.spec = ConfigReader(self.values, self.family).spec(model_name(file))
        self._folds = Folds(self.values, self.family, self.spec.hidden_dim)
        self._refuse_unread()

    def multiplier(self, name: str) -> float:
        """What a canonical tensor is multiplied by when it is loaded."""
        return self._folds.multiplier(name)

    def _family(self) -> Family:
        """The family, with biases where the file has them, whichever its config.json could say."""
        own, tensors = self.architecture, self.file.tensors
        experts = self.metadata.given("expert_count")
        if experts and not own.with_experts:
            raise self.metadata.fail(f"a {self.metadata.architecture} with experts is not supported.")
        family = FAMILIES[own.with_experts if experts else own.family]

        def any_of(*names: str) -> bool:
            return any(f"blk.0.{name}.bias" in tensors for name in names)

        return dataclasses.replace(
            family,
            qkv_bias=own.biased or family.qkv_bias is True or any_of("attn_q", "attn_k", "attn_v", "attn_qkv"),
            output_bias=own.biased or any_of("attn_output"),
            mlp_bias=any_of("ffn_gate", "ffn_up", "ffn_down"),
            interleaved=own.turned,
            norm_plus_one=False,  # llama.cpp's converter has added the one
        )

    def _values(self) -> dict[str, Any]:
        """The values of config.json."""
        data, tensors = self.metadata, self.file.tensors
        layers = data.whole("block_count")
        if layers > len(tensors):
            raise data.fail(f"{data.architecture}.block_count is {layers}, but it has {len(tensors)} tensors.")
        hidden, heads = data.whole("embedding_length"), data.whole("attention.head_count")
        head_dim = data.whole("attention.key_length", max(hidden // heads, 1))
        for key in ("attention.value_length", "attention.key_length_swa", "attention.value_length_swa"):
            if data.whole(key, head_dim) != head_dim:
                raise data.fail(f"{data.architecture}.{key} is {data.get(key)}, but heads have {head_dim} elements.")
        embedding = tensors.get("token_embd.weight")
        if embedding is None:
            raise data.fail("'token_embd.weight' is missing.")
        values: dict[str, Any] = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": data.whole("attention.head_count_kv", heads),
            "head_dim": head_dim,
            "vocab_size": data.whole("vocab_size", embedding.shape[0]),
            "rms_norm_eps": data.positive("attention.layer_norm_rms_epsilon"),
            "max_position_embeddings": data.whole("context_length", 131072),
            "tie_word_embeddings": "output.weight" not in tensors,
            "sliding_window": None,
        }
        values |= {key: value for key, value in self.architecture.given.items() if key != "truncate"}
        values |= self._feed_forward(layers) | self._windows(layers) | self._scales(hidden, heads, head_dim, layers)
        whole = self.architecture.given.get("truncate", True)
        return values | rope_values(data, self.family, head_dim, truncate=whole)

    def _feed_forward(self, layers: int) -> dict[str, Any]:
        """Widths of MLPs and experts, and which layers have the latter."""
        data, keys = self.metadata, self.family.experts
        if keys is None:
            return {"intermediate_size": data.whole("feed_forward_length")}
        count, routers = data.whole("expert_count"), [f"blk.{i}.ffn_gate_inp.weight" for i in range(layers)]
        sparse = [name in self.file.tensors for name in routers]
        for name, has in zip(routers, sparse, strict=True):
            if has and self.file.tensors[name].shape[0] != count:
                shape = list(self.file.tensors[name].shape)
                raise data.fail(f"{data.architecture}.expert_count is {count}, but {name!r} is {shape}.")
        if not any(sparse) or (keys.every and not all(sparse)):
            raise data.fail(f"tensor {routers[sparse.index(False)]!r} is missing.")
        dense = data.get("feed_forward_length")
        width = data.whole("expert_feed_forward_length", dense if isinstance(dense, int) else None)
        found: dict[str, Any] = {keys.count[0]: count, "num_experts_per_tok": data.whole("expert_used_count")}
        if not keys.every:
            found["mlp_only_layers"] = [i for i, has in enumerate(sparse) if not has]
            if found["mlp_only_layers"]:
                found["intermediate_size"] = data.whole("feed_forward_length")
        return found | {keys.width: width}

    def _windows(self, layers: int) -> dict[str, Any]:
        """The sliding window, and the layers that have it where not all do."""
        data, period = self.metadata, self.architecture.period
        if period is None:
            # Phi-3 says 0 for none; the others never have one.
            whole = self.family.windows == "all" and data.given("attention.sliding_window")
            return {"sliding_window": data.whole("attention.sliding_window")} if whole else {}
        if not data.given("attention.sliding_window"):
            return {"layer_types": [FULL] * layers}
        pattern = data.get("attention.sliding_window_pattern", period)
        if isinstance(pattern, list):
            if len(pattern) != layers:
                raise data.fail(f"{data.architecture}.attention.sliding_window_pattern must be of {layers} layers.")
            sliding = [bool(value) for value in pattern]
        else:
            period = data.whole("attention.sliding_window_pattern", period)
            sliding = [(i + 1) % period != 0 for i in range(layers)]
        return {
            "sliding_window": data.whole("attention.sliding_window"),
            "layer_types": [SLIDING if own else FULL for own in sliding],
        }

    def _scales(self, hidden: int, heads: int, head_dim: int, layers: int) -> dict[str, Any]:
        """Multipliers, soft caps, and what scores of attention are multiplied by."""
        data, own, found = self.metadata, self.architecture, {}
        for key, name in own.scales.items():
            found[name] = data.positive(key) if data.given(key) else (None if key == "attention.scale" else 1.0)
        for key, name in (
            ("attn_logit_softcapping", self.family.attention_cap),
            ("final_logit_softcapping", self.family.logit_cap),
        ):
            if name:
                found[name] = data.positive(key) if data.given(key) else None
        if self.family.scale == "query_pre_attn_scalar":
            usual = (hidden // heads if layers == own.wide else head_dim) ** -0.5
            scale = data.positive("attention.scale") if data.given("attention.scale") else usual
            # Six digits are what is left of a float32 after the root is undone.
            found["query_pre_attn_scalar"] = float(f"{1 / scale / scale:.6g}") if scale > 1e-9 else 0.0
        return found

    def _refuse_unread(self) -> None:
        """Raises ConfigError for a key that may change what is computed, and that nothing has read."""
        data, prefix = self.metadata, f"{self.metadata.architecture}."
        neutral = dict(NEUTRAL) | {"expert_gating_func": self.architecture.gating}
        for key, value in self.file.metadata.items():
            name = key.removeprefix(prefix)
            if not key.startswith(prefix) or name in data.read:
                continue
            if name not in neutral or (neutral[name] and value not in neutral[name]):
                raise data.fail(f"metadata {key} = {str(value)[:60]} is not supported.", "It may change the logits.")


def gguf_spec(path: Path | str) -> ModelSpec:
    """The model in a GGUF file from its metadata, with name and family; imports no torch.

    Raises ConfigError for an unreadable file, an architecture that is not known, and what cannot be computed.
    """
    return GgufConfig(path).spec
