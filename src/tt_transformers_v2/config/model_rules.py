# SPDX-License-Identifier: Apache-2.0
"""Model rules: what a model's size, family and name change in a hardware configuration, from conf/rules."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..common.errors import ConfigError, did_you_mean
from ..hardware.enums import PrecisionMode
from ..hardware.schema import DeviceConfig
from .conf_folders import conf_dirs, read_yaml, remembered
from .kernel_words import kernel_settings
from .layers import LayerEntry, layer_entry
from .model_shapes import LayerShape, described_spec
from .precedence import governed_by
from .trace_demands import trace_demand
from .value_paths import get_value, set_value, unset_finer

RULE_SETS = ("tttv1", "tttv2", "none")
ALWAYS = "size_and_family"
TRACE_REGION = "device.trace_region_size"


class ModelShape(Protocol):
    """What the rules look at in a model specification."""

    @property
    def name(self) -> str:
        """The model's own name, which rules match by shell patterns."""
        ...

    @property
    def family(self) -> str:
        """The family it belongs to, such as llama-3.1."""
        ...

    @property
    def num_parameters(self) -> int:
        """Parameters of the whole model."""
        ...


@dataclass(frozen=True)
class Rule:
    """One entry of a file under conf/rules, flattened: `values` maps dotted paths, formats before kernels."""

    id: str
    when: Mapping[str, Any]
    formats: Mapping[str, Any]
    kernels: Mapping[str, Any]
    layers: tuple[LayerEntry, ...]
    linked: bool
    why: str
    source: str


@dataclass(frozen=True)
class RuleEffect:
    """One value a rule set, or would have set had the user not typed `overruled_by`."""

    rule: str
    path: str
    value: Any
    previous: Any
    overruled_by: str | None = None
    why: str = field(default="", compare=False)
    source: str = field(default="", compare=False)

    @property
    def changed(self) -> bool:
        """Whether the value differs from what there was, or would."""
        return bool(self.previous != self.value)


@dataclass
class Ruled:
    """A configuration after the rules, what each of them did, and the per-layer entries they bring."""

    config: DeviceConfig
    effects: list[RuleEffect]
    layers: list[LayerEntry]


class ModelHardwareOverrides:
    """The seed design's entry point to the rules."""

    # 70.55 B (Llama) and 72.7 B (Qwen) both count; the figure that decides stands in conf/rules/size_and_family.yaml.
    LARGE_MODEL_THRESHOLD = 70e9

    @staticmethod
    def apply_model_overrides(config: DeviceConfig, model_spec: ModelShape) -> DeviceConfig:
        """A copy of `config` with the seed's rules and the published tables applied; `config` is left as it is.

        Which of TTTv1's two modes the configuration is for is not known here, so its mode rules are left out; use
        `AutoHardwareConfig.from_device` for them.
        """
        return apply_rules(config, model_spec, rule_set="none").config


def apply_rules(
    config: DeviceConfig,
    model: ModelShape,
    *,
    mode: PrecisionMode | None = None,
    rule_set: str = "tttv1",
    typed: Iterable[str] = (),
) -> Ruled:
    """`config` after the rules of `rule_set` and the seed's, in a copy.

    `mode` None means unknown: conditions on the mode then hold. `typed` are the dotted paths the user set; a rule
    leaves them, and the finer groups they govern, alone and says so. Raises ConfigError for an unknown rule set.
    """
    # The published description of the system is shared: no rule changes it.
    original, config = config, copy.deepcopy(config, {id(config.system): config.system})
    asked = set(typed)
    effects: list[RuleEffect] = []
    layers: list[LayerEntry] = []
    for rule in rules(rule_set):
        if holds(rule.when, config, model, mode):
            effects += _apply_rule(config, rule, asked)
            layers += rule.layers
    for rule, path, value in _table_values(model, config.device_type.value, config.trace_region_size):
        effects.append(_apply(config, path, value, governed_by(path, asked), rule))
    return Ruled(config, _final(original, effects), layers)


def rules(rule_set: str = "tttv1") -> tuple[Rule, ...]:
    """The rules of a set in order, followed by those that always apply."""
    return _rules(rule_set, conf_dirs())


