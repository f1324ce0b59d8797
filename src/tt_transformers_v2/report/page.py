# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML file that needs nothing else: styles, scripts and data are inside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..common.files import write_atomically
from ..run.result_files import REPORT_FILE
from .calibrated import calibrated_sections
from .compare import TOLERANCE
from .document import build_document
from .loading import Sweep, read_sweeps
from .searches import search_sections

_SCRIPTS = ("base.js", "state.js", "plot.js", "sensitivity.js", "table.js", "details.js", "compare.js", "main.js")


def write_report(folder: Path) -> Path:
    """Writes report.html into `folder`, the folder of a sweep or run, in one step; returns its path.

    Raises ConfigError where there is nothing to report, a result is of a newer version, or the file cannot be written.
    """
    return write_page(read_sweeps([folder]), folder / REPORT_FILE)


def write_page(sweeps: Sequence[Sweep], path: Path, *, compared: bool = False, tolerance: float = TOLERANCE) -> Path:
    """The report over `sweeps` at `path`; see `build_document`. Raises ConfigError where it cannot be written."""
    document = build_document(sweeps, compared=compared, tolerance=tolerance)
    page = render(document, search_sections(sweeps) + calibrated_sections(sweeps))
    write_atomically(path, page, hint="Choose another --out.")
    return path


def render(document: dict[str, Any], searches: str = "") -> str:
    """The page over a document of `build_document`, with the sections of single tasks.

    Only our own style and script may run, by their hashes, and nothing may be fetched: text from a result that reads
    like HTML stays text.
    """
    style, script = _asset("report.css"), "\n".join(_asset(name) for name in _SCRIPTS)
    parts = {
        "policy": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:",
        "searches": searches,
        "style": style,
        "data": embedded_json(document),
        "script": script,
    }
    page = _asset("template.html")
    before, *sections = page.split("{{")
    return before + "".join(parts[name] + rest for name, rest in (part.split("}}", 1) for part in sections))


def embedded_json(document: Any) -> str:
    """`document` as JSON that may stand in a script element: it holds no `<`, so it can neither close nor open one."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
