# SPDX-License-Identifier: Apache-2.0
"""A description of a real system in place of the one made of a device file."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from tt_transformers_v2.backends.ttnn.process.cluster import cluster_description
from tt_transformers_v2.backends.ttnn.process.cluster_file import read_cluster_file
from tt_transformers_v2.backends.ttnn.process.isolated import run_isolated
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.device_presets import DevicePresets


def described(device, tmp_path, change=None, **own):
    """The system `device` with a cluster_file: its own description, changed."""
    spec = DevicePresets.get_config(device).spec
    tree = yaml.safe_load(cluster_description(spec))
    if change is not None:
        change(tree)
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(tree))
    return dataclasses.replace(spec, cluster_file=str(path), **own)


def harvested(mask):
    def change(tree):
        for masks in tree["harvesting"].values():
            masks["harvest_mask"] = mask

    return change


@pytest.mark.parametrize("device", ["n150", "n300", "t3k", "p100", "p150x4", "p300x2", "wh_galaxy", "bh_galaxy"])
def test_our_own_description_of_a_device_is_one(device, tmp_path):
    spec = described(device, tmp_path)
    assert read_cluster_file(spec) == (tmp_path / "cluster.yaml").read_text()


def test_an_architecture_may_have_its_older_name(tmp_path):
    spec = described("n300", tmp_path, lambda tree: tree.update(arch={0: "Wormhole", 1: "Wormhole"}))
    assert read_cluster_file(spec)


@pytest.mark.parametrize(
    ("device", "mask", "grid"),
    [("n150", 0x240, [8, 7]), ("n150", 0, [8, 9]), ("p150", 0x40, [12, 10]), ("p150", 0x1C0, [10, 10])],
)
def test_another_harvesting_is_told_with_what_to_type(device, mask, grid, tmp_path):
    spec = described(device, tmp_path, harvested(mask))
    with pytest.raises(ConfigError, match=rf"Add device.compute_grid=\[{grid[0]},{grid[1]}\]."):
        read_cluster_file(spec)
    assert read_cluster_file(dataclasses.replace(spec, compute_grid=grid))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tree: tree.update(arch={0: "blackhole"}), "describes 1 blackhole chips; N150 has 1 of wormhole_b0"),
        (lambda tree: tree.update(arch=dict.fromkeys(range(2), "wormhole_b0")), "describes 2 wormhole_b0 chips"),
        (lambda tree: tree.pop("arch"), "has no arch"),
        (lambda tree: tree.pop("harvesting"), "has no harvesting"),
        (harvested("0x40"), r"harvesting.0.harvest_mask must be a whole number, not '0x40'"),
        (harvested(-1), "must be a whole number, not -1"),
        (lambda tree: tree.update(harvesting={0: 3}), "must be a whole number, not None"),
    ],
)
def test_what_is_no_description_of_the_device_is_refused(change, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        read_cluster_file(described("n150", tmp_path, change))


@pytest.mark.parametrize(("text", "says"), [("- 1", "has no arch"), ("{a: [", "is not YAML"), ("a: &x 1", "anchors")])
def test_other_files_are_refused(text, says, tmp_path):
    spec = described("n150", tmp_path)
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_cluster_file(spec)


def test_ttnn_opens_the_described_system_with_its_harvesting(tmp_path, cache):
    spec = described("p150", tmp_path, harvested(0x40), compute_grid=[12, 10])
    found = run_isolated("ttnn_jobs:opens", {}, device=spec, mock=True, timeout_s=120, cache=cache)
    assert found == {"differences": [], "shape": [1, 1]}
