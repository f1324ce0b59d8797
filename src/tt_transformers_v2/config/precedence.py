# SPDX-License-Identifier: Apache-2.0
"""What the user typed: the last word, over files and rules, and over finer groups that only files have set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..hardware.schema import OP_GROUP_PARENTS, TENSOR_GROUP_PARENTS


def leaf_paths(path: str, value: Any) -> dict[str, Any]:
    """Dotted path -> value of every leaf under `path`; a mapping typed as a whole is taken apart."""
    if isinstance(value, Mapping) and value:
        leaves: dict[str, Any] = {}
        for key, inner in value.items():
            leaves.update(leaf_paths(f"{path}.{key}" if path else str(key), inner))
        return leaves
    return {path: value}


def governing_paths(path: str) -> list[str]:
    """`path` and the coarser paths it inherits from: precision.ff2 -> precision.mlp_weights and so on."""
    parts = path.split(".")
    paths = [path]
    if parts[0] == "precision" and len(parts) == 2 and parts[1] in TENSOR_GROUP_PARENTS:
        paths.append(f"precision.{TENSOR_GROUP_PARENTS[parts[1]]}")
    if parts[0] == "compute" and len(parts) == 3:
        group = parts[1]
        while group in OP_GROUP_PARENTS:
            group = OP_GROUP_PARENTS[group]
            paths.append(f"compute.{group}.{parts[2]}")
    return paths


def governed_by(path: str, typed: Iterable[str]) -> str | None:
    """The typed path that decides `path` (itself or a coarser one), or None when nothing typed does."""
    asked = set(typed)
    return next((candidate for candidate in governing_paths(path) if candidate in asked), None)


def set_path(tree: dict[str, Any], path: str, value: Any) -> None:
    """Sets a dotted path in nested dicts, making the levels that are missing."""
    *parents, last = path.split(".")
    for part in parents:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    tree[last] = value


def _section(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping at `key`; an empty one for anything else, which the schema refuses later."""
    found = tree.get(key)
    return found if isinstance(found, Mapping) else {}


def release_finer(tree: dict[str, Any], typed: Iterable[str]) -> list[str]:
    """Lets a typed coarse value reach the finer groups that files had set: those become null, which inherits.

    So `compute.mlp.math_fidelity=HiFi2` means the whole MLP, FF2 included. Returns the paths it released. Changes
    `tree`, the composed configuration as nested dicts.
    """
    asked = set(typed)
    released: list[str] = []
    for group in OP_GROUP_PARENTS:
        for name, value in _section(_section(tree, "compute"), group).items():
            path = f"compute.{group}.{name}"
            if value is not None and path not in asked and governed_by(path, asked):
                released.append(path)
    for group in TENSOR_GROUP_PARENTS:
        path = f"precision.{group}"
        value = _section(tree, "precision").get(group)
        if value is not None and path not in asked and governed_by(path, asked):
            released.append(path)
    for path in released:
        set_path(tree, path, None)
    return released
