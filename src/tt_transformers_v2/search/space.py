# SPDX-License-Identifier: Apache-2.0
"""What a search may change: in every layer, at every site, one of a few options.

A site is a group of weights with the op that multiplies by them (or the KV cache with attention). An assignment says
which option each (layer, site) takes; as per-layer entries it makes a hardware configuration.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..common.checked import enum_member
from ..common.errors import ConfigError, did_you_mean
from ..config.kernel_words import kernel_settings, words
from ..config.layers import LayerEntry, apply_layers, write_select
from ..config.resolve import Experiment
from ..config.search_schema import Rounding
from ..config.value_paths import set_value
from ..hardware.enums import DataFormat, MathFidelity
from ..hardware.op_table import LM_HEAD, READERS, ModelOp
from ..hardware.schema import DeviceConfig

# Site, which is the tensor group whose format it sets -> an op of the group whose kernel it sets. These are the finest
# groups that weights have: a setting for qkv is one for its decode and prefill forms.
SITES: dict[str, ModelOp] = {site: ops[0] for site, ops in READERS.items() if ops[0].op_group}
# The one site of the whole model; its "layer" is -1.
HEAD = LM_HEAD.tensor_group


@dataclass(frozen=True)
class Option:
    """A format, kernel settings, or both, and how weights are rounded; `text` is how conf/search writes it."""

    text: str
    format: DataFormat | None = None
    kernel: tuple[tuple[str, Any], ...] = ()
    rounding: Rounding = Rounding.nearest

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, order=True)
class Place:
    """A site in a layer; `layer` is -1 for the LM head."""

    layer: int
    site: str

    def __str__(self) -> str:
        return self.site if self.layer < 0 else f"layer {self.layer} {self.site}"


Assignment = Mapping[Place, Option]


@dataclass(frozen=True)
class Space:
    """The options of every site, the most accurate first, and how many layers there are."""

    options: dict[str, tuple[Option, ...]]
    num_layers: int

    def places(self) -> list[Place]:
        """Every (layer, site), layer by layer."""
        sites = [site for site in self.options if site != HEAD]
        found = [Place(layer, site) for layer in range(self.num_layers) for site in sites]
        return found + ([Place(-1, HEAD)] if HEAD in self.options else [])

    def base(self) -> dict[Place, Option]:
        """The most accurate option everywhere."""
        return {place: self.options[place.site][0] for place in self.places()}


def read_space(written: Mapping[str, Iterable[str]], num_layers: int) -> Space:
    """The space of `search.space`. Raises ConfigError for unknown sites and options, and where nothing can vary."""
    options = {}
    for site, texts in written.items():
        if site not in SITES:
            raise ConfigError(f"search.space has no site {site!r}.", did_you_mean(str(site), SITES))
        if isinstance(texts, str) or not isinstance(texts, (list, tuple)):
            raise ConfigError(f"search.space.{site} must be a list such as [BFP8/HIFI2, BFP4/LOFI], not {texts!r}.")
        found = [read_option(text, f"search.space.{site}") for text in texts]
        if len({dataclasses.replace(option, text="") for option in found}) < len(found):
            raise ConfigError(f"search.space.{site} has an option twice: {', '.join(map(str, texts))}.")
        if found:
            options[site] = tuple(found)
    if not any(len(found) > 1 for found in options.values()):
        raise ConfigError(
            "search.space leaves nothing to choose.",
            "Give a site two options: search.space.ff2=[BFP8/HIFI2,BFP4/LOFI].",
        )
    return Space(options, num_layers)


def read_option(text: Any, where: str) -> Option:
    """FORMAT, FORMAT/KERNEL or /KERNEL. Raises ConfigError naming `where` and the nearest word."""
    if not isinstance(text, str) or not text.strip("/ "):
        raise ConfigError(f"{where}: {text!r} is not an option.", "Write FORMAT, FORMAT/KERNEL or /KERNEL: BFP4/LOFI.")
    first, slash, second = text.strip().partition("/")
    data_format = enum_member(DataFormat, first, where) if first else None
    return Option(text.strip(), data_format, _kernel(second, where) if slash else ())


def _kernel(text: str, where: str) -> tuple[tuple[str, Any], ...]:
    fidelities = {member.value: member for member in MathFidelity}
    if text in fidelities:
        return (("math_fidelity", fidelities[text]),)
    named = {word.name for word in words("fidelities")}
    if text not in named:
        raise ConfigError(
            f"{where}: {text!r} is neither a kernel setting of TTTv1 nor a math fidelity.",
            did_you_mean(text, [*named, *fidelities]),
        )
    settings = kernel_settings(text)
    return tuple((name, settings[name]) for name in sorted(settings))


def entries(assignment: Assignment, origin: str = "") -> list[LayerEntry]:
    """The assignment's layers as per-layer entries, which say nothing of rounding: one for each set of layers that are
    alike."""
    by_layer: dict[int, dict[str, Option]] = {}
    for place, option in assignment.items():
        if place.layer >= 0:
            by_layer.setdefault(place.layer, {})[place.site] = Option("", option.format, option.kernel)
    alike: dict[tuple[tuple[str, Option], ...], list[int]] = {}
    for layer, chosen in sorted(by_layer.items()):
        alike.setdefault(tuple(sorted(chosen.items())), []).append(layer)
    return [_entry(write_select(layers), dict(chosen), origin) for chosen, layers in alike.items()]


def _entry(select: str, chosen: Mapping[str, Option], origin: str) -> LayerEntry:
    precision: dict[str, Any] = {}
    compute: dict[str, dict[str, Any]] = {}
    for site, option in chosen.items():
        if option.format is not None:
            precision[site] = option.format
        if option.kernel:
            compute[SITES[site].op_group] = dict(option.kernel)
    return LayerEntry(select, precision, compute, origin)


def configured(hardware: DeviceConfig, assignment: Assignment, num_layers: int) -> DeviceConfig:
    """`hardware` with the assignment in place of whatever it has at those places; a new object.

    Layers that differ at other sites keep that difference.
    """
    changed = copy.copy(hardware)
    changed.precision, changed.compute = copy.deepcopy(hardware.precision), copy.deepcopy(hardware.compute)
    changed.layers = {}
    for place, option in assignment.items():
        if place.layer < 0:
            _set_head(changed, option)
    layers: dict[int, DeviceConfig] = {}
    for own, members in hardware.layer_kinds(num_layers):
        base = changed if own is hardware else own
        wanted = {place: option for place, option in assignment.items() if place.layer in set(members)}
        layers |= dict.fromkeys(members, base) if base is not changed else {}
        layers |= apply_layers(_without_layers(base), entries(wanted), num_layers)
    changed.layers = dict(sorted(layers.items()))
    return changed


def _without_layers(config: DeviceConfig) -> DeviceConfig:
    if not config.layers:
        return config
    plain = copy.copy(config)
    plain.layers = {}
    return plain


def _set_head(config: DeviceConfig, option: Option) -> None:
    if option.format is not None:
        set_value(config, f"precision.{HEAD}", option.format)
    for name, value in option.kernel:
        set_value(config, f"compute.{LM_HEAD.op_group}.{name}", value)


def with_assignment(experiment: Experiment, assignment: Assignment) -> Experiment:
    """The experiment on the configuration that the assignment makes; findings and request are not those of it."""
    hardware = configured(experiment.hardware, assignment, experiment.spec.num_layers)
    return dataclasses.replace(experiment, hardware=hardware)
