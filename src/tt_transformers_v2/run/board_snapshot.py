# SPDX-License-Identifier: Apache-2.0
"""device=auto from what `tt-smi -s` wrote of a machine, this one or another: --snapshot FILE.

Of the JSON only `device_info[].board_info.board_type` is read, one entry for each chip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from ..config.conf_folders import read_yaml
from ..config.device_presets import DevicePresets
from ..config.exchange.untrusted import parse_json, read_file
from ..config.groups import device_types
from ..config.kernel_words import shown
from ..config.overrides import AUTO, ThisMachine
from .this_machine import machine_device

_HINT = "Choose a device, such as device=n150."
_snapshot: ContextVar[Path | None] = ContextVar("what tt-smi wrote", default=None)


def use_snapshot(path: Path | None, overrides: list[str]) -> None:
    """For the rest of this context, takes device=auto from a file of tt-smi's; None asks the machine.

    Raises ConfigError where none of the `overrides` is device=auto, which alone reads it.
    """
    asked = [text.partition("=")[2].casefold() for text in overrides if text.partition("=")[0] == "device"]
    if path is not None and not any(AUTO in value.split(",") for value in asked):
        raise ConfigError("--snapshot says what device=auto is, and no device=auto is given.", "Add device=auto.")
    _snapshot.set(path)


def this_device() -> ThisMachine:
    """What device=auto means: by the snapshot where there is one, else what ttnn sees. Raises ConfigError."""
    path = _snapshot.get()
    return machine_device() if path is None else ThisMachine(device_types()[snapshot_device(path)])


def snapshot_device(path: Path) -> str:
    """The device type of the machine of which `tt-smi -s` wrote a file.

    Raises ConfigError for a file that is none of tt-smi's, and for boards that no device file describes together.
    """
    return _device_of(_board_types(parse_json(read_file(path), shown(str(path))), path))


def _board_types(tree: Any, path: Path) -> list[str]:
    chips = tree.get("device_info") if isinstance(tree, Mapping) else None
    if not isinstance(chips, list) or not chips:
        raise ConfigError(f"{path} lists no chips under device_info.", "Write it with: tt-smi -s > FILE")
    found = []
    for place, chip in enumerate(chips):
        info = chip.get("board_info") if isinstance(chip, Mapping) else None
        kind = info.get("board_type") if isinstance(info, Mapping) else None
        if not isinstance(kind, str):
            raise ConfigError(f"{path}: device_info[{place}].board_info.board_type is missing.", _HINT)
        found.append(kind.strip().casefold())
    return found


def _device_of(board_types: list[str]) -> str:
    known = read_yaml("ttnn/boards.yaml")
    systems: dict[str, str] = known["systems"]
    seen = Counter(board_types)
    in_systems = {kind: number for kind, number in seen.items() if kind in systems}
    if len(in_systems) == 1:
        ((kind, number),) = in_systems.items()
        device = systems[kind]
        if number == DevicePresets.get_config(device).spec.chips:
            return device
    boards = {_board(kind, known["boards"]) for kind in seen}
    alike = [
        device
        for device, board in known["devices"].items()
        if not in_systems and boards == {board} and DevicePresets.get_config(device).spec.chips == len(board_types)
    ]
    if len(alike) == 1:
        return alike[0]
    what = ", ".join(f"{number} x {shown(kind)}" for kind, number in sorted(seen.items()))
    raise ConfigError(f"device=auto: no device file describes a machine of these chips: {what}.", _HINT)


def _board(board_type: str, boards: Mapping[str, Any]) -> str:
    """The board of boards.yaml that a card's board_type begins with; the type itself where there is none."""
    return next((board for board in boards if board_type.startswith(board)), board_type)
