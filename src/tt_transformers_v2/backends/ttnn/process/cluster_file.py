# SPDX-License-Identifier: Apache-2.0
"""A real system's cluster description in place of the one made of a device file: device.cluster_file.

tt-umd writes it (ClusterDescriptor.serialize_to_file), with what is harvested on every chip of that machine. ttnn reads
it as it stands; here it is only held against the device file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....common.errors import ConfigError
from ....config.exchange.untrusted import parse_yaml, read_file
from ....config.kernel_words import shown
from ....hardware.enums import Arch, DispatchCoreType
from ....hardware.schema import DeviceSpec

# Tensix cores of a whole chip, columns x rows, and whether a bit of harvest_mask is a row of them: tt-umd's
# wormhole_implementation.hpp (rows) and blackhole_implementation.hpp (columns).
_CORES = {Arch.wormhole_b0: (8, 10, True), Arch.blackhole: (14, 10, False)}
# What older tt-umd calls an architecture.
_ARCH_NAMES = {"wormhole": Arch.wormhole_b0.value, "blackhole": Arch.blackhole.value}


def read_cluster_file(spec: DeviceSpec) -> str:
    """The text of the description that `spec.cluster_file` names.

    Raises ConfigError for a file that cannot be read or is no description, for one of other chips than `spec` has, and
    where its chips leave programs another grid of cores than the device's.
    """
    path = str(spec.cluster_file)
    text = read_file(path)
    tree = parse_yaml(text, shown(path), number_keys=True)
    arch = _section(tree, "arch", path)
    kinds = sorted({_ARCH_NAMES.get(str(kind).casefold(), str(kind)) for kind in arch.values()})
    if kinds != [spec.chip.arch.value] or len(arch) != spec.chips:
        raise ConfigError(
            f"{path} describes {len(arch)} {' and '.join(kinds)} chips; {spec.device_type} has {spec.chips} of "
            f"{spec.chip.arch}.",
            "Choose the device that it is of.",
        )
    left = _grid(_section(tree, "harvesting", path), spec, path)
    # With dispatch from ETH cores ttnn gives some boards fewer than there are: its own core descriptors decide.
    if left != spec.compute_grid and spec.dispatch_core_type is DispatchCoreType.WORKER:
        raise ConfigError(
            f"{path} leaves programs {left[0]}x{left[1]} cores of a chip; {spec.device_type} has "
            f"{spec.compute_grid[0]}x{spec.compute_grid[1]}.",
            f"Add device.compute_grid=[{left[0]},{left[1]}].",
        )
    return text


def _section(tree: Any, name: str, path: str) -> Mapping[Any, Any]:
    found = tree.get(name) if isinstance(tree, Mapping) else None
    if not isinstance(found, Mapping) or not found:
        raise ConfigError(f"{path} has no {name}.", "Expected what tt-umd's serialize_to_file writes.")
    return found


def _grid(harvesting: Mapping[Any, Any], spec: DeviceSpec, path: str) -> list[int]:
    """Columns x rows of cores that the chip with the fewest leaves to programs; dispatch takes one row or column."""
    columns, rows, by_row = _CORES[spec.chip.arch]
    lost = 0
    for chip, masks in harvesting.items():
        mask = masks.get("harvest_mask") if isinstance(masks, Mapping) else None
        if isinstance(mask, bool) or not isinstance(mask, int) or mask < 0:
            raise ConfigError(f"{path}: harvesting.{chip}.harvest_mask must be a whole number, not {shown(mask)}.")
        lost = max(lost, mask.bit_count())
    return [columns, rows - lost - 1] if by_row else [columns - lost - 1, rows]
