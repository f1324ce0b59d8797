# SPDX-License-Identifier: Apache-2.0
"""What preflights found to fit L1, kept for later runs of the same configuration: a small JSON file for each.

Only ttnn knows what fits, and it is not asked by an emulated run. A file is named by a hash of all that decides which
plans are made and what lies in L1 beside them, the version of ttnn and this package's code among it. It appears whole
or not at all; what cannot be read counts as not there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..common.checkout import outputs_dir
from ..common.files import write_atomically
from ..planning.layer_groups import ordered_groups
from ..planning.op_plans import Fitted, first_layer
from ..planning.plans import from_fields, smaller_plans
from .layers import write_select
from .resolve import Experiment, hash_of

MOST_FILES = 1000  # some kB each; those written longest ago go first
_DECIDES = ("device", "precision", "compute", "layers", "memory", "parallelism", "model", "runtime")
_WORKLOAD = ("batch", "prompt_length", "context")
# What decides plans, and what lies in L1 beside an op when ttnn is asked about it.
_CODE = ("planning/*.py", "models/decoder.py", "backends/ttnn/*.py", "backends/ttnn/*/*.py")


def keep_fitted(experiment: Experiment, rows: Iterable[Mapping[str, Any]]) -> None:
    """Keeps which plans a preflight's `rows` found to fit in place of the first ones.

    Raises ConfigError where the file cannot be written.
    """
    hardware = experiment.hardware
    first_layers = {
        f"layer {write_select(list(group.layers))}": first_layer(hardware, min(group.layers))
        for group in ordered_groups(hardware, experiment.spec)
    }
    kept = [
        {
            "layer": first_layers.get(row["part"].partition(",")[0]),
            "group": row["op"],
            "phase": row["phase"],
            "first": row["first_program"],
            "fits": row["program"],
        }
        for row in rows
        if row["verdict"] == "fitted"
    ]
    path = _path(experiment)
    write_atomically(path, json.dumps(kept, indent=1) + "\n", hint=f"Make {path.parent} writable.")
    _make_room(path.parent)


def recall_fitted(experiment: Experiment) -> Fitted:
    """What an earlier preflight of the same configuration kept; empty without one, and with runtime.autofit=false."""
    if not experiment.config.runtime.autofit:
        return {}
    found: dict[Any, Any] = {}
    try:
        for entry in json.loads(_path(experiment).read_text(encoding="utf-8")):
            first, fits = from_fields(entry["first"]), from_fields(entry["fits"])
            key = (entry["layer"], entry["group"], entry["phase"], first)
            # Of an op that was asked about twice, the smaller plan fits in both places.
            order = list(smaller_plans(first))
            found[key] = max(found.get(key, first), fits, key=order.index)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def _path(experiment: Experiment) -> Path:
    tree = experiment.to_dict()
    decides = {name: tree[name] for name in _DECIDES} | {name: tree["workload"][name] for name in _WORKLOAD}
    decides |= {"ttnn": _ttnn_version(), "code": _code()}
    return outputs_dir() / "cache" / "plans" / f"{hash_of(decides)}.json"


def _ttnn_version() -> str:
    """Of the installed ttnn, which is not imported for it."""
    try:
        return importlib.metadata.version("ttnn")
    except importlib.metadata.PackageNotFoundError:  # none, or built from source and found by PYTHONPATH
        return "unknown"


@functools.cache
def _code() -> str:
    """A hash of the files that decide what a preflight finds."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for path in sorted(path for pattern in _CODE for path in root.glob(pattern)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _make_room(folder: Path) -> None:
    dated = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # another process made room
            dated.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(dated)[:-MOST_FILES]:
        path.unlink(missing_ok=True)
