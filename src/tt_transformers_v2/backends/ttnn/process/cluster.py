# SPDX-License-Identifier: Apache-2.0
"""A description of a system's chips, boards and cables, as ttnn reads it in place of a card.

ttnn opens the described system when TT_METAL_MOCK_CLUSTER_DESC_PATH names such a file. Chips, mesh, links and topology
come from the device file; what it does not say stands in conf/ttnn/boards.yaml with its sources. Serial numbers are
made up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from ....common.errors import ConfigError, did_you_mean
from ....config.conf_folders import read_yaml
from ....hardware.enums import Arch
from ....hardware.schema import DeviceSpec

Place = tuple[int, int]  # row, column of a chip

PRODUCT_SHIFT = 36  # where a board_id holds the product number
TRAY = (4, 2)  # rows x columns of chips on one tray of a Galaxy


@dataclass(frozen=True)
class Board:
    """A kind of board, as conf/ttnn/boards.yaml describes it."""

    kind: str
    product: int
    chips: int
    harvesting: dict[str, int]
    channels: list[int]
    board_channels: list[list[int]] = field(default_factory=list)
    one_on_pcie: bool = False
    pcie_harvesting: list[int] = field(default_factory=lambda: [0])
    trays: list[int] = field(default_factory=list)


def cluster_description(spec: DeviceSpec) -> str:
    """The YAML text of a system for TT_METAL_MOCK_CLUSTER_DESC_PATH.

    A TG is described as a Galaxy without gateways, which ttnn opens as the same 8x4 mesh. Raises ConfigError for a
    device whose boards conf/ttnn/boards.yaml does not name, and for more cables than a chip has channels.
    """
    return yaml.safe_dump(_System(spec).description(), sort_keys=False, default_flow_style=None, width=120)


def board_of(spec: DeviceSpec) -> Board:
    """The kind of board a device is made of. Raises ConfigError when conf/ttnn/boards.yaml does not say."""
    known = read_yaml("ttnn/boards.yaml")
    kind = known["devices"].get(spec.device_type)
    if kind is None:
        raise ConfigError(
            f"ttnn cannot check {spec.device_type} without a card: conf/ttnn/boards.yaml names no board for it.",
            did_you_mean(spec.device_type, known["devices"]),
        )
    return Board(kind, **_numbers(known["boards"][kind]))


def _numbers(value: Any) -> Any:
    """Hexadecimal numbers, which conf/ is read with as text, as numbers at any depth."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value, 16) if isinstance(value, str) else value


def physical_shape(spec: DeviceSpec) -> Place:
    """Rows x columns in which the chips are cabled: a ring of n chips as 2 x n/2, a mesh upright, a line as a row."""
    if spec.topology == "ring" and spec.chips > 2 and spec.chips % 2 == 0:
        return 2, spec.chips // 2
    if spec.topology == "mesh":
        return max(spec.mesh_shape), min(spec.mesh_shape)
    return 1, spec.chips


