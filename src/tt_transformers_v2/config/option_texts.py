# SPDX-License-Identifier: Apache-2.0
"""One line on every option of conf/: for --help and for the reference."""

from __future__ import annotations

from pathlib import Path

from ..common.errors import ConfigError
from .conf_folders import conf_dirs, read_yaml
from .groups import default_options, groups


def about(group: str, option: str) -> str:
    """A line on an option: its description, its hub name and shape, or the first sentence its file begins with."""
    tree = read_yaml(f"{group}/{option}.yaml")
    tree = tree if isinstance(tree, dict) else {}
    described = tree.get("device") if isinstance(tree.get("device"), dict) else tree
    if described and described.get("description"):
        return str(described["description"])
    if group == "model" and tree.get("hf_id"):
        return f"{tree['hf_id']}: {tree.get('num_layers')} layers, width {tree.get('hidden_dim')}"
    return _first_sentence(_file(group, option))


def listing() -> str:
    """Every group with its options, a line each, as --help shows it. The default of a group is marked."""
    lines: list[str] = []
    defaults = default_options()
    for group, options in groups().items():
        if not options:
            continue
        lines += ["", f"{group}="]
        width = max(20, *(len(option) + 2 for option in options))
        for option in options:
            mark = "*" if defaults.get(group) == option else " "
            lines.append(f" {mark} {option:{width}}{_about_or_problem(group, option)}".rstrip())
    return "\n".join(lines[1:])


def _about_or_problem(group: str, option: str) -> str:
    """A broken file of the user's own is listed like the others."""
    try:
        return about(group, option)
    except ConfigError as problem:
        return str(problem).splitlines()[0]


def _file(group: str, option: str) -> Path:
    found = (root / group / f"{option}.yaml" for root in conf_dirs())
    return next(path for path in found if path.is_file())


def _first_sentence(file: Path) -> str:
    """Of the comment that a file begins with; lines indented further are examples and end it."""
    words: list[str] = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("# @package", "# SPDX")):
            continue
        if not line.startswith("#") or line.startswith("#   "):
            break
        words.append(line.lstrip("# "))
    sentence = " ".join(words).partition(". ")[0].rstrip(".")
    return f"{sentence}." if sentence else ""
