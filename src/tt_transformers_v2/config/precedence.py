# SPDX-License-Identifier: Apache-2.0
"""What the user typed: the last word, over files and rules, and over finer groups that only files have set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..common.checked import field_types
from ..hardware.op_table import OP_GROUP_PARENTS, TENSOR_GROUP_PARENTS
from ..hardware.schema import ComputeOverride, HardwareSections


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
    """Sets a dotted path in nested dicts, making the levels that are missing; a mapping is merged into what is there,
    as Hydra does."""
    for leaf, inner in leaf_paths(path, value).items():
        *parents, last = leaf.split(".")
        at = tree
        for part in parents:
            if not isinstance(at.get(part), dict):
                at[part] = {}
            at = at[part]
        if inner != {} or not isinstance(at.get(last), dict):
            at[last] = inner


def release_finer(parts: HardwareSections, typed: Iterable[str]) -> list[str]:
    """Lets a typed coarse value reach the finer groups that files had set: those become null, which inherits.

    So `compute.mlp.math_fidelity=HiFi2` means the whole MLP, FF2 included. Returns the paths it released. Changes
    `parts`.
    """
    asked = set(typed)
    released: list[str] = []
    sections: list[tuple[str, Any, Iterable[str]]] = [
        (f"compute.{group}", getattr(parts.compute, group), field_types(ComputeOverride)) for group in OP_GROUP_PARENTS
    ]
    for where, section, names in (*sections, ("precision", parts.precision, TENSOR_GROUP_PARENTS)):
        for name in names:
            path = f"{where}.{name}"
            if path not in asked and getattr(section, name) is not None and governed_by(path, asked):
                setattr(section, name, None)
                released.append(path)
    return released
