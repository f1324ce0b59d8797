# SPDX-License-Identifier: Apache-2.0
"""TTTv1's precision settings, read as their author meant them: the optimisation string and the per-layer decoder JSON.

The formats are those of parse_optimizations and parse_decoder_json in tt-metal
models/tt_transformers/tt/model_config.py (@17a8a99d). Where TTTv1 loses or misreads something, what is read here is
what the text says, and a finding tells the difference (tttv1_findings).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ...common.errors import ConfigError, did_you_mean
from ...hardware.enums import DataFormat, PrecisionMode
from ..device_presets import precision_mode
from ..findings import Finding
from ..kernel_words import Word, find, shown, words
from ..layers import LayerEntry, write_select
from . import tttv1_findings as findings
from .imported import Imported
from .tttv1_findings import MIXED, Stated
from .tttv1_writing import write_decoder_json, write_optimizations
from .untrusted import check_text, known_key, mapping, parse_json, read_file

__all__ = ["Imported", "read_decoder_json", "read_optimizations", "write_decoder_json", "write_optimizations"]

MAX_STRING = 64_000
MAX_LAYERS = 10_000
_SECTIONS: dict[str, tuple[Literal["tensors", "ops"], Literal["formats", "fidelities"]]] = {
    "precision_cfg": ("tensors", "formats"),
    "fidelity_cfg": ("ops", "fidelities"),
}
_MODES = (PrecisionMode.PERFORMANCE.value, PrecisionMode.ACCURACY.value)
_SECTION = re.compile(r"\s*([^\s={},]+)\s*=\s*\{([^{}]*)\}\s*(,|$)")
_LAYER = re.compile(r"[0-9]{1,9}$", re.ASCII)


def read_optimizations(text: str, num_layers: int) -> Imported:
    """What TTTv1's `--optimizations` says: a mode's name, or settings that hold for every layer.

    `text` is `performance`, `accuracy`, or `precision_cfg = {ff1_3: bfp4, …}, fidelity_cfg = {li_ff1_3: lofi, …}` with
    either section or both; groups and settings by value or by enum name, in any case. The result has `mode` or
    `values`, never both, and no layers. Raises ConfigError for unknown sections, groups and settings, naming the
    nearest, for a group set twice, and for text that is not of this form.
    """
    _check_num_layers(num_layers)
    text = check_text(text, "the optimisation string", MAX_STRING).strip()
    if text.casefold() in _MODES:
        return Imported(mode=text.casefold())
    sections = _string_sections(text)
    stated, respelled = _stated(sections, "", "value")
    layers = dict.fromkeys(range(num_layers), stated)
    missing = [name for name in _SECTIONS if name not in sections]
    return Imported(
        values=_values(stated),
        findings=[
            *findings.weak_fidelity(layers),
            *findings.mixed_activations(layers),
            *(findings.one_section(missing[0]) if missing else []),
            *findings.partial_sections(layers, everywhere=True),
            *findings.spelling(respelled),
        ],
    )


def read_decoder_json(
    text_or_path: str | os.PathLike[str],
    num_layers: int,
    *,
    mode: str | PrecisionMode | None = None,
    model_name: str | None = None,
) -> Imported:
    """What a TTTv1 decoder file says: `{"decoders": {"31": {"precision_cfg": {…}, "fidelity_cfg": {…}}}}`.

    A path object, or text that ends in .json and has no brace, is opened; other text is the content itself.
    `num_layers` is the model's own depth. `mode` is the precision mode the file is laid over; None takes it from the
    file's name where that says one. `model_name` is compared with the directory. Groups and settings are understood by
    enum name and by value. The result holds only what the file states, as few entries as possible; apply it to the
    preset of the mode with the model's rules. Raises ConfigError for anything the format does not have, for a layer
    given twice and for layers beyond the one after the last.
    """
    _check_num_layers(num_layers)
    path = _as_path(text_or_path)
    text = read_file(path) if path is not None else text_or_path
    if path is None:
        text = check_text(text, "the decoder configuration", MAX_STRING * 1000)
    claimed = _mode_in_name(path)
    chosen = precision_mode(mode).value if mode is not None else claimed
    layers, respelled, shifted = _decoders(text, num_layers)
    entries = _entries(layers, path.name if path is not None else "decoder JSON")
    found: list[Finding] = [
        *findings.missing_layers(layers, num_layers),
        *(findings.out_of_range(num_layers) if shifted else []),
        *findings.weak_fidelity(layers),
        *findings.mode_mismatch(claimed or chosen, layers),
        *findings.model_rules(layers, num_layers, chosen),
        *findings.partial_sections(layers),
        *findings.mixed_activations(layers),
        *findings.uniform(len(entries), sum(1 for stated in layers.values() if stated != Stated())),
        *findings.spelling(respelled),
        *findings.directory_name(path, model_name),
    ]
    return Imported(mode=chosen, layers=entries, findings=found)


def _decoders(text: Any, num_layers: int) -> tuple[dict[int, Stated], bool, bool]:
    """Layer -> what is stated of it; whether any spelling was not TTTv1's; whether the layer after the last was."""
    what = "the decoder configuration"
    tree = mapping(parse_json(text, what), what)
    for key in tree:
        known_key(key, ("decoders",), what)
    if "decoders" not in tree:
        raise ConfigError(f"{what} has no 'decoders'.", 'Expected {"decoders": {"0": {"precision_cfg": {…}}}}.')
    decoders = mapping(tree["decoders"], "decoders")
    numbers = _layer_numbers(decoders, num_layers)
    layers: dict[int, Stated] = {}
    respelled = False
    for key, sections in decoders.items():
        layer = min(numbers[key], num_layers - 1)
        layers[layer], odd = _stated(mapping(sections, f"decoders.{layer}"), f"decoders.{layer}.", "name")
        respelled |= odd
    return dict(sorted(layers.items())), respelled, num_layers in numbers.values()


