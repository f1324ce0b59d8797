# SPDX-License-Identifier: Apache-2.0
"""One device entry of tt-inference-server: how one model is served on one device.

Read as it stands in `device_model_specs` of a catalogue (workflows/model_specs), and as `device_model_spec` inside a
released entry (release_model_spec.json). What a DeviceConfig or a workload has a word for is filled in; the entry
itself is kept unchanged in `custom_configs` under "server_spec", so that reading and writing gives it back. Keys:
tt-inference-server's workflows/model_spec.py (DeviceModelSpec), and PyPI tenstorrent 1.2.1, both of 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ...common.errors import ConfigError, closest, did_you_mean
from ...hardware.enums import PrecisionMode
from ...hardware.schema import DeviceConfig
from ..conf_folders import read_yaml
from ..findings import Finding, Severity
from ..groups import device_types
from ..kernel_words import shown
from ..model_rules import ModelShape
from .imported import Imported, Written
from .plugin_settings import is_kind, kind_name, understood, unknown_key, unknown_value
from .serving_tools import device_values, kept_settings, trace_region, tt_settings
from .untrusted import mapping

SPEC_KEYS: dict[str, type] = {
    "device": str,
    "max_concurrency": int,
    "max_context": int,
    "max_tokens_all_users_override": int,
    "max_tokens_all_users": int,
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
    "image_benchmark_num_batches": int,
}
# What the values are made of, and so has to be right.
_READ = ("device", "max_concurrency", "max_context", "max_tokens_all_users_override", "max_tokens_all_users")
_READ_SECTIONS = ("env_vars", "vllm_args", "override_tt_config")

# Our device types where tt-inference-server spells them otherwise than in capitals. Its GALAXY sets MESH_DEVICE=TG.
_SERVER_DEVICES = {"TG": "GALAXY", "WH_GALAXY": "GALAXY", "BH_GALAXY": "BLACKHOLE_GALAXY", "BHGLX": "BLACKHOLE_GALAXY"}
_OUR_DEVICES = {"GALAXY": "TG"}
# A device of theirs that is one of ours in another house: eight chips of a Galaxy, wired as a T3K.
SAME_AS = {"GALAXY_T3K": "T3K"}
# Devices of theirs that conf/device does not describe.
UNDESCRIBED = {
    "CPU": "It is not Tenstorrent hardware.",
    "GPU": "It is not Tenstorrent hardware.",
    "DUAL_GALAXY": "It is two Galaxies.",
    "QUAD_GALAXY": "It is four Galaxies.",
}
CHUNK_VARIABLE = "MAX_PREFILL_CHUNK_SIZE"  # in thousands (1024) of tokens, tt_transformers' model_config.py
_THOUSAND = 1024
_MOST_THOUSANDS = 1024
_MESH = re.compile(r"\(?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)?")
_TILE = 32


class ServedModel(Protocol):
    """What a server entry says of a model."""

    @property
    def max_context(self) -> int:
        """The longest context in tokens."""
        ...


def read_entry(
    entry: Any, where: str = "the server specification", env: Mapping[str, Any] | None = None, model_context: int = 0
) -> Imported:
    """One device entry, a mapping that stands at `where` in its file; nulls are unset.

    The values are device.device_type (choose the preset by it), users per group, the prefill chunk, the shape of the
    mesh, data-parallel groups with the chips each has where the entry states them, and the trace region; `workload` has
    the context and, where the entry says how many tokens the KV cache holds, the users that share it. `env` are
    environment variables that hold for more than this entry. `model_context` is the model's own longest context, 0
    where that is not known. Findings name what is not understood. Raises ConfigError for an unknown device, and for
    what is read and is no number.
    """
    given = dict(mapping(entry, where))
    said, findings = _said(given, where)
    for key in ("device", "max_concurrency", "max_context"):
        if key not in said:
            near = closest(key, [name for name in given if name not in SPEC_KEYS])
            raise ConfigError(f"{where} has no {key}.", f"It has {shown(near)}: write {key}." if near else "")
    told, odd = understood(said.get("override_tt_config", {}), f"{where}.override_tt_config")
    findings += odd
    values: dict[str, Any] = {}
    kind = _described(said["device"], where, findings)
    groups = 1
    if kind is not None:
        groups, parallelism = _groups(said, kind, where)
        values = {"device.device_type": kind, **parallelism}
    values["device.max_batch_size"] = said["max_concurrency"] // groups
    variables = {**(env or {}), **said.get("env_vars", {})}
    values |= _chunk(variables, where, findings) | _mesh_shape(variables, kind, where, findings)
    values |= device_values(told)
    return Imported(
        mode=told.get("optimizations"),
        values=values,
        workload=_workload(said, model_context, findings),
        findings=findings,
        custom_configs={"server_spec": given},
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
    written as by `write_vllm`, for which `model` is to be named. What was read is written back in its place, a prefill
    chunk that was changed since in the variable that had it. Raises ConfigError for a mode that has no word there, and
    for such a chunk that is not whole thousands (1024).
    """
    import yaml

    customs = config.custom_configs or {}
    kept = dict(mapping(customs.get("server_spec", {}), "custom_configs.server_spec"))
    groups = config.parallelism.data_parallel_size
    device = server_device(config.device_type.value)
    theirs = str(kept.get("device", "")).upper()
    undescribed = theirs in UNDESCRIBED
    if undescribed or SAME_AS.get(theirs) == device:
        device = str(kept["device"])
    if undescribed:  # its groups are not those of the device that stands in for it
        groups = 1
    entry: dict[str, Any] = {
        "device": device,
        "max_concurrency": config.max_batch_size * groups,
        "max_context": kept.get("max_context", spec.max_context),
        **{key: value for key, value in kept.items() if key not in ("device", "max_concurrency", "max_context")},
    }
    vllm_args = dict(kept.get("vllm_args") or {})
    unsaid = _preset_groups(config.device_type.value) if kept else 1
    if not undescribed and groups != int(vllm_args.get("data_parallel_size") or unsaid):
        vllm_args["data_parallel_size"] = groups
    told = kept_settings(customs)
    read = bool({"vllm", "server_spec"} & set(customs))
    settings = tt_settings(told, trace_region(config, model, told, read, typed), mode)
    variables = _variables(kept.get("env_vars") or {}, config.max_prefill_chunk_size)
    for key, value in (("vllm_args", vllm_args), ("override_tt_config", settings), ("env_vars", variables)):
        if value:
            entry[key] = value
    ordered = {key: entry[key] for key in (*kept, *(key for key in entry if key not in kept))}
    return Written(yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True))


