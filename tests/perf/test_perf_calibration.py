# SPDX-License-Identifier: Apache-2.0
"""The calibration file is complete and sourced; mistakes in one end in a readable line."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import yaml
from perf_cases import CALIBRATION, calibration_data

from places import ROOT
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware.enums import Arch
from tt_transformers_v2.perf import Calibration


def test_every_packaged_calibration_covers_every_architecture():
    assert set(CALIBRATION.archs) == set(Arch)


@pytest.mark.parametrize("path", sorted((ROOT / "conf/calibration").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_constant_has_its_provenance_and_nothing_else_has(path):
    constants = yaml.safe_load(path.read_text(encoding="utf-8"))
    provenance = yaml.safe_load((ROOT / "conf/provenance" / path.name).read_text(encoding="utf-8"))
    archs = [arch.value for arch in Arch if arch.value in constants]
    assert list(provenance) == archs
    for arch in archs:
        assert list(provenance[arch]) == list(constants[arch])
        for name, entry in provenance[arch].items():
            assert sorted(set(entry) - {"prior"}) == ["date", "source", "unit"], name
            assert all(entry.values()), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(wormhole={}), "Did you mean wormhole_b0"),
        (lambda d: d["blackhole"].update(dram_eficiency={}), "Did you mean dram_efficiency"),
        (lambda d: d["blackhole"].pop("dram_efficiency"), "calibration.blackhole lacks dram_efficiency"),
        (lambda d: d["blackhole"]["dram_efficiency"].pop("value"), "dram_efficiency lacks value"),
        (lambda d: d["blackhole"]["dram_efficiency"].update(value=1.2), "must be at most 1"),
        (lambda d: d["blackhole"]["dram_efficiency"].update(value="fast"), "must be a number"),
        (lambda d: d["blackhole"]["dram_efficiency"].update(value=math.nan), "must be a number"),
        (lambda d: d["blackhole"]["matmul_efficiency"].update(value=0), "must be more than 0"),
        (lambda d: d["blackhole"]["readers_per_bank"].update(value=1.5), "whole number"),
        (lambda d: d["blackhole"]["prefill"].update(value="now"), "must be one of untraced, traced, batched"),
        (lambda d: d["blackhole"]["all_reduce_line"]["value"].update(gb=1), "Did you mean gbs"),
        (lambda d: d["blackhole"].pop("all_reduce_ring"), "needs all_reduce_line and all_reduce_ring"),
        (lambda d: (d.pop("wormhole_b0"), d.pop("blackhole")), "has no architecture"),
    ],
)
def test_mistakes_are_named(change, message):
    data = calibration_data()
    change(data)
    with pytest.raises(ConfigError, match=message):
        Calibration.from_dict(data)


def test_an_architecture_without_constants_is_refused():
    data = calibration_data()
    del data["blackhole"]
    with pytest.raises(ConfigError, match="no constants for blackhole"):
        Calibration.from_dict(data).of(Arch.blackhole)


def test_predicting_needs_neither_torch_nor_numpy_nor_ttnn():
    code = "import sys, tt_transformers_v2.perf; sys.exit(bool({'torch', 'numpy', 'ttnn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
