# SPDX-License-Identifier: Apache-2.0
"""What a person sees when a sweep is done: a table of what was swept and the main figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def print_sweep(rows: Sequence[dict[str, Any]], where: str) -> None:
    """The table of a sweep on standard output: what was overridden and the main figures."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    if not rows:
        console.print("no job finished")
        return
    names = list(rows[0])
    swept = [name for name in names[1 : names.index("status")] if len({row[name] for row in rows}) > 1]
    shown = [
        "job",
        *swept,
        "status",
        "top1",
        "top5",
        "kl_divergence",
        "pcc",
        "decode_tokens_per_s_per_user",
        "ttft_ms",
        "bound",
        "error",
    ]
    shown = [name for name in shown if name in ("job", "status") or any(row[name] not in (None, "") for row in rows)]
    table = Table()
    for name in shown:
        table.add_column(
            {"decode_tokens_per_s_per_user": "tokens/s/user", "kl_divergence": "KL"}.get(name, name),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in shown))
    console.print(table)
    console.print(where, soft_wrap=True)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return "" if value is None else str(value)
