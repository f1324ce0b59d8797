# SPDX-License-Identifier: Apache-2.0
"""config.json of a Hugging Face folder: what each layer of its model computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError, did_you_mean
from .changing_keys import CHANGES
from .config_values import ConfigValues, naming, read_json
from .families import ACTIVATIONS, COMMON_DEFAULTS, FAMILIES, FULL, SLIDING, ExpertsKeys, Family
from .layer_spec import AttentionSpec, ExpertsSpec, LayerSpec, MlpSpec
from .rope_config import Rotaries
from .spec import ModelSpec
from .uncomputed import UNCOMPUTED

__all__ = ["ConfigReader", "FolderConfig", "Folds", "huggingface_spec", "layers_of_family"]

_SUPPORTED = f"Supported: {', '.join(FAMILIES)}."


class FolderConfig:
    """A folder's family and model.

    family: what is known of its `model_type`. spec: the model. values: config.json, of a model with a tower its
    `text_config`. tower: whether the folder holds a tower besides.
    """

    def __init__(self, folder: Path | str) -> None:
        """Reads config.json. Raises ConfigError for what is malformed, contradicts itself or cannot be computed."""
        path = Path(folder) / "config.json"
        values = read_json(path)
        self.kind, self.family = _family(path, values)
        self.tower = bool(self.family.tower)
        if self.tower:
            values = _text_values(path, values, self.kind, self.family.tower)
            self.kind, self.family = _family(path, values)
            if self.family.tower:
                raise ConfigError(f"{path}: text_config.model_type {self.kind} is not a text decoder.", _SUPPORTED)
        self.values = ConfigValues(path, values, COMMON_DEFAULTS | dict(self.family.defaults))
        self.quantised = self._quantised()
        self.spec = ConfigReader(self.values, self.family).spec(_folder_name(Path(folder)))
        self._folds = Folds(self.values, self.family, self.spec.hidden_dim)
        _refuse_unread(self.values)

    def _quantised(self) -> bool:
        """Whether experts are stored in MXFP4, the one quantisation that is read from safetensors."""
        given = self.values.get("quantization_config")
        if given is None:
            return False
        method = given.get("quant_method") if isinstance(given, dict) else given
        if method != "mxfp4" or self.family.experts is None or not self.family.experts.fused:
            hint = "Supported: mxfp4 of gpt_oss."
            raise self.values.fail(f"quantization_config = {str(method)[:40]} is not supported.", hint)
        return True

    def multiplier(self, name: str) -> float:
        """What a canonical tensor is multiplied by when it is loaded."""
        return self._folds.multiplier(name)


class Folds:
    """What a family's tensors are multiplied by when they are loaded."""

    def __init__(self, values: ConfigValues, family: Family, hidden: int) -> None:
        """Reads the keys that the family's folds name; `hidden` is the width of the hidden state."""
        self._multipliers: dict[str, float] = {}
        for name, key in family.folds.items():
            if key == "hidden ** 0.5":
                self._multipliers[name] = float(hidden**0.5)
            else:
                value = values.positive(key.removeprefix("1/"))
                self._multipliers[name] = 1 / value if key.startswith("1/") else value

    def multiplier(self, name: str) -> float:
        """The multiplier of a canonical tensor, 1 for none."""
        return self._multipliers.get(name.rpartition(".")[2], 1.0)


def huggingface_spec(folder: Path | str) -> ModelSpec:
    """The model in a Hugging Face folder, from its config.json; imports no torch.

    Raises ConfigError for a missing or malformed file and for what cannot be computed here, saying what can.
    """
    return FolderConfig(folder).spec


def layers_of_family(config: ConfigValues, family: Family, name: str, rules_family: str) -> ModelSpec:
    """The model that the values of a config.json describe; `rules_family` is the family that model rules look at.

    Raises ConfigError for what contradicts itself or cannot be computed.
    """
    return ConfigReader(config, family).spec(name, rules_family)


def _family(path: Path, values: dict[str, Any]) -> tuple[str, Family]:
    """`model_type` decides; `architectures` must agree, and decides alone where there is no model_type."""
    named, kind = values.get("architectures"), values.get("model_type")
    architecture = named[0] if isinstance(named, list) and len(named) == 1 else str(named or "")
    of_class = [key for key, family in FAMILIES.items() if architecture in family.classes]
    if kind is None:
        if not architecture:
            raise ConfigError(f"{path}: neither model_type nor architectures says what the model is.", _SUPPORTED)
        if not of_class:
            raise ConfigError(f"{path}: architecture {str(architecture)[:60]} is not supported.", _SUPPORTED)
        return of_class[0], FAMILIES[of_class[0]]
    if isinstance(kind, str) and kind in UNCOMPUTED:
        raise ConfigError(f"{path}: model_type {kind} is known but not supported: {UNCOMPUTED[kind]}")
    if not isinstance(kind, str) or kind not in FAMILIES:
        hint = did_you_mean(kind, FAMILIES) if isinstance(kind, str) else ""
        raise ConfigError(f"{path}: model_type {str(kind)[:60]} is not supported.", hint or _SUPPORTED)
    if architecture and kind not in of_class:
        expected = " or ".join(FAMILIES[kind].classes)
        raise ConfigError(
            f"{path}: architectures is {str(architecture)[:60]}, but model_type is {kind}.", f"Expected {expected}."
        )
    return kind, FAMILIES[kind]


