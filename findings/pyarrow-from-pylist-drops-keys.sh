#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: pyarrow.Table.from_pylist makes a column of each key, null where a row lacks it.
# Happens: the first row alone decides which columns there are; keys that first appear later are dropped without a word,
#   their figures with them. Inside a nested mapping the keys of all rows are kept.
# Seen: pyarrow 21.0.0, 2026-11
# Output: columns ['job'], rows [{'job': 1}, {'job': 2}]; nested: [{'x': 1, 'y': None}, {'x': None, 'y': 2}]
# Here: results.parquet is made from named columns, and every row of results.jsonl has every column.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==21.0.0
cd "$folder"

venv/bin/python - <<'END_PYTHON'
import pyarrow

table = pyarrow.Table.from_pylist([{"job": 1}, {"job": 2, "tokens_per_s": 31.5}])
nested = pyarrow.Table.from_pylist([{"figures": {"x": 1}}, {"figures": {"y": 2}}])
inner = [row["figures"] for row in nested.to_pylist()]
print("pyarrow", pyarrow.__version__)
print("Rows of which the second has one key more:")
print(f"columns {table.column_names}, rows {table.to_pylist()}; nested: {inner}")
assert table.to_pylist() == [{"job": 1}, {"job": 2}]
assert inner == [{"x": 1, "y": None}, {"x": None, "y": 2}]
END_PYTHON
