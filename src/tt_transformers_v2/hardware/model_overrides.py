# SPDX-License-Identifier: Apache-2.0
"""Model rules: what a model's size, family and name change in a hardware configuration, from conf/rules."""

from __future__ import annotations

import copy
import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .composition import read_yaml
from .errors import ConfigError
from .paths import get_value, set_value
from .schema import DeviceConfig, PrecisionMode
from .typed import governed_by


class ModelShape(Protocol):
    """What the rules look at in a model specification."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def num_parameters(self) -> int: ...


@dataclass(frozen=True)
class Rule:
    """One entry of conf/rules/model_precision.yaml."""

    id: str
    when: Mapping[str, Any]
    set: Mapping[str, Any]
    then: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    source: str = ""


@dataclass(frozen=True)
class RuleEffect:
    """One value a rule set, or would have set had the user not typed `overruled_by`."""

    rule: str
    path: str
    value: Any
    previous: Any
    overruled_by: str | None = None
    why: str = field(default="", compare=False)


class ModelHardwareOverrides:
    """The seed design's entry point to the rules."""

    # 70.55 B (Llama) and 72.7 B (Qwen) both count; the figure itself stands in the rule.
    LARGE_MODEL_THRESHOLD = 70e9

    @staticmethod
    def apply_model_overrides(config: DeviceConfig, model_spec: ModelShape) -> DeviceConfig:
        """A copy of `config` with every model rule applied; `config` itself is left as it is."""
        return apply_rules(config, model_spec)[0]


def apply_rules(
    config: DeviceConfig, model: ModelShape, *, mode: PrecisionMode | None = None, typed: Iterable[str] = ()
) -> tuple[DeviceConfig, list[RuleEffect]]:
    """A copy of `config` after the rules that hold for `model`, and what each of them did.

    `mode` None means unknown: conditions on the mode then hold. `typed` are the dotted paths the user set; a rule
    leaves them, and the finer groups they govern, alone and says so.
    """
    config = copy.deepcopy(config)
    asked = set(typed)
    effects: list[RuleEffect] = []
    for rule in rules():
        if not holds(rule.when, config, model, mode):
            continue
        effects += _apply_rule(config, rule, asked)
    chunk = prefill_chunk(model.name, config.device_type.value)
    if chunk is not None:
        path = "device.max_prefill_chunk_size"
        effects.append(_apply(config, "prefill-chunk-table", path, chunk, governed_by(path, asked), ""))
    return config, [effect for effect in effects if effect.previous != effect.value]


def rules() -> tuple[Rule, ...]:
    return tuple(Rule(**entry) for entry in read_yaml("rules/model_precision.yaml"))


def base_name(name: str) -> str:
    """A model's name without its -Instruct part, as tt_transformers' tables spell it."""
    return re.sub(r"-Instruct(-.*)?$", "", name)


def prefill_chunk(model_name: str, device_type: str) -> int | None:
    """Tokens per prefill chunk from the published table, or None where it is silent."""
    return read_yaml("rules/prefill_chunks.yaml").get(base_name(model_name), {}).get(device_type)


def holds(when: Mapping[str, Any], config: DeviceConfig, model: ModelShape, mode: PrecisionMode | None) -> bool:
    """Whether every condition of a rule is met. Raises ConfigError for a condition that does not exist."""
    for condition, wanted in when.items():
        if condition == "mode":
            met = mode is None or mode.value in wanted
        elif condition == "device":
            met = config.device_type.value in wanted
        elif condition == "family":
            met = any(fnmatch.fnmatchcase(model.family.lower(), pattern) for pattern in wanted)
        elif condition == "name":
            met = any(fnmatch.fnmatchcase(model.name, pattern) for pattern in wanted)
        elif condition == "parameters_at_least":
            met = model.num_parameters >= wanted
        elif condition == "current":
            met = all(get_value(config, path) == value for path, value in wanted.items())
        else:
            raise ConfigError(f"conf/rules: unknown condition {condition!r}.")
        if not met:
            return False
    return True


def _apply_rule(config: DeviceConfig, rule: Rule, asked: set[str]) -> list[RuleEffect]:
    """Sets what nobody typed; `then` follows only where all of `set` was free."""
    governors = [governor for path in rule.set if (governor := governed_by(path, asked))]
    overruled = governors[0] if governors else None
    first = [_apply(config, rule.id, path, v, governed_by(path, asked), rule.why) for path, v in rule.set.items()]
    return first + [
        _apply(config, rule.id, path, v, overruled or governed_by(path, asked), rule.why)
        for path, v in rule.then.items()
    ]


def _apply(config: DeviceConfig, rule: str, path: str, value: Any, overruled_by: str | None, why: str) -> RuleEffect:
    previous = get_value(config, path)
    if overruled_by is None:
        set_value(config, path, value)
    return RuleEffect(
        rule,
        path,
        value,
        str(previous) if not isinstance(previous, (int, bool)) else previous,
        overruled_by,
        why,
    )
