# SPDX-License-Identifier: Apache-2.0
"""Checks every op with the real ttnn on several devices, without a card.

Exit codes: 0 every device passed, 1 some did not, 2 a user error, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from ..backends.ttnn.process.availability import require_ttnn
from ..common.checkout import outputs_dir
from ..common.command_names import command
from ..common.files import write_atomically
from ..common.terminal import console
from ..preflight.device_table import (
    AUTO,
    LARGEST_FIRST,
    ask_about,
    chosen_devices,
    chosen_models,
    run_all,
    table_lines,
)
from ..preflight.preflight_text import section_lines
from ..run.result_files import SCHEMA_VERSION, environment, git_state
from .command_line import CommandParser, run_command

EPILOG = """examples:
  {preflight}
  {preflight} --devices n150,t3k workload.prompt_length=2048
  {preflight} --devices n300 --model phi4 --verbose precision=accuracy
  {preflight} --devices t3k,p150x8 --model llama8b,qwen3_8b,phi4

Takes the same overrides as `{run}`. The real ttnn checks every op; nothing runs, and no card is needed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run_command(_main, arguments)


def _main(given: list[str]) -> int:
    options = _options(given)
    found = require_ttnn(command("preflight"))
    asked = ask_about(chosen_devices(options.devices), chosen_models(options.model), options.overrides)
    started = time.monotonic()
    rows = run_all(asked, _tell)
    seconds = time.monotonic() - started
    out = console()
    for row in rows if options.verbose else []:
        if row["section"] is not None:
            out.print(f"[bold]{row['section']['model']}[/] on [bold]{row['section']['device']}[/]")
            for line in [*section_lines(row["section"], every_op=True), ""]:
                out.print(line)
    for line in table_lines(rows):
        out.print(line)
    where = options.out or outputs_dir() / "preflights" / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
    _write(where, rows, options.overrides, seconds)
    out.print(
        f"[dim]checked by ttnn {found.version} on described systems: programs were validated and laid out, nothing "
        f"was run; {seconds:.0f} s; {escape(str(where))}[/]"
    )
    return max(row["verdict"] in ("failed", "none") for row in rows)


def _tell(row: dict[str, Any]) -> None:
    if sys.stderr.isatty():
        print(f"{row['device']} {row['model']}: {row['verdict']}", file=sys.stderr)


def _write(path: Path, rows: list[dict[str, Any]], overrides: list[str], seconds: float) -> None:
    found = {
        "schema_version": SCHEMA_VERSION,
        "status": "ok" if all(row["verdict"] in ("ok", "fitted") for row in rows) else "failed",
        "overrides": overrides,
        "git": git_state(),
        "environment": environment(),
        "devices": rows,
        "seconds": seconds,
    }
    write_atomically(path, json.dumps(found, indent=2, allow_nan=False) + "\n", hint="Choose another --out.")


def _options(given: list[str]) -> argparse.Namespace:
    parser = CommandParser(
        "preflight",
        usage="%(prog)s [--devices all|NAME,NAME] [--model auto|NAME,NAME] [KEY=VALUE ...]",
        description="Checks with the real ttnn, without a card, whether every device accepts a model's ops.",
        epilog=EPILOG.format(preflight=command("preflight"), run=command("run")),
    )
    parser.takes_overrides()
    add = parser.add_argument
    add("--devices", default="all", metavar="NAMES", help="devices, comma-separated; default all")
    fitting = f"default auto: the first of {', '.join(LARGEST_FIRST)} that fits"
    add("--model", default=AUTO, metavar="NAMES", help=f"models, comma-separated; {fitting}")
    add("--verbose", action="store_true", help="print the table of all ops, for every device")
    add("--out", type=Path, metavar="FILE", help="where to write the JSON; default outputs/preflights/TIME.json")
    return parser.read(given)
