# SPDX-License-Identifier: Apache-2.0
"""Settings of the serving tools: vLLM's `--additional-config '{"tt": …}'` and a tt-inference-server device entry.

Only what a DeviceConfig knows is filled in: the trace region, the users at once, the data-parallel groups. Everything
else is carried along unchanged in `custom_configs` under "vllm" and "server_spec", so that reading and writing gives
the same settings back. Keys: README of vllm-tt-plugin (section Configuration), and tt-inference-server's
workflows/model_spec.py (DeviceModelSpec) and catalogues under workflows/model_specs, as of August 2026.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ...common.errors import ConfigError, did_you_mean
from ...hardware.enums import PrecisionMode
from ...hardware.schema import DeviceConfig
from ..conf_folders import read_yaml
from ..device_presets import precision_mode
from ..groups import device_types
from ..kernel_words import shown
from ..model_rules import TRACE_REGION, ModelShape, default_trace_region
from ..serving_catalogue import serving_trace_region
from .imported import Imported, Written
from .untrusted import check_text, known_key, mapping, parse_json, parse_yaml

MAX_COMMAND = 64_000

# vllm-tt-plugin's keys: the values a key may have, or their type. override_tt_config takes the same keys.
TT_KEYS: dict[str, tuple[str, ...] | type] = {
    "sample_on_device_mode": ("all", "decode_only"),
    "trace_mode": ("all", "decode_only", "none"),
    "enable_model_warmup": bool,
    "trace_region_size": int,
    "worker_l1_size": int,
    "l1_small_size": int,
    "fabric_config": ("DISABLED", "FABRIC_1D", "FABRIC_2D", "FABRIC_1D_RING", "CUSTOM"),
    "fabric_reliability_mode": ("STRICT_INIT", "RELAXED_INIT"),
    "dispatch_core_axis": ("row", "col"),
    "always_compat_sampling": bool,
    "decode_interleave_prefill_steps": int,
    "decode_interleave_decode_steps": int,
    "input_queue_batching_delay": float,
    "optimizations": ("performance", "accuracy"),
    "register_test_models": bool,
    "rank_binding": str,
    "mpi_args": str,
    "extra_ttrun_args": str,
    "config_pkl_dir": str,
    "env_passthrough": list,
}

# tt-inference-server's DeviceModelSpec.
SPEC_KEYS: dict[str, type] = {
    "device": str,
    "max_concurrency": int,
    "max_context": int,
    "default_impl": bool,
    "env_vars": dict,
    "vllm_args": dict,
    "override_tt_config": dict,
    "known_issues": list,
    "system_requirements": dict,
    "tensor_cache_timeout": float,
    "eval_max_retries": int,
    "perf_targets_map": dict,
    "perf_reference": list,
}

# Our device types where tt-inference-server spells them otherwise than in capitals.
_SERVER_DEVICES = {"TG": "GALAXY", "WH_GALAXY": "GALAXY", "BH_GALAXY": "BLACKHOLE_GALAXY", "BHGLX": "BLACKHOLE_GALAXY"}
# A device of theirs that is one of ours in another house: eight chips of a Galaxy, wired as a T3K.
_SAME_AS = {"GALAXY_T3K": "T3K"}
_FLAGS = ("--additional-config", "--additional_config", "--plugin-config")
_SIZES = ("trace_region_size", "worker_l1_size", "l1_small_size")


class ServedModel(Protocol):
    """What a server entry says of a model."""

    @property
    def max_context(self) -> int:
        """The longest context in tokens."""
        ...


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
    than what presets and tables give. What `read_vllm` kept is written back in its place. Raises ConfigError for a mode
    that the plugin has no word for, and for kept values it would refuse.
    """
    kept = mapping((config.custom_configs or {}).get("vllm", {}), "custom_configs.vllm")
    trace = _trace_region(config, model, kept, "vllm" in (config.custom_configs or {}), typed)
    text = json.dumps({"tt": _tt_settings(kept, trace, mode)})
    return Written(f"--additional-config {shlex.quote(text)}")


