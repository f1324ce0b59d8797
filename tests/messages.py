#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every text that a user can see, in one list: python tests/messages.py [--write]

A line is `FILE: text`, without a line number, so that moving code changes nothing. --write puts the list into
tests/data/messages.txt, which tests/test_messages.py compares.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml

from places import DATA, ROOT

sys.path.insert(0, str(ROOT / "src"))  # as a script; pytest has it already

from tt_transformers_v2.__main__ import commands
from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.config.option_texts import about

TARGET = DATA / "messages.txt"
CODE = ("src/tt_transformers_v2", "src/hydra_plugins", "scripts")
REPORT = "src/tt_transformers_v2/report"
# Keys of conf/ whose text is printed.
_SHOWN_KEYS = ("description", "why", "reason", "outcome")
# Two words, or a word beside a placeholder: a message, not a key, a name or a unit.
_PROSE = re.compile(r"[A-Za-z)\]]{2,}[,;:.]? +[A-Za-z(]{2,}|[a-z]{2,}[:,]? \{|\}[,;]? [a-z]{2,}")
# Arguments that argparse prints, however short.
_HELP = ("help", "description", "epilog", "usage")
# What is said of a model that has a name on the hub: data, not prose.
_SHAPE = re.compile(r": \d+ layers, width \d+$")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def messages() -> list[str]:
    """Every text, sorted, each once per file."""
    found: set[str] = set()
    for path, text in [*_of_python(), *_of_conf(), *_of_report()]:
        found.add(f"{path.relative_to(ROOT).as_posix()}: {' '.join(text.split())}")
    return sorted(found)


def _of_python() -> Iterator[tuple[Path, str]]:
    """Every string with words in it that is no docstring, since no list of functions that print could be complete; and
    the first lines of commands/, which `tt` prints."""
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text, is_help in _strings(ast.parse(path.read_text(encoding="utf-8"))):
                if text.strip() and (is_help or _PROSE.search(text)):
                    yield path, text
    for name, line in commands().items():
        yield ROOT / CODE[0] / "commands" / f"{name.replace('-', '_')}.py", line


def _strings(tree: ast.AST, is_help: bool = False) -> Iterator[tuple[str, bool]]:
    """The strings below a node, also those within the placeholders of others, and whether argparse prints them."""
    text = _text(tree)
    if text is not None:
        yield text, is_help
        for inner in _filled_in(tree):
            yield from _strings(inner)
        return
    for name, child in _children(tree):
        yield from _strings(child, isinstance(tree, ast.keyword) and tree.arg in _HELP and name == "value")


