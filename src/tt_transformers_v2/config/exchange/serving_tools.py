# SPDX-License-Identifier: Apache-2.0
"""What the serving tools are told on a command line: vLLM's `--additional-config '{"tt": …}'`, which older commands
call `--override_tt_config '{…}'`.

Only what a DeviceConfig knows is filled in: the trace region and the precision mode. Everything else is carried along
unchanged in `custom_configs` under "vllm", so that reading and writing gives the same settings back.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ...common.errors import ConfigError
from ...hardware.enums import PrecisionMode
from ...hardware.schema import DeviceConfig
from ..device_presets import precision_mode
from ..model_rules import TRACE_REGION, ModelShape, default_trace_region
from ..serving_catalogue import serving_trace_region
from .imported import Imported, Written
from .plugin_settings import OPTIMIZATIONS, understood
from .untrusted import check_text, mapping, parse_json

MAX_COMMAND = 64_000

_CONFIG_FLAGS = ("--additional-config", "--additional_config", "--plugin-config")
# vLLM took the plugin's settings alone here, before it had --additional-config.
_OVERRIDE_FLAGS = ("--override-tt-config", "--override_tt_config")


def write_vllm(
    config: DeviceConfig,
    *,
    mode: str | PrecisionMode | None = None,
    model: ModelShape | None = None,
    typed: Iterable[str] = (),
) -> Written:
    """The arguments that tell vllm-tt-plugin of `config`: `--additional-config '{"tt": {…}}'`, ready for a shell.

    `mode` becomes `optimizations`, which knows performance and accuracy only. The trace region is the one that servers
    of `model` ship with, and left out where they ship none, unless it is among the paths that were `typed` or other
    than what presets and tables give. What was read, from a command or a server's entry, is written back in its place.
    Raises ConfigError for a mode that the plugin has no word for.
    """
    customs = config.custom_configs or {}
    kept = kept_settings(customs)
    trace = trace_region(config, model, kept, bool({"vllm", "server_spec"} & set(customs)), typed)
    text = json.dumps({"tt": tt_settings(kept, trace, mode)})
    return Written(f"--additional-config {shlex.quote(text)}")


def read_vllm(text: str) -> Imported:
    """What vllm-tt-plugin was told: `--additional-config '{"tt": {…}}'` or `--override_tt_config '{…}'` in a command,
    `{"tt": {…}}`, or the inner mapping.

    The result has `mode` from `optimizations`, the value device.trace_region_size, and every setting as it stood in
    `custom_configs["vllm"]`; findings name what is not understood. Raises ConfigError for text that is no JSON and for
    a trace region that is no size.
    """
    what = "the additional configuration"
    argument = _argument(check_text(text, what, MAX_COMMAND))
    tree = mapping(parse_json(argument, what), what)
    if set(tree) == {"tt"}:
        tree = mapping(tree["tt"], f"{what}: tt")
    known, findings = understood(tree, "tt")
    return Imported(
        mode=known.get("optimizations"),
        values=device_values(known),
        findings=findings,
        custom_configs={"vllm": dict(tree)},
    )


def kept_settings(customs: Mapping[str, Any]) -> dict[str, Any]:
    """The plugin's settings among custom_configs, from whichever of the serving tools they were read."""
    entry = mapping(customs.get("server_spec", {}), "custom_configs.server_spec")
    told = entry.get("override_tt_config") or {}
    return {**mapping(told, "override_tt_config"), **mapping(customs.get("vllm", {}), "custom_configs.vllm")}


def trace_region(
    config: DeviceConfig, model: ModelShape | None, kept: Mapping[str, Any], read: bool, typed: Iterable[str]
) -> int | None:
    """Bytes of trace region to tell a server of; None where the plugin is to choose. `read`: it was read from one."""
    size, kind = config.trace_region_size, config.device_type.value
    preset = size if config.system is None else config.system.trace_region_size
    ours = {preset} if model is None else {preset, default_trace_region(model, kind, preset)}
    if TRACE_REGION in set(typed) or kept.get("trace_region_size") is not None or size not in ours:
        return size
    return None if read or model is None else serving_trace_region(model.name, kind)


def tt_settings(kept: Mapping[str, Any], trace: int | None, mode: str | PrecisionMode | None) -> dict[str, Any]:
    """The plugin's settings: the kept ones in their order, with the trace region and the mode."""
    settings = dict(kept)
    if trace is not None:
        settings["trace_region_size"] = trace
    if mode is not None:
        name = precision_mode(mode).value
        if name not in OPTIMIZATIONS:
            raise ConfigError(f"the serving tools have no {name} mode.", "Use performance or accuracy.")
        settings["optimizations"] = name
    return settings


def device_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a DeviceConfig among the plugin's settings."""
    size = settings.get("trace_region_size")
    return {} if size is None else {TRACE_REGION: size}


def _argument(text: str) -> str:
    """The JSON inside a command line's argument, or the text itself."""
    if text.lstrip().startswith("{"):
        return text
    try:
        parts = shlex.split(text)
    except ValueError as problem:
        raise ConfigError(f"the additional configuration is not a command line: {problem}.") from None
    found: dict[str, str] = {}
    for position, part in enumerate(parts):
        flag, equals, value = part.partition("=")
        if flag not in (*_CONFIG_FLAGS, *_OVERRIDE_FLAGS):
            continue
        if not equals and position + 1 == len(parts):
            raise ConfigError(f"{flag} has no value in the text.", "Expected JSON after it.")
        if found:
            raise ConfigError(f"the text has both {next(iter(found))} and {flag}.", "Keep one of them.")
        found[flag] = value if equals else parts[position + 1]
    if not found:
        raise ConfigError(
            "no --additional-config or --override_tt_config in the text.",
            "Expected --additional-config '{\"tt\": {…}}'.",
        )
    return next(iter(found.values()))