def read_vllm(text: str) -> Imported:
    """What vllm-tt-plugin was told: `--additional-config '{"tt": {…}}'`, `{"tt": {…}}`, or the inner mapping.

    The result has `mode` from `optimizations`, the value device.trace_region_size, and every setting as it stood in
    `custom_configs["vllm"]`. Raises ConfigError for unknown keys, naming the nearest, and for values of the wrong kind.
    """
    what = "the additional configuration"
    tree = mapping(parse_json(_argument(check_text(text, what, MAX_COMMAND)), what), what)
    if set(tree) == {"tt"}:
        tree = mapping(tree["tt"], f"{what}: tt")
    settings = _checked_tt(tree, "tt")
    return Imported(
        mode=settings.get("optimizations"), values=_device_values(settings), custom_configs={"vllm": settings}
    )


def write_server_spec(
    config: DeviceConfig,
    spec: ServedModel,
    *,
    mode: str | PrecisionMode | None = None,
    model: ModelShape | None = None,
    typed: Iterable[str] = (),
) -> Written:
    """One entry of tt-inference-server's `device_model_specs` as YAML: how `spec` runs on `config`'s device.

    max_concurrency is the users of all data-parallel groups together, max_context the model's own. The trace region is
    written as by `write_vllm`, for which `model` is to be named. What `read_server_spec` kept is written back in its
    place. Raises ConfigError for a mode that has no word there.
    """
    import yaml

    customs = config.custom_configs or {}
    kept = dict(mapping(customs.get("server_spec", {}), "custom_configs.server_spec"))
    groups = config.parallelism.data_parallel_size
    device = server_device(config.device_type.value)
    if _SAME_AS.get(str(kept.get("device"))) == device:
        device = str(kept["device"])
    entry: dict[str, Any] = {
        "device": device,
        "max_concurrency": config.max_batch_size * groups,
        "max_context": kept.get("max_context", spec.max_context),
        **{key: value for key, value in kept.items() if key not in ("device", "max_concurrency", "max_context")},
    }
    vllm_args = dict(kept.get("vllm_args", {}))
    unsaid = _preset_groups(config.device_type.value) if kept else 1
    if groups != int(vllm_args.get("data_parallel_size", unsaid)):
        vllm_args["data_parallel_size"] = groups
    told = kept.get("override_tt_config", {})
    settings = _tt_settings(told, _trace_region(config, model, told, "server_spec" in customs, typed), mode)
    for key, value in (("vllm_args", vllm_args), ("override_tt_config", settings)):
        if value or key in kept:
            entry[key] = value
    ordered = {key: entry[key] for key in (*kept, *(key for key in entry if key not in kept))}
    return Written(yaml.safe_dump(_checked_spec(ordered), sort_keys=False, allow_unicode=True))


def read_server_spec(text: str) -> Imported:
    """One `device_model_specs` entry of tt-inference-server, as a YAML mapping or a list of one.

    The values are device.device_type (choose the preset by it), users per group, data-parallel groups with the chips
    each has where the entry states them, and the trace region; every setting as it stood is in
    `custom_configs["server_spec"]`. Raises ConfigError for unknown keys and devices, naming the nearest, and for
    anything that is not plain YAML.
    """
    what = "the server specification"
    tree = parse_yaml(text, what)
    if isinstance(tree, list) and len(tree) == 1:
        tree = tree[0]
    entry = _checked_spec(mapping(tree, what))
    for key in ("device", "max_concurrency", "max_context"):
        if key not in entry:
            raise ConfigError(f"{what} has no {key}.")
    settings = entry.get("override_tt_config", {})
    kind = our_device(entry["device"])
    groups, parallelism = _groups(entry, kind)
    values = {
        "device.device_type": kind,
        "device.max_batch_size": entry["max_concurrency"] // groups,
        **parallelism,
        **_device_values(settings),
    }
    return Imported(mode=settings.get("optimizations"), values=values, custom_configs={"server_spec": entry})


def server_device(device_type: str) -> str:
    """tt-inference-server's name of a device type of ours: TG is GALAXY, P150x4 is P150X4."""
    return _SERVER_DEVICES.get(device_type, device_type.upper())


def our_device(name: str) -> str:
    """The device type of ours that tt-inference-server calls `name`. Raises ConfigError naming the nearest."""
    known = {server_device(kind): kind for kind in device_types()}
    wanted = _SAME_AS.get(name.upper(), name.upper())
    if wanted not in known:
        raise ConfigError(f"{shown(name)} is not a known device.", did_you_mean(name[:60], known))
    return known[wanted]