class _System:
    """One system on its way to a description."""

    def __init__(self, spec: DeviceSpec) -> None:
        self.spec = spec
        self.board = board_of(spec)
        self.rows, self.columns = physical_shape(spec)
        if spec.chips % self.board.chips or self.columns % min(self.board.chips, 2):
            raise ConfigError(
                f"{self.rows}x{self.columns} chips cannot be built from {self.board.kind} boards "
                f"with {self.board.chips} chips each."
            )
        self.places = sorted(((r, c) for r in range(self.rows) for c in range(self.columns)), key=self._order)
        self.chip = {place: number for number, place in enumerate(self.places)}
        self.on_pcie = [chip for place, chip in self.chip.items() if self._has_pcie(place)]

    def description(self) -> dict[str, Any]:
        chips = range(self.spec.chips)
        wormhole = self.spec.chip.arch is Arch.wormhole_b0
        located = wormhole and not self.board.trays
        text: dict[str, Any] = {
            "arch": dict.fromkeys(chips, self.spec.chip.arch.value),
            "chips": {self.chip[r, c]: [c, r, 0, 0] for r, c in self.places} if located else {},
            "chip_unique_ids": {chip: chip + 1 for chip in chips},
            "ethernet_connections": self._connections(),
            "ethernet_connections_to_remote_devices": [],
            "chips_with_mmio": [{chip: number} for number, chip in enumerate(self.on_pcie)],
            "io_device_type": "PCIe",
            "harvesting": {chip: self._harvesting(place) for place, chip in self.chip.items()},
            "boards": self._boards(),
        }
        if self.board.trays:
            text["chip_to_bus_id"] = {chip: f"0x{self._bus(place):04x}" for place, chip in self.chip.items()}
        if not wormhole:
            text["asic_locations"] = {chip: self._location(place) for place, chip in self.chip.items()}
        return text

    def _order(self, place: Place) -> tuple[bool, Place]:
        return not self._has_pcie(place), place  # ttnn numbers the chips on PCIe first

    def _has_pcie(self, place: Place) -> bool:
        if not self.board.one_on_pcie:
            return True
        return place[1] % 4 in (1, 2)  # where two boards of two meet, as in a T3K; the second chip of a lone board

    def _harvesting(self, place: Place) -> dict[str, Any]:
        masks = self.board.harvesting
        pcie = self.board.pcie_harvesting
        return {
            "noc_translation": True,
            "harvest_mask": masks["tensix"],
            "dram_harvesting_mask": masks.get("dram", 0),
            "eth_harvesting_mask": masks.get("eth", 0),
            "pcie_harvesting_mask": pcie[self._location(place) % len(pcie)],
            "l2cpu_harvesting_mask": 0,
        }

    def _board_number(self, place: Place) -> int:
        if self.board.trays:
            return 0
        row, column = place
        return (row * self.columns + column) // self.board.chips

    def _boards(self) -> list[list[dict[str, Any]]]:
        members: dict[int, list[int]] = {}
        for place, chip in self.chip.items():
            members.setdefault(self._board_number(place), []).append(chip)
        return [
            [
                {"board_id": (self.board.product << PRODUCT_SHIFT) + number},
                {"board_type": self.board.kind},
                {"chips": chips},
            ]
            for number, chips in sorted(members.items())
        ]

    def _location(self, place: Place) -> int:
        """Where a chip sits on its board: from 0, on a tray of a Galaxy from 1."""
        row, column = place
        if self.board.trays:  # each tray is its neighbour's mirror image: place 1 is a corner of the whole
            down, across = min(row, self.rows - 1 - row), min(column, self.columns - 1 - column)
            return across * TRAY[0] + down + 1
        return column % self.board.chips

    def _bus(self, place: Place) -> int:
        row, column = place
        tray = row // TRAY[0] * (self.columns // TRAY[1]) + column // TRAY[1]
        return self.board.trays[tray] + self._location(place)

    def _connections(self) -> list[list[dict[str, int]]]:
        free = {place: list(self.board.channels) for place in self.places}
        pairs = [((r, c), (r, c + 1)) for r in range(self.rows) for c in range(self.columns - 1)]
        pairs += [((r, c), (r + 1, c)) for r in range(self.rows - 1) for c in range(self.columns)]
        cables = []
        for one, other in pairs:
            first, second = sorted((one, other), key=self._order)
            for here, there in self._channels(first, second, free):
                cables.append([{"chip": self.chip[first], "chan": here}, {"chip": self.chip[second], "chan": there}])
        return cables

    def _channels(self, first: Place, second: Place, free: dict[Place, list[int]]) -> list[tuple[int, int]]:
        if self.board.board_channels and self._board_number(first) == self._board_number(second):
            return [(here, there) for here, there in self.board.board_channels]
        links = self.spec.ethernet_links
        if min(len(free[first]), len(free[second])) < links:
            raise ConfigError(
                f"{self.spec.device_type} needs {links} links between neighbouring chips, "
                f"more than the ethernet channels of a {self.board.kind} board allow."
            )
        return [(free[first].pop(0), free[second].pop(0)) for _ in range(links)]