def _text_values(path: Path, values: dict[str, Any], kind: str, decoder: str) -> dict[str, Any]:
    """text_config of a model with a tower, with what stands beside it; `decoder` is its model_type unless it says."""
    text = values.get("text_config")
    if not isinstance(text, dict):
        raise ConfigError(f"{path}: text_config must be an object, as {kind} has a tower.")
    beside = {key: values[key] for key in ("tie_word_embeddings", "quantization_config") if key in values}
    return {"model_type": decoder} | beside | text


def _folder_name(folder: Path) -> str:
    """The folder's name; for the hub's own cache (models--org--name/snapshots/revision) the model's."""
    folder = folder.absolute()
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.split("--")[-1]
    return folder.name


class ConfigReader:
    """What config.json says, or the same values from elsewhere, by the rules of a family."""

    def __init__(self, config: ConfigValues, family: Family) -> None:
        self.config, self.family = config, family
        self.layers = config.whole("num_hidden_layers")

    def spec(self, name: str, rules_family: str = "") -> ModelSpec:
        """The model, named `name`. Raises ConfigError naming file and key."""
        config, family = self.config, self.family
        hidden, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
        if config.get("head_dim") is None and hidden % heads:
            raise config.fail(f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}.")
        head_dim, vocab = config.whole("head_dim", hidden // heads), config.whole("vocab_size")
        windows, rotating = self._windows(), self._rotating()
        rotaries = Rotaries(config, family, head_dim)
        experts = self._experts() if family.experts else {}
        mlp = self._mlp() if len(experts) < self.layers else None
        with naming(config.path):
            layers = [
                LayerSpec(
                    self._attention(
                        windows[i],
                        rotaries.of(windowed=windows[i] is not None) if rotating(i, windows) else None,
                    ),
                    mlp=None if i in experts else mlp,
                    experts=experts.get(i),
                    norms=family.norms,
                )
                for i in range(self.layers)
            ]
            return ModelSpec.of_layers(
                layers,
                vocab_size=vocab,
                hidden_dim=hidden,
                num_heads=heads,
                num_kv_heads=config.whole("num_key_value_heads", heads),
                head_dim=head_dim,
                tie_embeddings=config.get("tie_word_embeddings") is True,
                norm_eps=config.positive("rms_norm_eps"),
                max_context=config.whole("max_position_embeddings"),
                logit_cap=self._maybe(family.logit_cap),
                name=name,
                # 128256 is the vocabulary of every Llama 3, and of no Llama before it.
                family=rules_family or ("llama-3" if family.name == "llama" and vocab == 128256 else family.name),
            )

    def _said(self, said: bool | str) -> bool:
        if isinstance(said, bool):
            return said
        value = self.config.get(said)
        if value not in (None, True, False):
            raise self.config.fail(f"{said} must be true or false, not {str(value)[:40]}.")
        return value is True

    def _maybe(self, key: str) -> float | None:
        return None if not key or self.config.get(key) is None else self.config.positive(key)

    def _attention(self, window: int | None, rotary: Any) -> AttentionSpec:
        family, scale = self.family, self._maybe(self.family.scale)
        if family.scale == "query_pre_attn_scalar" and scale is not None:
            scale **= -0.5
        return AttentionSpec(
            window=window,
            rotary=rotary,
            scale=scale,
            qk_norm=family.qk_norm,
            qkv_bias=self._said(family.qkv_bias),
            output_bias=self._said(family.output_bias),
            sinks=family.sinks,
            cap=self._maybe(family.attention_cap),
        )

    def _activation(self) -> str:
        key = self.family.activation
        # Gemma's first files say hidden_act where hidden_activation is meant.
        value = self.config.get(key)
        if key != "hidden_act":
            self.config.read.add("hidden_act")
        if not isinstance(value, str) or value not in ACTIVATIONS:
            known = f"Supported: {', '.join(ACTIVATIONS)}."
            raise self.config.fail(f"{key} = {str(value)[:40]} is not supported.", known)
        return ACTIVATIONS[value]

    def _mlp(self, width: int | None = None, *, bias: bool | None = None) -> MlpSpec:
        with naming(self.config.path):
            return MlpSpec(
                self.config.whole("intermediate_size") if width is None else width,
                activation=self._activation(),
                gated=self.family.gated,
                bias=self._said(self.family.mlp_bias) if bias is None else bias,
                limit=self._maybe(self.family.limit),
                alpha=self.config.positive("swiglu_alpha") if self.family.limit else 1.702,
            )

    def _windows(self) -> list[int | None]:
        """Each layer's sliding window in tokens."""
        config, how = self.config, self.family.windows
        window = None if how == "none" else config.get("sliding_window")
        if how in ("switched", "upper", "even", "unrotated") and not config.get("use_sliding_window"):
            window = None
        kinds = self._kinds(window)
        if window is None or SLIDING not in kinds:
            return [None] * self.layers
        size = config.whole("sliding_window")
        return [size if kind == SLIDING else None for kind in kinds]

    def _kinds(self, window: Any) -> list[str]:
        """Each layer's attention: layer_types where it is given, or what its family takes for granted."""
        config, how = self.config, self.family.windows
        given = config.get("layer_types")
        if given is not None:
            if not isinstance(given, list) or len(given) != self.layers:
                raise config.fail(f"layer_types must list {self.layers} layers, one for each of num_hidden_layers.")
            for kind in given:
                if kind not in (SLIDING, FULL):
                    raise config.fail(
                        f"layer_types has {str(kind)[:40]}, which is not supported.", f"Supported: {FULL}, {SLIDING}."
                    )
            if how not in ("types", "upper", "even", "unrotated") and len(set(given)) > 1:
                raise config.fail("layer_types differ, but this model_type has one attention for all layers.")
            if SLIDING in given and window is None:
                raise config.fail("layer_types has sliding_attention, but there is no sliding window.")
            return given
        if how == "unrotated":
            return [FULL if rotates else SLIDING for rotates in self._listed()]
        if how == "even":
            most = config.whole("max_window_layers")
            return [SLIDING if i % 2 == 0 and i < most else FULL for i in range(self.layers)]
        if how == "upper":
            full = config.get("max_window_layers")  # the first so many layers see everything
            first = self.layers if not isinstance(full, int) else full
            return [FULL if i < first else SLIDING for i in range(self.layers)]
        pattern = self.config.get("sliding_window_pattern", self.config.get("_sliding_window_pattern"))
        if isinstance(pattern, str):  # EXAONE 4's "LLLG"
            return [SLIDING if pattern[i % len(pattern)] == "L" else FULL for i in range(self.layers)]
        period = self.family.period if pattern is None else pattern
        if not period or how != "types":
            return [SLIDING] * self.layers
        return [SLIDING if (i + 1) % period else FULL for i in range(self.layers)]

    def _listed(self) -> list[bool]:
        """Whether each layer rotates, by no_rope_layers (1: it does)."""
        config = self.config
        given = config.get("no_rope_layers")
        if given is None:
            interval = config.whole("no_rope_layer_interval")
            return [(i + 1) % interval != 0 for i in range(self.layers)]
        if not isinstance(given, list) or len(given) != self.layers or any(value not in (0, 1) for value in given):
            raise config.fail(f"no_rope_layers must list a 0 or a 1 for each of {self.layers} layers.")
        return [bool(value) for value in given]

    def _rotating(self) -> Any:
        how = self.family.rotary
        if how == "listed":
            listed = self._listed()
            return lambda i, windows: listed[i]
        if how == "windowed" and self.config.get("sliding_window") is not None:
            return lambda i, windows: windows[i] is not None
        return lambda i, windows: True

    def _experts(self) -> dict[int, ExpertsSpec]:
        """The experts of each layer that has any."""
        config, keys = self.config, self.family.experts
        assert keys is not None
        key = next((name for name in keys.count if config.get(name) is not None), keys.count[0])
        count, top_k = config.whole(key), config.whole("num_experts_per_tok")
        config.read.update(keys.count)
        if top_k > count:
            raise config.fail(f"num_experts_per_tok {top_k} is more than {key} {count}.")
        shared = self._mlp(config.whole(keys.shared), bias=False) if keys.shared else None
        own = ExpertsSpec(
            count,
            top_k,
            self._mlp(config.whole(keys.width), bias=keys.bias),
            router=keys.router,
            normalised=self._said(keys.normalised),
            router_bias=keys.router_bias,
            shared=shared,
            shared_gate=shared is not None,
        )
        return dict.fromkeys(self._expert_layers(keys), own)

    def _expert_layers(self, keys: ExpertsKeys) -> list[int]:
        if keys.every:
            return list(range(self.layers))
        config = self.config
        step, dense = config.whole("decoder_sparse_step"), config.get("mlp_only_layers") or []
        inside = isinstance(dense, list) and all(
            isinstance(i, int) and not isinstance(i, bool) and 0 <= i < self.layers for i in dense
        )
        if not inside:
            raise config.fail(f"mlp_only_layers must list layers from 0 to {self.layers - 1}.")
        return [i for i in range(self.layers) if i not in dense and (i + 1) % step == 0]


def _refuse_unread(config: ConfigValues) -> None:
    """Raises ConfigError for a key that would change what is computed, and that nothing has read."""
    for key, value in config.values.items():
        if key in config.read or value is None or key not in CHANGES:
            continue
        if value not in CHANGES[key]:
            shown = json.dumps(value)[:60]
            raise config.fail(f"{key} = {shown} is not supported for this model_type.", "It would change the logits.")
