# SPDX-License-Identifier: Apache-2.0
"""The device entries in a file of tt-inference-server: one alone, a list, a catalogue, or all that a release ships.

A catalogue (workflows/model_specs/*.yaml) has `templates`, each with `weights` and `device_model_specs`. A release
(release_model_spec.json) has `model_specs` by model, device, engine and implementation, each with a
`device_model_spec`. Whatever else holds entries is walked through too, and what is no entry is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...common.errors import ConfigError
from ..findings import Finding, Severity
from ..groups import option
from .imported import Imported
from .plugin_settings import unknown_key
from .server_spec import SPEC_KEYS, UNDESCRIBED, our_device, read_entry, server_device
from .untrusted import mapping, parse_json, parse_yaml

WHAT = "the server specification"
# What a released entry and a template say of the model, its code and its container: none of it is a setting here.
_AROUND = (
    *("weights", "model_id", "impl", "hf_model_repo", "hf_weights_repo", "model_name", "inference_engine"),
    *("device_type", "subdevice_type", "system_requirements", "tt_metal_commit", "vllm_commit", "param_count"),
    *("min_disk_gb", "min_ram_gb", "model_type", "repacked", "version", "docker_image", "status", "code_link"),
    *("override_tt_config", "supported_modalities", "uses_tensor_model_cache", "has_builtin_warmup", "metadata"),
    *("cli_args", "env_vars", "display_name", "perf_targets_map", "eval_config", "custom_inference_server"),
)
_FLOW_YAML = 64_000  # characters; longer text in braces is JSON
_OF_A_FILE = ("schema_version", "release_version", "templates", "model_specs")


@dataclass(frozen=True)
class ServerEntry:
    """One device entry and where it stands: `path` in its file, the `model` it serves (a hub id, "" where the file does
    not say), and the `implementation` and `kind` of model (LLM, VLM, …) that what is around it says.

    `env` are the environment variables that hold for it and others; `findings` are about what stands around it.
    """

    path: str
    spec: Mapping[str, Any]
    model: str = ""
    implementation: str = ""
    kind: str = ""
    env: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """What tells it from others: model, device and implementation, as far as the file says them."""
        parts = (self.model, str(self.spec.get("device", "")), self.implementation)
        return " ".join(part for part in parts if part)

    def read(self, model_context: int = 0) -> Imported:
        """The entry as settings, with what was found around it. Raises ConfigError as `read_entry` does."""
        imported = read_entry(self.spec, self.path, self.env, model_context)
        imported.findings[:0] = self.findings
        return imported


def server_entries(text: str) -> tuple[list[ServerEntry], list[Finding]]:
    """Every entry of a file's text, JSON or YAML, in its order; and warnings for what is none and belongs to none.

    Raises ConfigError for text that is neither, and where there is no entry.
    """
    tree = _tree(text)
    unread: list[Finding] = []
    found = list(_entries(tree, "", unread))
    if not found:
        if isinstance(tree, Mapping) and set(tree) & set(SPEC_KEYS):
            found = [ServerEntry(WHAT, tree)]  # which says what it lacks when it is read
        else:
            mapping(tree, WHAT)
            raise ConfigError(f"{WHAT} has no device entry.", "Expected device, max_concurrency and max_context.")
    return found, unread


def read_server_spec(text: str) -> Imported:
    """One entry of tt-inference-server, as `read_entry` reads it: alone, in a list, or as it ships.

    Raises ConfigError for text that is neither JSON nor plain YAML, for what `read_entry` refuses, and where the text
    has several entries.
    """
    return _only(*server_entries(text)).read()


def chosen_entry(text: str, model: str, device: str | None) -> ServerEntry:
    """The entry of a file for a model (an option, any of its names, or the hub id in the file) on a device, ours or as
    the file spells it, None for any; of several implementations the default one.

    A file with one entry has no other to choose. Raises ConfigError where none or several are left, and as
    `server_entries`.
    """
    entries, unread = server_entries(text)
    if len(entries) == 1:
        return _only(entries, unread)
    left = _of_model(entries, model)
    if device is not None:
        of_model, left = left, _on_device(left, device)
        if not left:
            devices = ", ".join(sorted(_device_names(of_model)))
            raise ConfigError(f"{WHAT} has no entry for {model} on {device}.", f"It has {devices}.")
    default = [entry for entry in left if entry.spec.get("default_impl")] or left
    exact = [entry for entry in default if entry.model.casefold() == model.casefold()] or default
    if len(exact) > 1:
        names = "; ".join(entry.name for entry in exact[:6])
        raise ConfigError(f"{WHAT} has {len(exact)} entries for {model}: {names}.", "Add --device, or name the hub id.")
    return _with(exact[0], unread)


def served_models(text: str) -> set[str]:
    """The hub ids that a file's entries serve, in lower case. Raises ConfigError as `server_entries`."""
    return {entry.model.casefold() for entry in server_entries(text)[0]}


def model_option(name: str) -> str | None:
    """The option of conf/model that a hub id means; None where there is none."""
    try:
        return option("model", name) if name else None
    except ConfigError:
        return None


def _tree(text: str) -> Any:
    """What JSON or YAML says; short text in braces may be either."""
    if not text.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        return parse_yaml(text, WHAT)
    try:
        return parse_json(text, WHAT)
    except ConfigError:
        if len(text) > _FLOW_YAML:
            raise
        return parse_yaml(text, WHAT)


