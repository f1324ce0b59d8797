# SPDX-License-Identifier: Apache-2.0
"""From one format of settings to another, with findings on what does not carry over: what scripts/convert.py does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ...common.command_names import command
from ...common.errors import ConfigError
from ...hardware.enums import Named
from ...hardware.op_table import finest_tensor_groups
from ...hardware.schema import DeviceConfig
from ..auto_config import AutoHardwareConfig
from ..conf_folders import read_yaml
from ..findings import Finding, Severity
from ..groups import option
from ..kernel_words import shown
from ..model_rules import ModelShape
from ..model_shapes import SHAPE_KEYS
from ..precedence import set_path
from .imported import Imported, Written
from .server_entries import chosen_entry, served_models
from .server_spec import UNDESCRIBED, write_server_spec
from .serving_tools import read_vllm, write_vllm
from .tttv1 import read_decoder_json, read_optimizations
from .tttv1_writing import write_decoder_json, write_optimizations
from .untrusted import MAX_JSON_BYTES, read_file

READS = ("tttv1-json", "tttv1-string", "vllm", "server-spec")
WRITES = ("yaml", *READS)
# What of a server entry can be written without knowing the model's layers.
_OF_ANY_MODEL = ("yaml", "vllm", "server-spec")


class Model(ModelShape, Protocol):
    """What a conversion looks at in a model; models.spec.ModelSpec has it."""

    @property
    def num_layers(self) -> int:
        """Decoder layers, which per-layer settings are counted against."""
        ...

    @property
    def max_context(self) -> int:
        """The longest context in tokens."""
        ...


@dataclass(frozen=True)
class UndescribedModel:
    """A model that a server's file names and conf/model does not describe; `instead` is what can be done about that."""

    name: str
    instead: str
    family: str = ""
    num_parameters: int = 0
    num_layers: int = 0
    max_context: int = 0


@dataclass(frozen=True)
class Source:
    """What to read: a format of READS and where it stands, a file, "-" for stdin, or the text itself.

    `model` is the name by which a catalogue's entries are chosen; "" for that of the model converted for.
    """

    format: str
    place: str
    model: str = ""

    def text(self) -> str:
        """Standard input, a file's content, or the text itself. Raises ConfigError for a file that cannot be read."""
        return _text(self.place)


def convert(
    source: Source | None,
    to: str,
    model: Model,
    *,
    mode: str | None = None,
    device: str | None = None,
    lossy: bool = False,
) -> Written:
    """What `source` says for `model`, in the format `to`; its findings are those of reading and of writing.

    Without a source, what the package itself would use. `mode` defaults to what the source names, else performance,
    and `device` likewise, else N150. Raises ConfigError for anything that cannot be read, or written without `lossy`.
    """
    imported = Imported() if source is None else read_source(source, model, mode, device)
    stated = mode or imported.mode
    mode = stated or "performance"
    if device is not None and device.upper() in UNDESCRIBED and imported.custom_configs:
        device = None  # a name in the server's file, for which ours stands in
    device = device or imported.values.get("device.device_type", "N150")
    if to == "yaml":
        if source is None:
            raise ConfigError(
                "--to yaml needs --from.", f"Print the package's own settings with {command('run')} --cfg job."
            )
        text = tuning_yaml(imported, f"{model.name}, device={device.lower()} precision={mode}")
        return Written(text, [*imported.findings, *_without_place(imported)])
    config = AutoHardwareConfig.from_device(device, mode, model)
    asked = Imported(
        imported.mode,
        {path: value for path, value in imported.values.items() if path != "device.device_type"},
        layers=imported.layers,
        findings=imported.findings,
        custom_configs=imported.custom_configs,
    )
    served = mode if source is None else stated  # a tool is told no mode that its own settings left open
    written = _write(to, asked.applied(config, model.num_layers), model, served, lossy, asked.values)
    return Written(written, [*imported.findings, *written.findings])


