#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: the database that ttnn imports a captured graph into has a buffer's layout as ttnn.TensorMemoryLayout has it,
#   as it has where buffers were traced in detail.
# Happens: of buffers in the graph alone, the import counts the layouts 0 to 3, but the enumeration leaves out 1: height
#   sharded is 1 for 2, width sharded 2 for 3, block sharded 3 for 4. A reader that goes by the enumeration takes width
#   for height sharded, block for width sharded, and finds no name for height sharded.
# Seen: ttnn 0.81.1, Python 3.12 (it has wheels for 3.10 and 3.12), no card, 2026-11
# Output: INTERLEAVED 0 (0), HEIGHT_SHARDED 1 (2), WIDTH_SHARDED 2 (3), BLOCK_SHARDED 3 (4)
# Here: preflight.visualizer=DIR traces buffers in detail, whose numbers are the enumeration's.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ttnn==0.81.1 numpy==1.26.4
cd "$folder"

cat > layouts.py <<'END_PYTHON'
import json
import sqlite3
from importlib.metadata import version
from pathlib import Path

import ttnn
from ttnn.graph_report import import_report

LAYOUTS = ("INTERLEAVED", "HEIGHT_SHARDED", "WIDTH_SHARDED", "BLOCK_SHARDED")

nodes = [
    {"node_type": "capture_start"},
    {"node_type": "function_start", "params": {"name": "ttnn::add", "inputs": "0"}},
]
for place, layout in enumerate(LAYOUTS, 1):
    buffer = {"device_id": "0", "address": str(4096 * place), "size": "4096", "page_size": "2048", "num_cores": "1"}
    nodes.append({"node_type": "buffer_allocate", "params": buffer | {"layout": layout, "max_size_per_bank": "4096"}})
nodes += [{"node_type": "function_end", "params": {"name": "ttnn::add"}}, {"node_type": "capture_end"}]
empty = {"arguments": [], "params": {}}
graph = [empty | {"counter": i, "connections": [i + 1][: i < len(nodes) - 1]} | node for i, node in enumerate(nodes)]
report = {"version": 1, "metadata": {"rank": 0}, "graph": graph, "devices": [{"device_id": 0}]}
Path("report.json").write_text(json.dumps(report))

database = sqlite3.connect(import_report("report.json", "imported"))
found = dict(database.execute("SELECT address / 4096, buffer_layout FROM buffers").fetchall())
print("ttnn", version("ttnn"))
print("Layout, its number in the database, and in ttnn.TensorMemoryLayout:")
for place, layout in enumerate(LAYOUTS, 1):
    print(layout, found[place], getattr(ttnn.TensorMemoryLayout, layout).value)
assert [found[place] for place in range(1, 5)] == [0, 1, 2, 3]
assert [getattr(ttnn.TensorMemoryLayout, layout).value for layout in LAYOUTS] == [0, 2, 3, 4]
END_PYTHON
LOGURU_LEVEL=ERROR TT_LOGGER_LEVEL=off venv/bin/python layouts.py
