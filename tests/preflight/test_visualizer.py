# SPDX-License-Identifier: Apache-2.0
"""preflight.visualizer: the folder that ttnn-visualizer opens, with the real ttnn."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from pathlib import Path

import pytest
import yaml

from tt_transformers_v2.commands import run as cli

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ttnn") is None, reason="ttnn is not installed: there is no wheel for this machine"
)

L1 = 1  # buffer_type of ttnn's tables


def rows(database: sqlite3.Connection, query: str) -> list[tuple]:
    return database.execute(query).fetchall()


@pytest.fixture(autouse=True)
def _own_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tt_transformers_v2.config.fitted_plans.outputs_dir", lambda: tmp_path / "outputs")


def test_the_folder_has_operations_tensors_and_buffers_of_what_was_checked(tmp_path: Path) -> None:
    folder = tmp_path / "visualizer"
    code = cli.main(["task=preflight", f"preflight.visualizer={folder}", f"hydra.run.dir={tmp_path / 'run'}"])
    section = json.loads((tmp_path / "run" / "result.json").read_text())["preflight"]
    assert code == 0
    assert {path.name for path in folder.iterdir()} == {"db.sqlite", "cluster_descriptor.yaml", "config.json"}
    database = sqlite3.connect(folder / "db.sqlite")
    names = [name for (name,) in rows(database, "select name from operations")]
    linears = [row for row in section["ops"] if row["op"] in ("wqkv", "wo", "ff2", "ff1_ff3", "lm_head")]
    assert names.count("ttnn.linear") >= len(linears) > 0
    assert names.count("ttnn.transformer.scaled_dot_product_attention") == 1
    assert len(names) > section["asked_ops"]  # placing of weights and caches besides
    shapes = {shape for (shape,) in rows(database, "select shape from tensors")}
    assert "Shape([1, 1, 576, 1536])" in shapes  # FF1's weights
    assert rows(database, f"select count(*) from buffers where buffer_type = {L1} and max_size_per_bank > 0")[0][0] > 50
    assert rows(database, "select count(*) from errors") == [(0,)]
    described = yaml.safe_load((folder / "cluster_descriptor.yaml").read_text())
    assert described["arch"] == {0: "wormhole_b0"}
    assert section["visualizer"] == {"folder": str(folder), "ended_at": None}
    assert any("ttnn-visualizer" in note for note in section["notes"])


def test_a_second_preflight_takes_the_place_of_the_first_in_the_folder(tmp_path: Path) -> None:
    folder, counts = tmp_path / "visualizer", []
    for prompt in ("128", "64"):
        run = tmp_path / prompt
        arguments = [f"preflight.visualizer={folder}", f"workload.prompt_length={prompt}", f"hydra.run.dir={run}"]
        assert cli.main(["task=preflight", *arguments]) == 0
        counts.append(rows(sqlite3.connect(folder / "db.sqlite"), "select count(*) from operations")[0][0])
    assert counts[1] == pytest.approx(counts[0], rel=0.1)


def test_what_came_before_a_refused_op_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "visualizer"
    arguments = ["memory.kv_cache_placement=L1", f"preflight.visualizer={folder}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert cli.main(["task=preflight", *arguments]) == 1
    section = json.loads((tmp_path / "run" / "result.json").read_text())["preflight"]
    assert section["failed_ops"] == 1
    assert section["visualizer"]["ended_at"]
    assert any("up to the op that ttnn refused" in note for note in section["notes"])
    database = sqlite3.connect(folder / "db.sqlite")
    assert rows(database, "select count(*) from operations")[0][0] > 0


def test_a_folder_that_cannot_be_made_is_a_mistake_of_the_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    arguments = [f"preflight.visualizer={tmp_path / 'file' / 'folder'}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert cli.main(["task=preflight", *arguments]) == 2
    assert "preflight.visualizer: cannot write" in capsys.readouterr().err
