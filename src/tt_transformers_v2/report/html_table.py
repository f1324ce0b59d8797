# SPDX-License-Identifier: Apache-2.0
"""A table of a report's section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """HTML of a table that scrolls where it is wider than the page; names and cells are escaped."""
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th>{escape(column)}</th>" for column in columns)
    yield "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"
