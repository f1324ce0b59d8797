# SPDX-License-Identifier: Apache-2.0
"""The folder that task=quantize writes: a shard for each layer as it is done, and a record by which a rerun continues.

Until everything is there the folder has neither config.json nor an index, so that nothing loads it by mistake.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..common.units import GIB
from ..config.quantize_schema import RECORD
from ..models.config_values import read_json
from ..models.stored_model import Matrices, Stored, StoredModel, each_size, room_beside
from .calibrated_layer import RoundedLayer, RoundedMatrix

WORK = ".quantize"
_INDEX = "model.safetensors.index.json"
# Tensors that belong to no layer share shards up to this size, in bytes.
_SHARD = 2 << 30
_HINT = "Free some space, or choose another quantize.out."


@dataclass
class Record:
    """What is known of a folder: what was `asked` for, the text that it was `calibration`-ed on, the layers `done`, and
    what became of their matrices."""

    asked: dict[str, Any]
    calibration: dict[str, Any]
    done: int = 0
    rows: list[RoundedMatrix] = field(default_factory=list)
    finished: bool = False


class QuantizedFolder:
    """A folder in the making. `record.done` layers are there already."""

    def __init__(self, path: Path, model: StoredModel, record: Record) -> None:
        self.path, self.model, self.record = path, model, record
        self._rest = _shared(model.of_model())
        self._count = model.spec.num_layers + len(self._rest)

    def begin(self) -> None:
        """Leaves the record before anything else, by which a rerun knows the folder. Raises ConfigError."""
        self._write_record()

    def hidden(self) -> Tensor:
        """The hidden states after the layers that are done. Raises ConfigError for a file that does not hold them."""
        path = self._hidden(self.record.done)
        try:
            with safe_open(path, "pt") as file:
                states: Tensor = file.get_tensor("hidden")
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{path} cannot be read: {error}.", f"Delete {self.path} and begin again.") from None
        return states

    def add_layer(self, layer: int, rounded: RoundedLayer) -> None:
        """Writes a layer's shard and what the next one begins with. Raises ConfigError when the disk is full."""
        self._write(self._shard(layer), self.model.of_layer(layer), layer, rounded.matrices)
        if layer + 1 < self.model.spec.num_layers:
            save_tensors({"hidden": rounded.output.contiguous()}, self._hidden(layer + 1))
        self.record.rows += rounded.rows
        self.record.done = layer + 1
        self._write_record()
        self._hidden(layer).unlink(missing_ok=True)

    def finish(self) -> None:
        """Writes what belongs to no layer, the index, and config.json, after which it is a model."""
        index: dict[str, str] = {}
        for number, stored in enumerate(self._rest):
            self._write(self._shard(self.model.spec.num_layers + number), stored, None, {})
        each = [self.model.of_layer(layer) for layer in range(self.model.spec.num_layers)] + self._rest
        for number, stored in enumerate(each):
            index |= {one.name: self._shard(number).name for one in stored}
        told = {"metadata": {"total_size": sum(each_size(self.model))}, "weight_map": dict(sorted(index.items()))}
        text = json.dumps(told, indent=2)
        write_atomically(self.path / _INDEX, text, hint=_HINT)
        self.model.write_settings(self.path)
        self.record.finished = True
        self._write_record()
        shutil.rmtree(self.path / WORK, ignore_errors=True)

    def _write(self, path: Path, stored: Sequence[Stored], layer: int | None, matrices: Matrices) -> None:
        save_tensors(self.model.tensors(list(stored), layer, matrices), path)

    def _write_record(self) -> None:
        write_atomically(self.path / RECORD, _text_of(self.record), hint=_HINT)

    def _shard(self, number: int) -> Path:
        return self.path / f"model-{number + 1:05}-of-{self._count:05}.safetensors"

    def _hidden(self, layer: int) -> Path:
        return self.path / WORK / f"hidden-{layer:05}.safetensors"


def open_record(path: Path, asked: dict[str, Any], calibration: dict[str, Any]) -> Record:
    """What is recorded of `path`, or a new record where there is nothing yet.

    Raises ConfigError for a folder with other things in it, and for one that was asked for otherwise.
    """
    try:
        inside = sorted(each.name for each in path.iterdir()) if path.exists() else []
    except OSError as error:
        raise ConfigError(f"quantize.out: {path} cannot be used: {error.strerror}.", "Choose a folder.") from None
    if RECORD not in inside:
        if inside and inside != [WORK]:
            raise ConfigError(
                f"quantize.out: {path} has {inside[0]} in it, but no {RECORD}.", "Choose a folder that is new or empty."
            )
        return Record(asked, calibration)
    found = read_json(path / RECORD)
    try:
        rows = [RoundedMatrix(**row) for row in found["rows"]]
        record = Record(found["asked"], found["calibration"], found["done"], rows, found["finished"])
    except (KeyError, TypeError):
        raise ConfigError(f"{path / RECORD} is not what task=quantize writes.", "Choose another folder.") from None
    if other := _difference(record.asked, json.loads(json.dumps(asked))):
        raise ConfigError(
            f"quantize.out: {path} was begun with {other}.",
            "Choose another folder, or delete this one.",
        )
    return record


def check_room(path: Path, model: StoredModel, states: int) -> None:
    """Raises ConfigError where the disk has no room for the folder and two sets of hidden states of `states` bytes."""
    there = sum(each.stat().st_size for each in path.glob("*.safetensors")) if path.exists() else 0
    needed, free = sum(each_size(model)) + 2 * states - there, room_beside(path)
    if needed > free:
        raise ConfigError(
            f"quantize.out: {path} needs {needed / GIB:.2f} GiB, and its disk has {free / GIB:.2f} GiB left.", _HINT
        )


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What was asked for before and is not now, in a few words; "" for nothing."""
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            if isinstance(before.get(key), (dict, list)) or len(str(before.get(key))) > 40:
                return f"other {key}"
            return f"{key} {before.get(key)} instead of {now.get(key)}"
    return ""


def _shared(stored: Sequence[Stored]) -> list[list[Stored]]:
    """Tensors by shard, in order, up to `_SHARD` bytes each."""
    shards: list[list[Stored]] = []
    size = 0
    for each in stored:
        own = 2 * torch.Size(each.shape).numel()
        if not shards or size + own > _SHARD:
            shards.append([])
            size = 0
        shards[-1].append(each)
        size += own
    return shards


def save_tensors(tensors: dict[str, Tensor], path: Path, hint: str = _HINT) -> None:
    """A safetensors file, whole or not at all. Raises ConfigError with `hint` where it cannot be written."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot write {path}: {error}.", hint) from None
    finally:
        temporary.unlink(missing_ok=True)


def _text_of(record: Record) -> str:
    """One line for each matrix."""
    found = {key: value for key, value in vars(record).items() if key != "rows"}
    lines = [json.dumps(key) + ": " + json.dumps(value) for key, value in found.items()]
    rows = ",\n  ".join(json.dumps(dataclasses.asdict(row)) for row in record.rows)
    return "{\n " + ",\n ".join([*lines, f'"rows": [\n  {rows}]']) + "\n}\n"