def _groups(entry: Mapping[str, Any], device_type: str) -> tuple[int, dict[str, int]]:
    """Data-parallel groups of an entry, and what it says of parallelism: nothing unless it states how many."""
    users = entry["max_concurrency"]
    stated = entry.get("vllm_args", {}).get("data_parallel_size")
    if stated is None:
        groups = _preset_groups(device_type)
        return (groups, {}) if users % groups == 0 else (1, {"parallelism.data_parallel_size": 1})
    groups = int(stated) if isinstance(stated, str) and re.fullmatch("[0-9]{1,6}", stated) else stated
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or users % groups:
        raise ConfigError(
            f"vllm_args.data_parallel_size is {shown(stated)}; max_concurrency is {users}.",
            "Make max_concurrency a multiple of data_parallel_size.",
        )
    rows, columns = _device_file(device_type)["device"].get("mesh_shape", (1, 1))
    split = {} if rows * columns % groups else {"parallelism.tensor_parallel_size": rows * columns // groups}
    return groups, {"parallelism.data_parallel_size": groups, **split}


def _preset_groups(device_type: str) -> int:
    return _device_file(device_type).get("parallelism", {}).get("data_parallel_size", 1)


def _device_file(device_type: str) -> dict[str, Any]:
    return read_yaml(f"device/{device_types()[device_type]}.yaml")


def _trace_region(
    config: DeviceConfig, model: ModelShape | None, kept: Mapping[str, Any], read: bool, typed: Iterable[str]
) -> int | None:
    """Bytes of trace region to tell a server of; None where the plugin is to choose. `read`: it was read from one."""
    size, kind = config.trace_region_size, config.device_type.value
    preset = size if config.system is None else config.system.trace_region_size
    ours = {preset} if model is None else {preset, default_trace_region(model, kind, preset)}
    if TRACE_REGION in set(typed) or "trace_region_size" in kept or size not in ours:
        return size
    return None if read or model is None else serving_trace_region(model.name, kind)


def _tt_settings(kept: Mapping[str, Any], trace: int | None, mode: str | PrecisionMode | None) -> dict[str, Any]:
    """The plugin's settings: the kept ones in their order, with the trace region and the mode."""
    settings = dict(kept)
    if trace is not None:
        settings["trace_region_size"] = trace
    if mode is not None:
        name = precision_mode(mode).value
        if name not in TT_KEYS["optimizations"]:  # type: ignore[operator]
            raise ConfigError(f"the serving tools have no {name} mode.", "Use performance or accuracy.")
        settings["optimizations"] = name
    return _checked_tt(settings, "tt")


def _device_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    size = settings.get("trace_region_size")
    return {} if size is None else {TRACE_REGION: size}


def _checked_tt(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key, value in settings.items():
        wanted = TT_KEYS[known_key(key, TT_KEYS, where)]
        if value is None and key == "sample_on_device_mode":
            continue  # the host samples
        if isinstance(wanted, tuple):
            if value not in wanted:
                near = did_you_mean(str(value)[:60], wanted)
                raise ConfigError(f"{where}.{key}: {shown(value)} is not an allowed value.", near)
        else:
            _check_kind(value, wanted, f"{where}.{key}")
        if key in _SIZES and value < 0:
            raise ConfigError(f"{where}.{key} must not be negative.")
    return dict(settings)


def _checked_spec(entry: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in entry.items():
        _check_kind(value, SPEC_KEYS[known_key(key, SPEC_KEYS, "the server specification")], key)
    for key in ("max_concurrency", "max_context"):
        if key in entry and entry[key] < 1:
            raise ConfigError(f"{key} must be at least 1.")
    _checked_tt(entry.get("override_tt_config", {}), "override_tt_config")
    return dict(entry)


def _check_kind(value: Any, wanted: type, where: str) -> None:
    right = isinstance(value, (int, float) if wanted is float else wanted)
    if not right or (isinstance(value, bool) and wanted is not bool):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
        raise ConfigError(f"{where} must be {names.get(wanted, 'a mapping')}, not {shown(value)}.")


def _argument(text: str) -> str:
    """The JSON inside a command line's argument, or the text itself."""
    if text.lstrip().startswith("{"):
        return text
    try:
        parts = shlex.split(text)
    except ValueError as problem:
        raise ConfigError(f"the additional configuration is not a command line: {problem}.") from None
    for position, part in enumerate(parts):
        flag, equals, value = part.partition("=")
        if flag in _FLAGS and equals:
            return value
        if part in _FLAGS and position + 1 < len(parts):
            return parts[position + 1]
    raise ConfigError("no --additional-config in the text.", "Expected --additional-config '{\"tt\": {…}}'.")