def server_device(device_type: str) -> str:
    """tt-inference-server's name of a device type of ours: TG is GALAXY, P150x4 is P150X4."""
    return _SERVER_DEVICES.get(device_type, device_type.upper())


def our_device(name: str) -> str:
    """The device type of ours that tt-inference-server calls `name`. Raises ConfigError naming the nearest."""
    known = {server_device(kind): kind for kind in device_types()} | _OUR_DEVICES
    wanted = SAME_AS.get(name.upper(), name.upper())
    if wanted not in known:
        raise ConfigError(f"{shown(name)} is not a known device.", did_you_mean(name[:60], known))
    return known[wanted]


def _said(given: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[Finding]]:
    """What an entry says, of the kinds it should be; nulls left out. Raises ConfigError for what is read and wrong."""
    said: dict[str, Any] = {}
    findings: list[Finding] = []
    for key, value in given.items():
        path = f"{where}.{key}"
        if key not in SPEC_KEYS:
            findings.append(unknown_key(path, key, SPEC_KEYS))
            continue
        if value is None:
            continue
        if not is_kind(value, SPEC_KEYS[key]):
            problem = f"{path} must be {kind_name(SPEC_KEYS[key])}, not {shown(value)}."
            if key in (*_READ, *_READ_SECTIONS):
                raise ConfigError(problem)
            findings.append(unknown_value(problem))
            continue
        if key in _READ and SPEC_KEYS[key] is int and value < 1:
            raise ConfigError(f"{path} must be at least 1.")
        said[key] = value
    return said, findings


def _described(name: str, where: str, findings: list[Finding]) -> str | None:
    """Our device type; None, with a warning, for a device of theirs that is none of ours."""
    if name.upper() not in UNDESCRIBED:
        return our_device(name)
    what = f"{where}.device: {name} is not described here."
    fix = "The device of --device (default: n150) stands in for it."
    findings.append(Finding("exchange-device", Severity.warning, what, UNDESCRIBED[name.upper()], fix))
    return None


def _chunk(variables: Mapping[str, Any], where: str, findings: list[Finding]) -> dict[str, int]:
    value = variables.get(CHUNK_VARIABLE)
    if value is None:
        return {}
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= _MOST_THOUSANDS:
        what = f"{where}.env_vars.{CHUNK_VARIABLE} is {shown(value)}, expected thousands of tokens."
        findings.append(unknown_value(what, f"Write 1 to {_MOST_THOUSANDS}."))
        return {}
    return {"device.max_prefill_chunk_size": int(text) * _THOUSAND}


