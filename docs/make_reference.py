#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference.md from the schema and conf/, and the table of docs/findings.md from the code that finds:
python docs/make_reference.py [--check]"""

from __future__ import annotations

import dataclasses
import enum
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))  # that of this checkout, installed or not

import tt_transformers_v2.config.resolve  # noqa: F401 - declares every finding
from tt_transformers_v2.common.checked import UNIONS, field_types
from tt_transformers_v2.config.building import nested_dataclass
from tt_transformers_v2.config.composition import compose_with_origins
from tt_transformers_v2.config.conf_folders import conf_dir
from tt_transformers_v2.config.experiment_schema import ExperimentConfig
from tt_transformers_v2.config.findings import Kind, TtnnUse, declared
from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.config.option_texts import about

TARGET = Path(__file__).resolve().parent / "reference.md"
FINDINGS = TARGET.with_name("findings.md")
BEGIN, END = "<!-- made by docs/make_reference.py -->\n", "<!-- end -->\n"
HEAD = """# Reference: every option

Made from the schema and `conf/` by `docs/make_reference.py`; a test compares. Choose an option of a group with
`GROUP=OPTION`, set a value with `KEY=VALUE`, sweep either with `--multirun KEY=A,B`. Devices and models are also known
by their types, aliases and hub names (`device=T3000`). `scripts/explain.py` says which file, rule or override gave a
value.

"""
KEYS = """## Values

Defaults are those of a run without overrides (`device=n150 precision=performance model=smollm2_135m`), with the file
that sets them; a dash is the schema's own default.
"""
# Read from files that state the unit, source and date of every constant; a table here would repeat them.
LEFT_OUT = {"calibration": "every constant with unit, source and date: [predictions](predictions.md)"}
_KEY_LINE = re.compile(r"^(\s*)([\w.]+):(.*)$")
_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")


def main() -> int:
    pages = {TARGET: reference(), FINDINGS: findings(FINDINGS.read_text(encoding="utf-8"))}
    if "--check" in sys.argv:
        return int(any(path.read_text(encoding="utf-8") != text for path, text in pages.items()))
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


def findings(page: str) -> str:
    """The page with its table made anew."""
    head, rest = page.split(BEGIN)
    rows = [f"| `{kind.id}` | {kind.severity} | {_cell(kind.when)}{_stops(kind)} |\n" for kind in declared()]
    table = "".join(["| id | severity | when |\n| --- | --- | --- |\n", *rows])
    return f"{head}{BEGIN}{table}{END}{rest.partition(END)[2]}"


def _stops(kind: Kind) -> str:
    """For which uses of ttnn a finding is an error though it is none elsewhere."""
    uses = {TtnnUse.run: "`backend=ttnn`", TtnnUse.preflight: "`task=preflight`"}
    return f"; an error with {' and '.join(uses[use] for use in kind.stops)}" if kind.stops else ""


def reference() -> str:
    """The page."""
    composed = compose_with_origins([])
    parts = [HEAD, "## Groups\n\n"]
    for group, options in groups().items():
        if not options:
            continue
        parts.append(f"### {group}\n\n| option | what it is |\n|---|---|\n")
        parts += [f"| `{option}` | {_cell(about(group, option))} |\n" for option in options]
        parts.append("\n")
    parts.append(KEYS)
    sections: dict[str, list[str]] = {}
    for path, annotation, default in _leaves(ExperimentConfig, ""):
        section = path.split(".")[0] if "." in path else "top level"
        origin = next((o for key, o in composed.origins.items() if key == path or key.startswith(path + ".")), None)
        value = _at(composed.tree, path, default)
        comment = _comment(path, origin) if origin else ""
        row = (
            f"| `{path}` | {_cell(_type(annotation))} | {_cell(_shown(value))} | {origin or '–'} | {_cell(comment)} |\n"
        )
        sections.setdefault(section, []).append(row)
    for section, rows in sections.items():
        parts.append(f"\n### {section} values\n\n| key | type | default | from | |\n|---|---|---|---|---|\n")
        parts += rows
    parts += [f"\n`{name}`: {why}.\n" for name, why in LEFT_OUT.items()]
    return "".join(parts)


def _leaves(cls: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, annotation, default) of every value of the schema."""
    defaults = {field.name: _default(field) for field in dataclasses.fields(cls)}
    for name, annotation in field_types(cls).items():
        where = f"{path}.{name}" if path else name
        inner = nested_dataclass(annotation)
        if where in LEFT_OUT or name == "sources":
            continue
        if inner is not None:
            yield from _leaves(inner, where)
        else:
            yield where, annotation, defaults[name]


def _default(field: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else dataclasses.MISSING


def _at(tree: Any, path: str, default: Any) -> Any:
    for part in path.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return default
        tree = tree[part]
    return tree


def _type(annotation: Any) -> str:
    """An annotation in words a reader of YAML knows."""
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in UNIONS:
        return " or ".join(_type(each) for each in inner)
    if origin is list:
        return f"list of {_type(inner[0])}" if inner[0] is not Any else "list"
    if origin is dict or annotation is dict:
        return "mapping"
    return {int: "whole number", float: "number", bool: "true or false", str: "text"}.get(annotation, "any")


def _shown(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    if value is None or isinstance(value, bool):
        return "`null`" if value is None else f"`{str(value).lower()}`"
    text = str(value.value if isinstance(value, enum.Enum) else value)
    return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}...`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _comment(path: str, origin: str) -> str:
    """The comment beside a key in the file that sets it, with the lines that go on with it, or the one above."""
    key, lines = path.split(".")[-1], (conf_dir() / origin).read_text(encoding="utf-8").splitlines()
    parent = path.split(".")[-2] if "." in path else ""
    seen_parent = ""
    for number, line in enumerate(lines):
        match = _KEY_LINE.match(line)
        if match is None:
            continue
        if not match[3].split("#")[0].strip():
            seen_parent = match[2]
        if match[2] != key or (match[1] and seen_parent != parent):
            continue
        beside = _COMMENT.search(match[3])
        if beside:
            return " ".join([beside[1], *_continued(lines[number + 1 :], indented=True)])
        above = list(_continued(reversed(lines[:number]), indented=False))
        return " ".join(reversed(above))
    return ""


def _continued(lines: Any, *, indented: bool) -> Iterator[str]:
    """The comment lines that follow at once; `indented` ones stand under a comment beside a key."""
    for line in lines:
        stripped = line.lstrip()
        if stripped.startswith(("# @package", "# SPDX")):
            return
        if not stripped.startswith("#") or (line != stripped and len(line) - len(stripped) > 10) != indented:
            return
        yield stripped.lstrip("# ")


if __name__ == "__main__":
    sys.exit(main())