@remembered
def _rules(rule_set: str, roots: tuple[Path, ...]) -> tuple[Rule, ...]:
    if rule_set not in RULE_SETS:
        raise ConfigError(f"no rule set named {rule_set!r}.", did_you_mean(rule_set, RULE_SETS, "model_rules="))
    files = [ALWAYS] if rule_set == "none" else [rule_set, ALWAYS]
    found: list[Rule] = []
    for file in files:
        tree = read_yaml(f"rules/{file}.yaml")
        models = tree.get("models")
        found += [_read_rule(entry, models, tree.get("source", "")) for entry in tree["rules"]]
    return tuple(found)


def _read_rule(entry: Mapping[str, Any], models: list[str] | None, source: str) -> Rule:
    when = dict(entry["when"]) | ({"models": models} if models else {})
    kernels: dict[str, Any] = {}
    for group, settings in (entry.get("compute") or {}).items():
        fields = kernel_settings(settings) if isinstance(settings, str) else settings
        kernels.update({f"compute.{group}.{name}": value for name, value in fields.items()})
    formats = {f"precision.{group}": value for group, value in (entry.get("precision") or {}).items()}
    layers = tuple(
        layer_entry(_with_kernels(each), f"conf/rules {entry['id']}", entry["id"]) for each in entry.get("layers", ())
    )
    return Rule(
        entry["id"],
        when,
        formats,
        kernels,
        layers,
        bool(entry.get("linked")),
        entry.get("why", ""),
        entry.get("source", source),
    )


