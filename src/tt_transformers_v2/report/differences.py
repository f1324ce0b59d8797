# SPDX-License-Identifier: Apache-2.0
"""What configurations share and where they differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


class Missing:
    """Stands where a configuration has no such key."""

    def __repr__(self) -> str:
        return "(none)"


MISSING = Missing()


def as_text(value: Any) -> str:
    """A configuration's value as one would type it; objects and lists as JSON."""
    if value is MISSING:
        return repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def split_common(configs: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """What all of `configs` share, flat by dotted path, and each other path with its value in every one of them.

    Lists stay whole unless they hold objects; those get paths such as `layers.3.select`.
    """
    common: dict[str, Any] = {}
    varying: dict[str, list[Any]] = {}
    if configs:
        _split(list(configs), "", common, varying)
    return common, varying


def _split(trees: list[Any], path: str, common: dict[str, Any], varying: dict[str, list[Any]]) -> None:
    first = trees[0]
    if all(tree is first or tree == first for tree in trees):
        common |= _flat(first, path)
        return
    children = [_children(tree) for tree in trees]
    if not all(child is not None or tree is MISSING for child, tree in zip(children, trees, strict=True)):
        varying[path] = [MISSING if tree is MISSING else tree for tree in trees]
        return
    keys = dict.fromkeys(key for child in children if child for key in child)
    for key in keys:
        inner = [MISSING if child is None else child.get(key, MISSING) for child in children]
        _split(inner, f"{path}.{key}" if path else str(key), common, varying)


def _flat(tree: Any, path: str) -> dict[str, Any]:
    children = _children(tree)
    if not children:
        return {path: tree}
    flat: dict[str, Any] = {}
    for key, child in children.items():
        flat |= _flat(child, f"{path}.{key}" if path else str(key))
    return flat


def _children(tree: Any) -> dict[str, Any] | None:
    """The parts of an object or of a list of objects; None for a leaf."""
    if isinstance(tree, dict):
        return tree
    if isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        return {str(index): item for index, item in enumerate(tree)}
    return None