def _only(entries: list[ServerEntry], unread: list[Finding]) -> ServerEntry:
    if len(entries) > 1:
        raise ConfigError(f"{WHAT} has {len(entries)} entries.", "Print them all with --all, or choose a model.")
    return _with(entries[0], unread)


def _with(entry: ServerEntry, unread: list[Finding]) -> ServerEntry:
    return replace(entry, findings=(*unread, *entry.findings))


def _of_model(entries: list[ServerEntry], model: str) -> list[ServerEntry]:
    """Those that serve a model. Raises ConfigError where none does."""
    left = [entry for entry in entries if entry.model.casefold() == model.casefold()]
    if model_option(model) is not None or not left:
        wanted = option("model", model)
        left = [entry for entry in entries if model_option(entry.model) == wanted]
    if not left:
        raise ConfigError(f"{WHAT} has {len(entries)} entries, none for {model}.", "Print them all with --all.")
    return left


def _on_device(entries: list[ServerEntry], device: str) -> list[ServerEntry]:
    """Those on a device: with the name as it is written, else with the server's own name of ours, else with another
    name of the same (GALAXY_T3K is a T3K)."""
    named = [entry for entry in entries if str(entry.spec.get("device")).casefold() == device.casefold()]
    if named or device.upper() in UNDESCRIBED:
        return named
    kind = our_device(device) if device.upper() in _device_names(entries) else _kind(device)
    same = [entry for entry in entries if _our(entry) == kind]
    return [entry for entry in same if str(entry.spec.get("device")).upper() == server_device(kind)] or same


def _device_names(entries: list[ServerEntry]) -> set[str]:
    return {str(entry.spec.get("device")) for entry in entries}


def _our(entry: ServerEntry) -> str | None:
    name = str(entry.spec.get("device", ""))
    return None if not name or name.upper() in UNDESCRIBED else our_device(name)


def _kind(device: str) -> str:
    from ..device_presets import DevicePresets

    return DevicePresets.get_config(device).device_type.value


def _entries(tree: Any, path: str, unread: list[Finding]) -> Iterator[ServerEntry]:
    if isinstance(tree, list):
        for place, inner in enumerate(tree):
            yield from _entries(inner, f"{path}[{place}]", unread)
    elif isinstance(tree, Mapping):
        if "device_model_spec" in tree:
            yield _released(tree, path)
        elif "device_model_specs" in tree:
            yield from _of_template(tree, path)
        elif {"device", "max_concurrency"} <= set(tree):
            yield ServerEntry(path or WHAT, tree)
        else:
            for key, inner in tree.items():
                where = f"{path}.{key}" if path else str(key)
                before = len(unread)
                found = list(_entries(inner, where, unread)) if isinstance(inner, (Mapping, list)) else []
                yield from found
                if not found and key not in _OF_A_FILE and len(unread) == before:
                    unread.append(unknown_key(where, str(key), _OF_A_FILE))


def _released(entry: Mapping[str, Any], path: str) -> ServerEntry:
    impl = entry.get("impl")
    return ServerEntry(
        path=f"{path}.device_model_spec".lstrip("."),
        spec=mapping(entry["device_model_spec"], f"{path}.device_model_spec".lstrip(".")),
        model=str(entry.get("hf_model_repo") or entry.get("model_name") or ""),
        implementation=str(impl.get("impl_id") if isinstance(impl, Mapping) else impl or ""),
        kind=str(entry.get("model_type") or ""),
        env=_variables(entry),
        findings=_around(entry, path, "device_model_spec"),
    )


def _of_template(template: Mapping[str, Any], path: str) -> Iterator[ServerEntry]:
    """An entry for each of the weights a template serves on each of its devices."""
    where = f"{path}.device_model_specs".lstrip(".")
    specs, weights = template["device_model_specs"], template.get("weights") or [""]
    if not isinstance(specs, list) or not isinstance(weights, list):
        raise ConfigError(f"{path}: weights and device_model_specs must be lists.")
    for weight in weights:
        for place, spec in enumerate(specs):
            yield ServerEntry(
                path=f"{where}[{place}]",
                spec=mapping(spec, f"{where}[{place}]"),
                model=str(weight),
                implementation=str(template.get("impl") or ""),
                kind=str(template.get("model_type") or ""),
                env=_variables(template),
                findings=_around(template, path, "device_model_specs"),
            )


def _variables(around: Mapping[str, Any]) -> Mapping[str, Any]:
    found = around.get("env_vars")
    return found if isinstance(found, Mapping) else {}


def _around(entry: Mapping[str, Any], path: str, inner: str) -> tuple[Finding, ...]:
    others = [key for key in entry if key != inner]
    unknown = [unknown_key(f"{path}.{key}".lstrip("."), key, _AROUND) for key in others if key not in _AROUND]
    if known := [key for key in others if key in _AROUND and entry[key] is not None]:
        left_out = Finding(
            "exchange-around-entry",
            Severity.hint,
            f"{len(known)} settings of {path or 'the file'} stand around the entry and are not carried over.",
            "They are of the model, its code and its container.",
            "Only the entry itself is written back.",
        )
        return (*unknown, left_out)
    return tuple(unknown)
