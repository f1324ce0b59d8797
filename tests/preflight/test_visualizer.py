# SPDX-License-Identifier: Apache-2.0
"""preflight.visualizer: the folder that ttnn-visualizer opens, with the real ttnn."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, own_cache: str) -> tuple[Path, dict[str, Any]]:
    """The folder of one preflight, and its section of the result."""
    place = tmp_path_factory.mktemp("visualizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", own_cache)
        patch.setattr("tt_transformers_v2.config.fitted_plans.outputs_dir", lambda: place / "outputs")
        arguments = [f"preflight.visualizer={place / 'folder'}", f"hydra.run.dir={place / 'run'}"]
        assert cli.main(["task=preflight", *arguments]) == 0
    return place / "folder", json.loads((place / "run" / "result.json").read_text())["preflight"]


def test_the_folder_has_operations_tensors_and_buffers_of_what_was_checked(
    written: tuple[Path, dict[str, Any]],
) -> None:
    folder, section = written
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
    assert rows(database, "select count(*) from buffer_chunks")[0][0] > 1000  # which cores hold them
    described = yaml.safe_load((folder / "cluster_descriptor.yaml").read_text())
    assert described["arch"] == {0: "wormhole_b0"}
    assert section["visualizer"] == {"folder": str(folder), "ended_at": None}
    assert any("ttnn-visualizer" in note for note in section["notes"])


def test_layouts_of_buffers_are_those_of_their_tensors(written: tuple[Path, dict[str, Any]]) -> None:
    """By the numbers of ttnn.TensorMemoryLayout; the visualizer's page of buffers stops at a number that is none."""
    import ttnn

    made = rows(
        sqlite3.connect(written[0] / "db.sqlite"),
        "select distinct buffer_layout, memory_config from output_tensors join tensors using (tensor_id) "
        "join buffers using (operation_id, address, buffer_type)",
    )
    named = {(number, re.search(r"TensorMemoryLayout::(\w+)", config)[1]) for number, config in made}
    names = ("INTERLEAVED", "HEIGHT_SHARDED", "WIDTH_SHARDED")
    assert named == {(getattr(ttnn.TensorMemoryLayout, name).value, name) for name in names}


def test_a_second_preflight_takes_the_place_of_the_first_in_the_folder(
    written: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = shutil.copytree(written[0], tmp_path / "visualizer")
    query = "select count(*) from tensors where shape = 'Shape([1, 1, {}, 576])'"
    assert rows(sqlite3.connect(folder / "db.sqlite"), query.format(1024))[0][0] == 0
    arguments = [f"preflight.visualizer={folder}", "workload.prompt_length=1024", f"hydra.run.dir={tmp_path / 'run'}"]
    assert cli.main(["task=preflight", *arguments]) == 0
    database = sqlite3.connect(folder / "db.sqlite")
    assert rows(database, query.format(1024))[0][0] > 0
    assert rows(database, query.format(128))[0][0] == 0


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
