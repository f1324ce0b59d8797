# SPDX-License-Identifier: Apache-2.0
"""device=auto from what tt-smi wrote. The files are written for these tests, in the form of `tt-smi -s`."""

import json

import pytest

from tt_transformers_v2.commands import explain, predict
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.run.board_snapshot import snapshot_device


def written(tmp_path, *board_types):
    path = tmp_path / "snapshot.json"
    chips = [{"board_info": {"board_type": kind, "bus_id": "N/A"}, "telemetry": {}} for kind in board_types]
    path.write_text(json.dumps({"time": "2026-08-01", "host_info": {}, "device_info": chips}))
    return path


@pytest.mark.parametrize(
    ("board_types", "device"),
    [
        (["n150 L"], "N150"),
        (["n150 L"] * 4, "N150x4"),
        (["n300 L", "n300 R"], "N300"),
        (["n300 L", "n300 R"] * 4, "T3K"),
        (["p100a"], "P100"),
        (["p150a"], "P150"),
        (["p150b"] * 2, "P150x2"),
        (["p150a", "p150b"] * 2, "P150x4"),
        (["p150c"] * 8, "P150x8"),
        (["p300c"] * 2, "P300"),
        (["p300c"] * 4, "P300x2"),
        (["tt-galaxy-wh"] * 32, "WH_GALAXY"),
        (["tt-galaxy-bh"] * 32, "BH_GALAXY"),
        (["n150 L"] * 4 + ["wh_4u"] * 32, "TG"),
    ],
    ids=str,
)
def test_a_machine_is_told_by_its_boards(board_types, device, tmp_path):
    assert snapshot_device(written(tmp_path, *board_types)) == device


@pytest.mark.parametrize(
    ("board_types", "says"),
    [
        (["n150 L"] * 3, "no device file describes a machine of these chips: 3 x 'n150 l'"),
        (["n150 L", "p150a"], "1 x 'n150 l', 1 x 'p150a'"),
        (["tt-galaxy-wh"] * 31, "31 x 'tt-galaxy-wh'"),
        (["e150"], "1 x 'e150'"),
    ],
    ids=str,
)
def test_boards_that_no_device_has_are_named(board_types, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        snapshot_device(written(tmp_path, *board_types))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "lists no chips under device_info. Write it with: tt-smi -s > FILE"),
        ('{"device_info": []}', "lists no chips"),
        ('{"device_info": [{"board_info": {}}]}', r"device_info\[0\].board_info.board_type is missing"),
        ("[1]", "lists no chips"),
        ("no json", "is not JSON"),
    ],
)
def test_a_file_that_is_none_of_tt_smis_is_refused(text, says, tmp_path):
    path = tmp_path / "snapshot.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        snapshot_device(path)


@pytest.mark.parametrize("main", [predict.main, explain.main])
def test_commands_take_it_for_auto_and_only_then(main, tmp_path, capsys):
    path = written(tmp_path, *["n300 L", "n300 R"] * 4)
    assert main(["device=auto", "--snapshot", str(path)]) == 0
    assert "T3K" in capsys.readouterr().out
    assert main(["device=n150", "--snapshot", str(path)]) == 2
    assert "no device=auto is given. Add device=auto." in capsys.readouterr().err
    assert main(["device=auto", "--snapshot", str(tmp_path / "none")]) == 2
    assert "cannot read" in capsys.readouterr().err
