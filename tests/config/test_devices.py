# SPDX-License-Identifier: Apache-2.0

import pytest

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import add_conf_dir, conf_dir, in_own_context, read_yaml
from tt_transformers_v2.config.groups import groups, option
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.hardware import AutoHardwareConfig, ConfigError, DeviceType

DEVICES = groups()["device"]
FIGURES = (
    "mesh_shape",
    "compute_grid",
    "compute_grid_eth",
    "ethernet_links",
    "topology",
    "max_prefill_chunk_size",
    "max_batch_size",
    "trace_region_size",
)


def described(name):
    return read_yaml(f"device/{name}.yaml")["device"]


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_composes(name):
    config = AutoHardwareConfig.from_device(name)
    system = config.spec
    assert config.device_type.value == described(name)["device_type"]
    assert config.parallelism.tensor_parallel_size == system.chips
    assert config.dram_bandwidth == system.chip.dram_bandwidth * system.chips
    assert config.trace_region_size == 50_000_000
    assert system.description


@pytest.mark.parametrize("name", DEVICES)
def test_every_figure_of_a_device_and_its_chip_has_a_source(name):
    own, system = described(name), AutoHardwareConfig.from_device(name).spec
    chosen = {"dispatch_core_type"} & set(own)  # stated where ttnn's own choice is another
    assert set(own["sources"]) == {*FIGURES, *chosen} <= set(own)
    chip = {key for key in vars(system.chip) if key not in ("arch", "sources")}
    assert set(system.chip.sources) == chip
    assert "chip" not in own, "chip figures stand in conf/chip alone"


@pytest.mark.parametrize("name", DEVICES)
def test_figures_are_sane(name):
    system = AutoHardwareConfig.from_device(name).spec
    chip, chips = system.chip, system.chips
    assert (system.ethernet_links > 0) == (chips > 1)
    assert system.topology == {True: "none", False: system.topology}[chips == 1]
    assert system.topology in ("none", "line", "ring", "mesh")
    assert (system.topology == "mesh") == (min(system.mesh_shape) > 1)
    # Wormhole has 16 ethernet cores, Blackhole 12 that are usable; a ring or line uses them for two neighbours at most.
    neighbours = {"none": 0, "line": 2, "ring": 2, "mesh": 4}[system.topology]
    assert system.ethernet_links * min(neighbours, chips - 1) <= {"wormhole_b0": 16, "blackhole": 12}[chip.arch.value]
    if system.compute_grid_eth is not None:
        assert all(eth >= worker for eth, worker in zip(system.compute_grid_eth, system.compute_grid, strict=True))
    assert chip.l1_usable_size < chip.l1_memory_size


def test_dispatch_from_ethernet_cores_frees_compute_cores_where_it_exists():
    t3k, p100 = AutoHardwareConfig.from_device("T3K").spec, AutoHardwareConfig.from_device("P100").spec
    assert t3k.cores == 56
    t3k.dispatch_core_type = "ETH"
    assert t3k.cores == 64
    p100.dispatch_core_type = "ETH"
    with pytest.raises(ConfigError, match="P100 cannot dispatch from ETH cores"):
        assert p100.cores


@pytest.mark.parametrize(
    ("alias", "device"),
    [
        ("T3000", "T3K"),
        ("wh_loudbox", "T3K"),
        ("Galaxy", "TG"),
        ("6u", "WH_GALAXY"),
        ("WH_GLX", "WH_GALAXY"),
        ("wh_galaxy", "WH_GALAXY"),
        ("BHGLX", "BH_GALAXY"),
        ("blackhole_galaxy", "BH_GALAXY"),
        ("qb", "P150x4"),
        ("P150_X4", "P150x4"),
        ("QB2", "P300x2"),
        ("BH_QUIETBOX_2", "P300x2"),
        ("bh_loudbox", "P150x8"),
        ("n150_x4", "N150x4"),
        ("P150_X2", "P150x2"),
    ],
)
def test_users_names_reach_the_device(alias, device):
    assert AutoHardwareConfig.from_device(alias).device_type == device


@pytest.mark.parametrize("name", DEVICES)
def test_aliases_ignore_case_on_the_command_line_too(name):
    for alias in [described(name)["device_type"], *described(name)["aliases"]]:
        for spelling in (alias, alias.lower(), alias.upper()):
            assert option("device", spelling) == name


def test_no_name_is_claimed_twice():
    claimed = [name.casefold() for name in DEVICES]
    for name in DEVICES:
        own = described(name)
        others = [own["device_type"].casefold(), *(alias.casefold() for alias in own["aliases"])]
        claimed += [other for other in others if other != name.casefold()]
    assert len(claimed) == len(set(claimed))


@in_own_context
def test_a_device_is_added_by_one_file(tmp_path):
    text = (conf_dir() / "device/n300.yaml").read_text().replace("N300", "X1").replace("n300", "x1")
    (tmp_path / "device").mkdir()
    (tmp_path / "device/x1.yaml").write_text(text)
    add_conf_dir(tmp_path)
    assert compose(("device=x1",))["device"]["device_type"] == "X1"
    config = AutoHardwareConfig.from_device("x1")
    assert (config.device_type, config.spec.chips) == ("X1", 2)
    assert config.device_type == DeviceType("X1")


def test_an_unknown_device_stays_unknown():
    with pytest.raises(ConfigError, match="no device named 'X1'"):
        AutoHardwareConfig.from_device("X1")
    with pytest.raises(ConfigError, match="no device named 'X1'"):
        AutoHardwareConfig.from_device(DeviceType("X1"))
    composed = compose(("device=n150", "device.device_type=N15O"))
    with pytest.raises(ConfigError, match=r"device\.device_type: 'N15O' .* Did you mean N150"):
        resolve(composed)


def test_what_ttnn_would_choose_otherwise_is_chosen_in_the_file():
    """ttnn's own dispatch on these is ETH (tests/backends/ttnn/test_model_on_mock.py)."""
    assert {name for name in DEVICES if "dispatch_core_type" in described(name)} == {"n300", "t3k"}
    for name in ("n300", "t3k"):
        assert AutoHardwareConfig.from_device(name).spec.grid == [8, 7]