def _variables(kept: Mapping[str, Any], chunk: int) -> dict[str, Any]:
    """Environment variables as they were read, but for a chunk that is no longer `chunk` tokens."""
    before = _chunk(kept, "", []).get("device.max_prefill_chunk_size")
    if before in (None, chunk):
        return dict(kept)
    if chunk % _THOUSAND:
        raise ConfigError(
            f"device.max_prefill_chunk_size is {chunk}; {CHUNK_VARIABLE} counts thousands ({_THOUSAND}) of tokens.",
            f"Set device.max_prefill_chunk_size={max(chunk // _THOUSAND, 1) * _THOUSAND}.",
        )
    return {**kept, CHUNK_VARIABLE: str(chunk // _THOUSAND)}


def _mesh_shape(
    variables: Mapping[str, Any], kind: str | None, where: str, findings: list[Finding]
) -> dict[str, list[int]]:
    """The shape of a MESH_DEVICE of rows and columns; a name says no more than the device does."""
    value = variables.get("MESH_DEVICE")
    match = _MESH.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or kind is None:
        return {}
    shape = [int(match[1]), int(match[2])]
    own = list(_device_file(kind)["device"].get("mesh_shape", (1, 1)))
    if shape[0] * shape[1] != own[0] * own[1]:
        what = f"{where}.env_vars.MESH_DEVICE is {value}; {kind} has {own[0] * own[1]} chips."
        findings.append(unknown_value(what, "Choose the device that has as many."))
        return {}
    return {} if shape == own else {"device.mesh_shape": shape}


def _workload(said: Mapping[str, Any], model_context: int, findings: list[Finding]) -> dict[str, int]:
    """How long a context is served, and with a KV cache of so many tokens: for how many users at once."""
    context, users = said["max_context"], said["max_concurrency"]
    found: dict[str, int] = {}
    pool = said.get("max_tokens_all_users_override", said.get("max_tokens_all_users"))
    if pool is not None and pool < context * users:
        share = max(min(context, pool // users) // _TILE * _TILE, 1)
        found = {"workload.batch": users, "workload.context": share}
        what = f"The server's KV cache holds {pool} tokens of all users, fewer than {users} users of {context} take."
        whole = max(pool // context, 1)
        fix = f"Here it is {users} users of {share} tokens; workload.batch={whole} has the full context."
        findings.append(Finding("exchange-kv-pool", Severity.hint, what, "vLLM pages what users take.", fix))
    else:
        found = {"workload.context": context}
    if 0 < model_context < found["workload.context"]:
        found["model.max_context"] = context
        what = f"max_context is {context} tokens; the model was made for {model_context}."
        why = "Rotary positions beyond that are untrained."
        fix = f"Set workload.context={model_context} to stay within."
        findings.append(Finding("exchange-context-over-model", Severity.warning, what, why, fix))
    return found


def _groups(entry: Mapping[str, Any], device_type: str, where: str) -> tuple[int, dict[str, int]]:
    """Data-parallel groups of an entry, and what it says of parallelism: nothing unless it states how many."""
    users = entry["max_concurrency"]
    stated = entry.get("vllm_args", {}).get("data_parallel_size")
    if stated is None:
        groups = _preset_groups(device_type)
        return (groups, {}) if users % groups == 0 else (1, {"parallelism.data_parallel_size": 1})
    groups = int(stated) if isinstance(stated, str) and re.fullmatch("[0-9]{1,6}", stated) else stated
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or users % groups:
        raise ConfigError(
            f"{where}.vllm_args.data_parallel_size is {shown(stated)}; max_concurrency is {users}.",
            "Make max_concurrency a multiple of data_parallel_size.",
        )
    rows, columns = _device_file(device_type)["device"].get("mesh_shape", (1, 1))
    split = {} if rows * columns % groups else {"parallelism.tensor_parallel_size": rows * columns // groups}
    return groups, {"parallelism.data_parallel_size": groups, **split}


def _preset_groups(device_type: str) -> int:
    return _device_file(device_type).get("parallelism", {}).get("data_parallel_size", 1)


def _device_file(device_type: str) -> dict[str, Any]:
    return read_yaml(f"device/{device_types()[device_type]}.yaml")