def _with_kernels(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A per-layer entry whose kernel names are written out."""
    compute = {
        group: kernel_settings(settings) if isinstance(settings, str) else settings
        for group, settings in (entry.get("compute") or {}).items()
    }
    return {**entry, "compute": compute}


def base_name(name: str) -> str:
    """A model's name without its -Instruct or -Vision-Instruct part, as tt_transformers' tables spell it."""
    return re.sub(r"(-Vision)?-Instruct(-.*)?$", "", name, flags=re.IGNORECASE)


def prefill_chunk(model_name: str, device_type: str) -> int | None:
    """Tokens per prefill chunk from the published table by the model's name, or None where it is silent."""
    return _table_entry("prefill_chunks", model_name, device_type)


class PublishedChunk(NamedTuple):
    """Tokens per prefill chunk, and the model that the published table has them for."""

    tokens: int
    model: str


def published_chunk(model: ModelShape, device_type: str) -> PublishedChunk | None:
    """The published chunk of a model: by its name, else of a model whose layers have the same shape, else None.

    Where models of one shape have different chunks on a device, the smallest is taken. A model that the table calls
    unsupported on the device has none.
    """
    tokens = prefill_chunk(model.name, device_type)
    if tokens is not None:
        return PublishedChunk(tokens, model.name)
    shape = LayerShape.of(model)
    if shape is None or chunk_unsupported(model.name, device_type):
        return None
    alike = _chunks_by_shape(conf_dirs()).get(shape, ())
    return min((row[device_type] for row in alike if device_type in row), default=None)


@remembered
def _chunks_by_shape(roots: tuple[Path, ...]) -> dict[LayerShape, list[dict[str, PublishedChunk]]]:
    """Device type -> published chunk, by the shape of the models that conf/model describes."""
    found: dict[LayerShape, list[dict[str, PublishedChunk]]] = {}
    for name, row in read_yaml("rules/prefill_chunks.yaml").items():
        spec = described_spec(name)
        shape = None if spec is None else LayerShape.of(spec)
        if shape is not None:
            chunks = {device: PublishedChunk(tokens, name) for device, tokens in row.items() if tokens is not None}
            found.setdefault(shape, []).append(chunks)
    return found


def trace_region(model_name: str, device_type: str) -> int | None:
    """Bytes of trace region from the published table, or None where it is silent."""
    return _table_entry("trace_regions", model_name, device_type)


def chunk_unsupported(model_name: str, device_type: str) -> bool:
    """Whether the published table says that the model does not run on the device."""
    row = _table("prefill_chunks").get(base_name(model_name).casefold(), {})
    return device_type in row and row[device_type] is None


def _table(name: str) -> dict[str, dict[str, int | None]]:
    return _read_table(name, conf_dirs())


@remembered
def _read_table(name: str, roots: tuple[Path, ...]) -> dict[str, dict[str, int | None]]:
    return {base_name(model).casefold(): row for model, row in read_yaml(f"rules/{name}.yaml").items()}


def _table_entry(table: str, model_name: str, device_type: str) -> int | None:
    return _table(table).get(base_name(model_name).casefold(), {}).get(device_type)


def _table_values(model: ModelShape, device_type: str, preset: int) -> list[tuple[Rule, str, int]]:
    """(rule, path, value) from the tables by model and device; `preset` is the trace region without them."""
    found: list[tuple[Rule, str, int]] = []
    if chunk := published_chunk(model, device_type):
        why = "" if chunk.model == model.name else f"the published chunk of {chunk.model}, which has the same shape"
        found.append((_table_rule("prefill-chunk-table", why), "device.max_prefill_chunk_size", chunk.tokens))
    trace = trace_region(model.name, device_type)
    if trace is not None:
        found.append((_table_rule("trace-region-table"), TRACE_REGION, trace))
    demand = trace_demand(model, device_type)
    if demand and 0 < (preset if trace is None else trace) < demand.bytes:
        why = f"traces of {demand.model} on {demand.device} took {demand.bytes} bytes"
        found.append((_table_rule("trace-region-demand", why, demand.source), TRACE_REGION, demand.bytes))
    return found


def default_trace_region(model: ModelShape, device_type: str, preset: int) -> int:
    """Bytes of trace region of a model on a device that has `preset` of it: what the tables give, else that."""
    return {path: value for _, path, value in _table_values(model, device_type, preset)}.get(TRACE_REGION, preset)


def _table_rule(id: str, why: str = "", source: str = "") -> Rule:
    return Rule(id, {}, {}, {}, (), False, why, source)


def holds(when: Mapping[str, Any], config: DeviceConfig, model: ModelShape, mode: PrecisionMode | None) -> bool:
    """Whether every condition of a rule is met. Raises ConfigError for a condition that does not exist."""
    for condition, wanted in when.items():
        if condition == "mode":
            met = mode is None or mode.value in wanted
        elif condition == "device":
            met = config.device_type.value in wanted
        elif condition == "arch":
            met = config.spec.chip.arch.value in wanted
        elif condition == "family":
            met = any(fnmatch.fnmatchcase(model.family.casefold(), pattern) for pattern in wanted)
        elif condition in ("name", "models"):
            met = name_matches(model.name, wanted)
        elif condition == "not_name":
            met = not name_matches(model.name, wanted)
        elif condition == "parameters_at_least":
            met = model.num_parameters >= wanted
        elif condition == "current":
            met = all(get_value(config, path) == value for path, value in wanted.items())
        else:
            raise ConfigError(f"conf/rules: unknown condition {condition!r}.")
        if not met:
            return False
    return True


def name_matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a model's name, with or without -Instruct, is like one of the shell patterns, in any case."""
    spellings = {name.casefold(), base_name(name).casefold()}
    return any(fnmatch.fnmatchcase(spelling, pattern) for spelling in spellings for pattern in patterns)


def knobs(config: DeviceConfig, model: ModelShape) -> dict[str, int]:
    """The numeric choices of conf/rules/knobs.yaml that hold for a model on a device."""
    entries = read_yaml("rules/knobs.yaml")
    return {entry["knob"]: entry["value"] for entry in entries if holds(entry["when"], config, model, None)}


def _apply_rule(config: DeviceConfig, rule: Rule, asked: set[str]) -> list[RuleEffect]:
    """Sets what nobody typed; linked kernels follow only where all of the formats were free."""
    governors = [governor for path in rule.formats if (governor := governed_by(path, asked))]
    overruled = governors[0] if governors and rule.linked else None
    wanted = {path: (value, governed_by(path, asked)) for path, value in rule.formats.items()}
    wanted |= {path: (value, overruled or governed_by(path, asked)) for path, value in rule.kernels.items()}
    unset_finer(config, [path for path, (_, governor) in wanted.items() if governor is None], asked)
    return [_apply(config, path, value, governor, rule) for path, (value, governor) in wanted.items()]


def _apply(config: DeviceConfig, path: str, value: Any, governor: str | None, rule: Rule) -> RuleEffect:
    if governor is None:
        set_value(config, path, value)
    return RuleEffect(rule.id, path, value, None, governor, rule.why, rule.source)


def _final(original: DeviceConfig, effects: list[RuleEffect]) -> list[RuleEffect]:
    """The last word on every path, with the value there was before any rule."""
    last = {effect.path: effect for effect in effects}
    return [dataclasses.replace(e, previous=_plain(get_value(original, path))) for path, e in last.items()]


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, bool)) else str(value)