def _layer_numbers(decoders: Mapping[str, Any], num_layers: int) -> dict[str, int]:
    """Key -> layer number, all of them different; `num_layers` itself only where the last layer is not given."""
    numbers: dict[str, int] = {}
    given: set[int] = set()
    for key in decoders:
        if not _LAYER.match(key):
            raise ConfigError(f"decoders: {shown(key)} is not a layer number.", f"Write 0 to {num_layers - 1}.")
        layer = int(key)
        if layer > num_layers:
            raise ConfigError(f"decoders: there is no layer {layer}.", f"Layers are 0 to {num_layers - 1}.")
        if layer in given:
            raise ConfigError(f"decoders: layer {layer} is given twice, the second time as {shown(key)}.")
        given.add(layer)
        numbers[key] = layer
    if {num_layers, num_layers - 1} <= given:
        raise ConfigError(
            f"decoders: there is no layer {num_layers}, and the last layer, {num_layers - 1}, is given as well.",
            "TTTv1 counts from 0.",
        )
    return numbers


def _stated(sections: Mapping[str, Any], prefix: str, spelled: Literal["name", "value"]) -> tuple[Stated, bool]:
    """The settings of one layer in TTTv1's order, and whether a word is spelled otherwise than `spelled`."""
    pairs: dict[str, list[tuple[Word, Word]]] = {name: [] for name in _SECTIONS}
    respelled = False
    for section, settings in sections.items():
        known_key(section, _SECTIONS, (prefix or "the optimisation string").rstrip("."))
        groups, kinds = _SECTIONS[section]
        where = f"{prefix}{section}"
        for key, value in mapping(settings, where).items():
            group = find(groups, key, where)
            if any(group is known for known, _ in pairs[section]):
                raise ConfigError(f"{where}: {group.value} is set twice.", "Keep one of them.")
            setting = _setting(group, kinds, value, f"{where}.{group.value}")
            pairs[section].append((group, setting))
            respelled |= key != getattr(group, spelled) or value != getattr(setting, spelled)
    formats, kernels = (_in_order(_SECTIONS[section][0], found) for section, found in pairs.items())
    return Stated(formats, kernels), respelled