def read_source(source: Source, model: Model, mode: str | None, device: str | None = None) -> Imported:
    """What a source says; of several server entries the one for the model, and the `device` where one is given.

    Raises ConfigError for unreadable files and for content its format does not have.
    """
    if source.format == "tttv1-json" and source.place != "-":
        return read_decoder_json(Path(source.place), model.num_layers, mode=mode, model_name=model.name)
    text = source.text()
    if source.format == "tttv1-json":
        return read_decoder_json(text, model.num_layers, mode=mode, model_name=model.name)
    if source.format == "tttv1-string":
        return read_optimizations(text, model.num_layers)
    if source.format == "vllm":
        return read_vllm(text)
    if source.format == "server-spec":
        imported = chosen_entry(text, source.model or model.name, device).read(model.max_context)
        if isinstance(model, UndescribedModel):
            what, why = f"{model.name} is not described here.", "Nothing was checked against it."
            imported.findings.append(Finding("exchange-model", Severity.warning, what, why, model.instead))
        return imported
    raise ConfigError(f"cannot read {shown(source.format)}.", f"choices: {', '.join(READS)}")


def model_shape(name: str, make_model: Callable[..., Model]) -> Model:
    """The model of an option of conf/model. Raises ConfigError for unknown names and for options without a shape."""
    described = read_yaml(f"model/{option('model', name)}.yaml")
    if "num_layers" not in described:
        raise ConfigError(f"model={name} does not define a shape.", "Choose a model that conf/model describes.")
    return make_model(**{key: described[key] for key in SHAPE_KEYS if key in described})


def model_for(
    source: Source | None, name: str, to: str, make_model: Callable[..., Model]
) -> tuple[Source | None, Model]:
    """The model that `name` means for a conversion, and the source, standard input read.

    A model that only the source's server entries name is one too where the format `to` needs no layers. Raises
    ConfigError for other unknown names.
    """
    served = source is not None and source.format == "server-spec"
    if source is not None and served:
        source = replace(source, place=source.text())
    try:
        return source, model_shape(name, make_model)
    except ConfigError as problem:
        named = source is not None and served and name.casefold() in served_models(source.place)
        if not named or to not in _OF_ANY_MODEL:
            raise
        return source, UndescribedModel(name, problem.hint or problem.message)


def tuning_yaml(imported: Imported, purpose: str) -> str:
    """A file for conf/tuning or conf/experiment: precision, compute, device, parallelism, workload and layers."""
    import yaml

    tree: dict[str, Any] = {}
    for path, value in (*imported.values.items(), *imported.workload.items()):
        if path != "device.device_type":
            set_path(tree, path, value)
    if "activations" in tree.get("precision", {}):
        for finer in finest_tensor_groups("activations"):
            tree["precision"].setdefault(finer, None)  # inherit, whatever the precision mode says
    if imported.layers:
        tree["layers"] = [_filled(entry.to_dict()) for entry in imported.layers]
    head = f"# @package _global_\n# Converted for {purpose}\n"
    return head + (yaml.safe_dump(_plain(tree), sort_keys=False, width=110) if tree else "")


def _write(to: str, config: DeviceConfig, model: Model, mode: str | None, lossy: bool, typed: Iterable[str]) -> Written:
    if to == "tttv1-json":
        return write_decoder_json(config, model.num_layers, lossy=lossy)
    if to == "tttv1-string":
        return write_optimizations(config, num_layers=model.num_layers, lossy=lossy)
    served = None if mode == "custom" else mode
    if to == "vllm":
        return write_vllm(config, mode=served, model=model, typed=typed)
    if to == "server-spec":
        return write_server_spec(config, model, mode=served, model=model, typed=typed)
    raise ConfigError(f"cannot write {shown(to)}.", f"choices: {', '.join(WRITES)}")


def _without_place(imported: Imported) -> list[Finding]:
    """Serving settings that the package's YAML has no key for."""
    modelled = (
        *("trace_region_size", "optimizations", "device", "max_concurrency", "override_tt_config"),
        *("max_context", "max_tokens_all_users", "max_tokens_all_users_override"),
    )
    return [
        Finding(
            "exchange-not-in-yaml",
            Severity.hint,
            f"Left out of the YAML: {', '.join(keys)}.",
            f"They are settings of {kind.replace('_', ' ')} and have no equivalent here.",
            "To keep them, convert back from the original.",
        )
        for kind, settings in imported.custom_configs.items()
        if (keys := [key for key, value in settings.items() if key not in modelled and value not in (None, [], {})])
    ]


def _text(place: str) -> str:
    """Standard input for "-", a file's content where `place` is one, else `place` itself."""
    if place == "-":
        return sys.stdin.read(MAX_JSON_BYTES + 1)
    try:
        is_file = os.path.exists(place)
    except ValueError:
        is_file = False
    return read_file(place) if is_file else place


def _filled(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Named) else value
