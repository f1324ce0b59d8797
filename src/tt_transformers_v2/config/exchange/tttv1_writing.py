# SPDX-License-Identifier: Apache-2.0
"""Writing TTTv1's formats from a configuration: every group spelled out, nothing silently lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from ...common.errors import ConfigError
from ...hardware.enums import DataFormat
from ...hardware.schema import ComputeConfig, ComputeGroups, DeviceConfig, PrecisionConfig
from ..findings import Finding, Severity
from ..kernel_words import Word, kernel_settings, nearest_setting, setting_name, word_of, words
from ..layers import write_select
from .imported import Written
from .tttv1_findings import MIXED, Stated

# Settings that TTTv1 has no group for: it can only be told of them when they are what they are by default here.
_UNKNOWN_TENSORS = ("lm_head", "embedding", "ccl")
_UNKNOWN_OPS = ("lm_head",)
_ACTIVATIONS = ("activations", "attention_activations", "mlp_activations")
_MIXED = (DataFormat.BF16, DataFormat.BF16, DataFormat.BFP8)


@dataclass
class _Losses:
    """What cannot be written: id, path and reason -> the layers concerned."""

    found: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)

    def add(self, id: str, path: str, reason: str, layer: int) -> None:
        self.found.setdefault((id, path, reason), []).append(layer)

    def findings(self, everywhere: bool) -> list[Finding]:
        """One warning for every reason; `everywhere` leaves the layers unsaid."""
        alike: dict[tuple[str, str, str], list[str]] = {}
        for (id, path, reason), layers in self.found.items():
            alike.setdefault((id, reason, "" if everywhere else f" in layers {write_select(layers)}"), []).append(path)
        return [
            Finding(
                id,
                Severity.warning,
                f"Not written exactly{where}: {', '.join(paths)}.",
                f"TTTv1 cannot express it: {reason}",
                "Check that the difference does not matter.",
            )
            for (id, reason, where), paths in alike.items()
        ]

    def settle(self, lossy: bool, everywhere: bool = False) -> list[Finding]:
        """The findings of a lossy write; ConfigError where losses are not allowed."""
        if self.found and not lossy:
            (_, path, reason), _ = next(iter(self.found.items()))
            more = f" (and {len(self.found) - 1} more)" if len(self.found) > 1 else ""
            raise ConfigError(
                f"TTTv1 cannot express {path}{more}: {reason}", "A lossy write uses the nearest setting, or none."
            )
        return self.findings(everywhere)


def write_optimizations(config: DeviceConfig, *, num_layers: int | None = None, lossy: bool = False) -> Written:
    """`config` as TTTv1's optimisation string, with both sections and every group.

    The string holds for all layers. `num_layers` says how many there are; it is needed only when `config` has
    per-layer settings that cover every layer alike. Raises ConfigError naming the field when TTTv1 cannot express it
    or layers differ; with `lossy` the nearest setting is written, or none, and the result's `findings` tell.
    """
    losses = _Losses()
    layers = _distinct(config, num_layers)
    stated = _of_layer(layers[0], 0, losses)
    for layer, own in layers.items():
        if _of_layer(own, layer, _Losses()) != stated:
            losses.add("tttv1-lossy-layers", f"layers.{layer}", "the string applies to all layers.", layer)
    text = ", ".join(
        f"{section} = {{{', '.join(f'{group.value}: {setting.value}' for group, setting in pairs)}}}"
        for section, pairs in (("precision_cfg", stated.formats), ("fidelity_cfg", stated.kernels))
    )
    return Written(text, losses.settle(lossy, everywhere=len(layers) == 1))


def write_decoder_json(config: DeviceConfig, num_layers: int, *, lossy: bool = False) -> Written:
    """`config` as a TTTv1 decoder file for a model of `num_layers`: every layer, every group, by enum names.

    Raises ConfigError naming the field when TTTv1 cannot express it; with `lossy` the nearest setting is written, or
    none, and the result's `findings` tell.
    """
    if isinstance(num_layers, bool) or not isinstance(num_layers, int) or num_layers < 1:
        raise ConfigError(f"the number of layers must be at least 1, not {num_layers!r}.")
    losses = _Losses()
    beyond = [layer for layer in config.layers if not 0 <= layer < num_layers]
    if beyond:
        raise ConfigError(f"the configuration has settings for layer {max(beyond)}; the model has {num_layers} layers.")
    decoders = {str(layer): _json_layer(own, layer, losses) for layer, own in _distinct(config, num_layers).items()}
    return Written(json.dumps({"decoders": decoders}, indent=2) + "\n", losses.settle(lossy))


def _distinct(config: DeviceConfig, num_layers: int | None) -> dict[int, DeviceConfig]:
    """Layer -> configuration, for the layers to compare; layer 0 stands for the whole model where it can."""
    if num_layers is not None:
        return {layer: config.for_layer(layer) for layer in range(max(num_layers, 1))}
    if 0 in config.layers:
        raise ConfigError("the configuration has per-layer settings.", "Pass the number of layers (num_layers).")
    return {0: config, **config.layers}


def _json_layer(config: DeviceConfig, layer: int, losses: _Losses) -> dict[str, dict[str, str]]:
    stated = _of_layer(config, layer, losses)
    # JSON has no word for mixed activations, and needs none: TTTv1 mixes where a layer does not say otherwise.
    return {
        "precision_cfg": {group.name: setting.name for group, setting in stated.formats if setting is not MIXED},
        "fidelity_cfg": {group.name: setting.name for group, setting in stated.kernels},
    }


def _of_layer(config: DeviceConfig, layer: int, losses: _Losses) -> Stated:
    def lose(id: str) -> Callable[[str, str], None]:
        return lambda path, reason: losses.add(id, path, reason, layer)

    for group in _UNKNOWN_TENSORS:
        if config.precision.of(group) != PrecisionConfig().of(group):
            lose("tttv1-lossy-tensor")(f"precision.{group}", "it has no such tensor group.")
    for group in _UNKNOWN_OPS:
        if config.compute_for(group) != getattr(ComputeGroups(), group):
            lose("tttv1-lossy-op")(f"compute.{group}", "it has no such op group.")
    formats = [(word, _format(config.precision, word, lose("tttv1-lossy-activations"))) for word in words("tensors")]
    kernels = [
        (word, _kernel(config.compute_for(word.ours), word.ours, lose("tttv1-lossy-kernel"))) for word in words("ops")
    ]
    return Stated(
        tuple((group, setting) for group, setting in formats if setting is not None),
        tuple((group, setting) for group, setting in kernels if setting is not None),
    )


def _format(precision: PrecisionConfig, group: Word, lose: Callable[[str, str], None]) -> Word | None:
    if group.ours != "activations":
        return word_of("formats", precision.of(group.ours))
    formats = tuple(precision.of(name) for name in _ACTIVATIONS)
    if len(set(formats)) == 1:
        return word_of("formats", formats[0])
    if formats == _MIXED:
        return MIXED
    lose("precision.activations", f"it cannot mix {', '.join(map(str, formats))} in residual, attention and MLP.")
    return None


def _kernel(settings: ComputeConfig, group: str, lose: Callable[[str, str], None]) -> Word | None:
    name = setting_name(settings)
    if name is None:
        name = nearest_setting(settings)
        if name is None:
            lose(f"compute.{group}.math_fidelity", f"it has no setting with {settings.math_fidelity}.")
            return None
        near = ComputeConfig(**kernel_settings(name))
        differing = [field for field, value in vars(settings).items() if getattr(near, field) != value]
        reason = f"the nearest setting, {name}, has {', '.join(f'{f}={_plain(getattr(near, f))}' for f in differing)}."
        lose(f"compute.{group}.{differing[0]}", reason)
    return next(word for word in words("fidelities") if word.value == name)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