def _in_order(kind: Literal["tensors", "ops"], pairs: list[tuple[Word, Word]]) -> tuple[tuple[Word, Word], ...]:
    return tuple(sorted(pairs, key=lambda pair: words(kind).index(pair[0])))


def _setting(group: Word, kind: Literal["formats", "fidelities"], value: Any, where: str) -> Word:
    if group.ours == "activations" and isinstance(value, str) and value.casefold() == MIXED.value:
        return MIXED
    return find(kind, value, where)


def _precision(stated: Stated) -> dict[str, DataFormat]:
    found: dict[str, DataFormat] = {}
    for group, setting in stated.formats:
        if setting is MIXED:
            found |= {"activations": DataFormat.BF16, "attention_activations": DataFormat.BF16}
            found["mlp_activations"] = DataFormat.BFP8
        else:
            found[group.ours] = setting.ours
    return found


def _compute(stated: Stated) -> dict[str, dict[str, Any]]:
    return {group.ours: dict(setting.ours) for group, setting in stated.kernels}


def _values(stated: Stated) -> dict[str, Any]:
    entry = LayerEntry("all", _precision(stated), _compute(stated))
    return entry.values()


def _entries(layers: Mapping[int, Stated], origin: str) -> list[LayerEntry]:
    """One entry for all layers that say the same, in the order of their first layers."""
    alike: dict[Stated, list[int]] = {}
    for layer, stated in layers.items():
        if stated != Stated():
            alike.setdefault(stated, []).append(layer)
    return [
        LayerEntry(write_select(numbers), _precision(stated), _compute(stated), origin)
        for stated, numbers in alike.items()
    ]


def _string_sections(text: str) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    position, comma = 0, ","
    while position < len(text) and comma:
        match = _SECTION.match(text, position)
        if match is None:
            break
        name, body, comma = match[1], match[2], match[3]
        known_key(name, _SECTIONS, "the optimisation string")
        if name in sections:
            raise ConfigError(f"the optimisation string has {name} twice.", "Keep one of them.")
        sections[name] = _string_pairs(name, body)
        position = match.end()
    if position < len(text) or not sections:
        rest = text[position:].strip()
        hint = did_you_mean(rest[:60], _MODES) if rest.isidentifier() else "Expected precision_cfg = {ff1_3: bfp4, …}."
        raise ConfigError(f"cannot read the optimisation string at {shown(rest[:40])}.", hint)
    return sections


def _string_pairs(section: str, body: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in (piece.strip() for piece in body.rstrip().removesuffix(",").split(",")):
        if not part and not pairs and not body.strip():
            break
        key, colon, value = (word.strip().strip("'\"") for word in part.partition(":"))
        if not colon or not key or not value:
            raise ConfigError(f"{section}: cannot read {shown(part)}.", "Write group: setting.")
        if key in pairs:
            raise ConfigError(f"{section}: {shown(key)} is set twice.", "Keep one of them.")
        pairs[key] = value
    return pairs


def _as_path(source: str | os.PathLike[str]) -> Path | None:
    if isinstance(source, str):
        named = source.strip().endswith(".json") and not set(source) & set("{}\n\r")
        return Path(source) if named else None
    try:
        return Path(source)
    except TypeError:
        raise ConfigError(f"the decoder configuration must be text or a path, not {type(source).__name__}.") from None


def _mode_in_name(path: Path | None) -> str | None:
    """The mode that the file's name says, else the one its directories say; None when both or neither are named."""
    for part in reversed(path.parts if path is not None else ()):
        named = [mode for mode in _MODES if mode in part.casefold()]
        if named:
            return named[0] if len(named) == 1 else None
    return None


def _check_num_layers(num_layers: int) -> None:
    if isinstance(num_layers, bool) or not isinstance(num_layers, int) or not 1 <= num_layers <= MAX_LAYERS:
        raise ConfigError(f"the number of layers must be from 1 to {MAX_LAYERS}, not {shown(num_layers)}.")
