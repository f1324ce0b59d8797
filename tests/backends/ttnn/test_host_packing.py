# SPDX-License-Identifier: Apache-2.0
"""What ttnn makes of float32 on the host is, bit for bit, what this project's numerics make of it.

bfp2 is not among the formats: ttnn has no such dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tt_transformers_v2.hardware.enums import DataFormat

Rows = list[dict[str, Any]]
TILES = 32 * 32  # of each matrix of numbers, also of the ragged one, which is padded


@pytest.fixture(scope="module")
def rows(run: Callable[..., dict[str, Any]]) -> Rows:
    return run("ttnn_packing_jobs:packed", seed=0)["rows"]


@pytest.mark.parametrize("data_format", DataFormat)
def test_ttnn_and_numerics_pack_the_same_bits(rows: Rows, data_format: DataFormat) -> None:
    own = [row for row in rows if row["format"] == data_format]
    values, differing = sum(row["values"] for row in own), sum(row["tile_bits"] + row["value_bits"] for row in own)
    print(f"{data_format}: {values:,} values of {len(own)} kinds, {differing} differing bits")
    assert min(row["values"] for row in own) > 1_000_000
    assert [row for row in own if row["tile_bits"] or row["value_bits"]] == []


@pytest.mark.parametrize("data_format", DataFormat)
def test_a_tile_has_the_bytes_the_configuration_counts_with(rows: Rows, data_format: DataFormat) -> None:
    sizes = {row["bytes"] for row in rows if row["format"] == data_format}
    assert sizes == {TILES * data_format.tile_bytes}


@pytest.mark.parametrize("data_format", [DataFormat.BFP4, DataFormat.BFP8])
def test_the_numbers_tell_the_rules_from_the_usual_float_formula(rows: Rows, data_format: DataFormat) -> None:
    """Otherwise 0 differing bits would say little: of ordinary numbers the formula is wrong for a few in a million."""
    wrong = {row["kind"]: row["float_form"] for row in rows if row["format"] == data_format}
    assert wrong["normal"] < 20
    assert wrong["one beside ties"] > 1000
