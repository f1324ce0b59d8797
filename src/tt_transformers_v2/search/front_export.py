# SPDX-License-Identifier: Apache-2.0
"""A point of the front as files to use: a tuning file of ours, and where they can say it, a TTTv1 decoder JSON and the
weight formats of tt-xla."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.checked import field_types
from ..common.command_names import command
from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..config.exchange import read_decoder_json, write_decoder_json
from ..config.layers import write_select
from ..config.quantize_schema import LayerInputs
from ..config.resolve import Experiment, plain
from ..hardware.op_table import EXPERT_GROUPS, OP_GROUP_PARENTS, OP_GROUPS, TENSOR_GROUP_PARENTS
from ..hardware.schema import DeviceConfig, PrecisionConfig
from .roundings import calibrated_layers
from .space import Assignment, entries
from .weight_formats import tt_xla_json


@dataclass(frozen=True)
class PointFile:
    """What the files of a point are made from: its `name`, which tuning= takes, `purpose` in a sentence, and the tokens
    that calibration skips of each text (None: nothing is calibrated)."""

    name: str
    purpose: str
    skip: int | None = None


def tuning_yaml(experiment: Experiment, assignment: Assignment, point: PointFile) -> str:
    """A file for conf/tuning that makes this very configuration, whatever the precision mode and the model's rules.

    With it, task=quantize makes the weights that the assignment has calibrated.
    """
    import yaml

    hardware = experiment.hardware
    tree = {
        "mode": "custom",
        "precision": {group: str(hardware.precision.of(group)) for group in field_types(PrecisionConfig)},
        "compute": {group: plain(hardware.compute_for(group)) for group in OP_GROUPS},
        "memory": plain(hardware.memory),
        "layers": [_plain_entry(entry.to_dict()) for entry in entries(assignment)],
    }
    head = f"# @package _global_\n# {point.purpose}\n"
    if layers := calibrated_layers(assignment):
        tree |= _weights_settings(experiment, layers, point.skip)
        head += "# Its weights, with the same device and model, for quantize.weights=DIR:\n"
        head += f"#   {weights_command(point.name)}\n"
    return head + yaml.safe_dump(tree, sort_keys=False, width=110)


def weights_command(name: str) -> str:
    """The command that writes the weights of a point whose tuning file is in a run's folder."""
    return f"{command('run')} --config-dir RUN_FOLDER tuning={name} task=quantize quantize.out=DIR"


def _weights_settings(experiment: Experiment, layers: dict[str, list[int]], skip: int | None) -> dict[str, Any]:
    """Sections by which task=quantize makes the same weights as the search."""
    settings, bos = experiment.config.quantize, experiment.config.workload.bos
    same = ("texts", "tokens", "window", "verify_tokens", "damping", "act_order")
    quantize = {name: getattr(settings, name) for name in same} | {
        "skip": skip,
        "inputs": str(LayerInputs.original),
        "calibrated": {site: write_select(own) for site, own in layers.items()},
    }
    return {"quantize": quantize} | ({} if bos is None else {"workload": {"bos": bos}})


def _plain_entry(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: plain(value) for key, value in entry.items() if value}


def tttv1_json(experiment: Experiment) -> str:
    """The configuration as a TTTv1 decoder file. Raises ConfigError where TTTv1 cannot express it, or would not
    read back the same."""
    layers = experiment.spec.num_layers
    text = write_decoder_json(experiment.hardware, layers)
    read = read_decoder_json(str(text), layers).applied(experiment.hardware, layers)
    for layer in range(layers):
        if not same_numerics(experiment.hardware.for_layer(layer), read.for_layer(layer)):
            raise ConfigError(f"layer {layer} of the TTTv1 JSON would not read back as written.")
    return str(text)


def same_numerics(one: DeviceConfig, other: DeviceConfig) -> bool:
    """Whether two configurations of a dense layer compute the same: formats and kernels of every finest group."""
    tensors = set(field_types(PrecisionConfig)) - set(TENSOR_GROUP_PARENTS.values()) - set(EXPERT_GROUPS)
    ops = set(OP_GROUPS) - set(OP_GROUP_PARENTS.values()) - set(EXPERT_GROUPS)
    return all(one.precision.of(group) == other.precision.of(group) for group in tensors) and all(
        one.compute_for(group) == other.compute_for(group) for group in ops
    )


def write_point(folder: Path, point: PointFile, experiment: Experiment, assignment: Assignment) -> dict[str, Any]:
    """Writes tuning/NAME.yaml, tttv1/NAME.json and tt_xla/NAME.json under `folder`; returns their places, or why there
    is none, and the command that writes the weights, if they are not the model's own."""
    tuning = folder / "tuning" / f"{point.name}.yaml"
    write_atomically(tuning, tuning_yaml(experiment, assignment, point))
    written: dict[str, Any] = {"tuning": str(tuning.relative_to(folder))}
    written["weights_command"] = weights_command(point.name) if calibrated_layers(assignment) else None
    for kind, text_of in (("tttv1", tttv1_json), ("tt_xla", tt_xla_json)):
        written |= {f"{kind}_json": None, f"{kind}_refusal": None}
        place = folder / kind / f"{point.name}.json"
        try:
            write_atomically(place, text_of(experiment))
            written[f"{kind}_json"] = str(place.relative_to(folder))
        except ConfigError as error:
            written[f"{kind}_refusal"] = str(error)
    return written
