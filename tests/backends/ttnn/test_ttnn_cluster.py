# SPDX-License-Identifier: Apache-2.0
"""Descriptions of systems, and whether ttnn opens what the device files say."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tt_transformers_v2.backends.ttnn.process.cluster import cluster_description
from tt_transformers_v2.backends.ttnn.process.failures import TtnnFailure
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.config.groups import device_types
from tt_transformers_v2.hardware.schema import DeviceSpec

DEVICES = sorted(device_types())
QUICK = ["BH_GALAXY", "N150x4", "P150", "P300x2", "T3K"]  # one of each kind; the others with -m slow
OPENED = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in DEVICES]
PAIRS = {1: 0, 2: 1, 32: 8 * 3 + 7 * 4}  # chips -> pairs of neighbours, for lines of two and 8x4 meshes


def spec_of(name: str, **changes: Any) -> DeviceSpec:
    spec = DevicePresets.get_config(name).system
    assert spec is not None
    return dataclasses.replace(spec, **changes)


def described(spec: DeviceSpec) -> dict[str, Any]:
    return yaml.safe_load(cluster_description(spec))


def cables(description: dict[str, Any]) -> Counter[tuple[int, int]]:
    return Counter(tuple(sorted(end["chip"] for end in cable)) for cable in description["ethernet_connections"])


@pytest.mark.parametrize("name", DEVICES)
def test_the_description_has_the_device_files_chips_and_links(name: str) -> None:
    spec = spec_of(name)
    description = described(spec)
    pairs = cables(description)
    assert description["arch"] == dict.fromkeys(range(spec.chips), spec.chip.arch.value)
    assert set(pairs.values()) <= {spec.ethernet_links}
    if spec.topology == "ring":
        assert len(pairs) == spec.chips // 2 + 2 * (spec.chips // 2 - 1)
    elif spec.topology == "line":
        assert len(pairs) == spec.chips - 1
    else:
        assert len(pairs) == PAIRS[spec.chips]


@pytest.mark.parametrize("name", DEVICES)
def test_every_chip_is_on_one_board_and_no_channel_is_used_twice(name: str) -> None:
    spec = spec_of(name)
    description = described(spec)
    boards = [dict(pair for part in board for pair in part.items()) for board in description["boards"]]
    assert sorted(chip for board in boards for chip in board["chips"]) == list(range(spec.chips))
    assert len({board["board_id"] for board in boards}) == len(boards)
    ends = [(end["chip"], end["chan"]) for cable in description["ethernet_connections"] for end in cable]
    assert len(ends) == len(set(ends))


def test_a_device_without_a_known_board_is_refused_with_the_file_to_edit() -> None:
    class Unknown(str):
        value = "N151"

    spec = spec_of("N150")
    object.__setattr__(spec, "device_type", Unknown("N151"))
    with pytest.raises(ConfigError, match=r"conf/ttnn/boards.yaml names no board.*Did you mean N150"):
        cluster_description(spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"ethernet_links": 9}, "more than the ethernet channels"), ({"mesh_shape": [1, 3]}, "cannot be built from n300")],
)
def test_what_the_boards_cannot_make_is_refused(changes: dict[str, Any], message: str) -> None:
    spec = spec_of("T3K", topology="line", **changes)
    with pytest.raises(ConfigError, match=message):
        cluster_description(spec)


@pytest.mark.parametrize("name", OPENED)
def test_ttnn_opens_what_the_device_file_says(name: str, run: Callable[..., dict[str, Any]]) -> None:
    assert run("opens", name) == {"differences": [], "shape": spec_of(name).mesh_shape}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("WH_GALAXY", {"mesh_shape": [4, 8]}),
        ("T3K", {"mesh_shape": [2, 4]}),
        ("N300", {"dispatch_core_type": "ETH"}),
        ("WH_GALAXY", {"dispatch_core_type": "ETH"}),
    ],
)
def test_ttnn_opens_other_shapes_and_dispatch(
    name: str, changes: dict[str, Any], run: Callable[..., dict[str, Any]]
) -> None:
    assert run("opens", spec_of(name, **changes))["differences"] == []


def test_a_difference_between_ttnn_and_the_device_file_is_told(run: Callable[..., dict[str, Any]]) -> None:
    said = run("opens", spec_of("N150", compute_grid=[7, 7]))["differences"]
    assert said == ["N150: the compute grid is [8, 8], but the device file says [7, 7]."]


def test_what_ttnn_cannot_open_is_refused_in_its_own_words(run: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(TtnnFailure, match="ttnn raised an error on P150: No core coordinate found") as refusal:
        run("opens", spec_of("P150", dispatch_core_type="ETH"))
    assert refusal.value.said.startswith("No core coordinate found")