def _filled_in(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in a string's placeholders, unless it is a string itself and so part of the text."""
    if isinstance(node, ast.JoinedStr):
        parts: list[ast.AST] = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
    else:
        parts = [node.left, node.right] if isinstance(node, ast.BinOp) else []
    for part in parts:
        if _text(part) is None:
            yield part
        else:
            yield from _filled_in(part)


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        if isinstance(node, _DOCUMENTED) and name == "body" and ast.get_docstring(node, clean=False) is not None:
            children = children[1:]
        yield from ((name, child) for child in children if isinstance(child, ast.AST))


def _text(node: ast.AST) -> str | None:
    """A string, an f-string or a sum of them as one text; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _placeholder(part.value) if isinstance(part, ast.FormattedValue) else _text(part) or ""
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        if left is not None or right is not None:
            return (_placeholder(node.left) if left is None else left) + (
                _placeholder(node.right) if right is None else right
            )
    return None


def _placeholder(node: ast.AST) -> str:
    """The name of what is filled in, or the texts of which one is."""
    if isinstance(node, ast.IfExp):
        return "{" + "|".join(_text(each) or _placeholder(each) for each in (node.body, node.orelse)) + "}"
    text = _text(node)
    if text is not None:
        return text
    return "{" + _named(node) + "}"


def _named(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Subscript):
        return _named(node.slice) if isinstance(node.slice, ast.Constant) else _named(node.value)
    if isinstance(node, ast.Call):
        called = _named(node.func)
        return ", ".join(map(_named, node.args)) if called in ("join", "str", "escape", "escaped", "shown") else called
    inner = [_named(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return next((name for name in inner if name), "")


def _of_conf() -> Iterator[tuple[Path, str]]:
    """What explain, --help and results show of conf/: why rules and findings hold, and what every option is."""
    conf = ROOT / "conf"
    for path in sorted(conf.rglob("*.yaml")):
        yield from ((path, text) for text in _shown_values(yaml.safe_load(path.read_text(encoding="utf-8"))))
    for group, options in groups().items():
        for option in options:
            text = about(group, option)
            if text and not _SHAPE.search(text):
                yield conf / group / f"{option}.yaml", text


def _shown_values(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from [value] if key in _SHOWN_KEYS and isinstance(value, str) else _shown_values(value)
    elif isinstance(tree, list):
        for entry in tree:
            yield from _shown_values(entry)


def _of_report() -> Iterator[tuple[Path, str]]:
    """What the page of a report shows: the strings of its scripts but for CSS classes, and the template's text."""
    for path in sorted((ROOT / REPORT).glob("*.js")):
        for text in javascript_strings(path.read_text(encoding="utf-8")):
            if _PROSE.search(text) and not text.startswith("M{"):  # M begins the path of a picture
                yield path, text
    path = ROOT / REPORT / "template.html"
    page = _PageText()
    page.feed(path.read_text(encoding="utf-8"))
    for text in page.found:
        yield path, text


# A comment, a string, or a regular expression where an operand may stand; a template is read by hand, as it nests.
_JAVASCRIPT = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<regex>(?<=[(=,:\[!&|?{};])\s*/(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/)
    |(?P<template>`)|(?P<open>\{)|(?P<close>\})""",
    re.VERBOSE | re.DOTALL,
)


def javascript_strings(source: str) -> list[str]:
    """The strings and templates of a script, placeholders as {expression}; CSS classes and modes are left out."""
    found: list[str] = []
    _read_javascript(source, 0, found, inside_template=False)
    return found


def _read_javascript(source: str, at: int, found: list[str], *, inside_template: bool) -> int:
    """Reads code from `at` to the end, or to the brace that ends a placeholder, and returns where it stopped."""
    depth = 0
    while match := _JAVASCRIPT.search(source, at):
        at = match.end()
        if match["template"]:
            at, text = _read_template(source, at, found)
        elif match["string"]:
            text = match["string"][1:-1]
        else:
            depth += bool(match["open"]) - bool(match["close"])
            if inside_template and depth < 0:
                return at
            continue
        if not re.search(r"class: $|class: \[?[^\]},]*$", source[: match.start()].rpartition("\n")[2]):
            found.append(text)
    return len(source)


def _read_template(source: str, at: int, found: list[str]) -> tuple[int, str]:
    """The position after the closing backtick, and the text with {expression} for every placeholder."""
    text = ""
    while source[at] != "`":
        if source.startswith("${", at):
            end = _read_javascript(source, at + 2, found, inside_template=True)
            inner = source[at + 2 : end - 1]
            text += "{" + (inner if re.fullmatch(r"[\w.]+", inner) else re.split(r"[^\w.]", inner)[0] or "…") + "}"
            at = end
        else:
            width = 2 if source[at] == "\\" else 1
            text += source[at : at + width]
            at += width
    return at + 1, text


class _PageText(HTMLParser):
    """The text of a page and its labels for screen readers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name == "aria-label" and value]

    def handle_data(self, data: str) -> None:
        if data.strip() and "{{" not in data:
            self.found.append(data)


if __name__ == "__main__":
    if "--write" in sys.argv:
        TARGET.write_text("\n".join(messages()) + "\n", encoding="utf-8")
    else:
        print("\n".join(messages()))
