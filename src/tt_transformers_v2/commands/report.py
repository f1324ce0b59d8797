# SPDX-License-Identifier: Apache-2.0
"""Writes one HTML file from one or more sweeps.

Exit codes: 0 done, 2 a user error.
"""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ..common.checkout import outputs_dir
from ..common.command_names import command
from ..common.errors import ConfigError
from ..report.compare import TOLERANCE
from ..report.loading import BROKEN, Sweep, read_sweeps
from ..report.page import REPORT_FILE, write_page
from .command_line import CommandParser, run_command, warn

EPILOG = """examples:
  {report} outputs/sweeps/DIR             writes report.html into DIR
  {report} DIR DIR2 --out both.html       one report, with the sweep as a column
  {report} OLD NEW --compare --open       what got better and what got worse

DIR is the folder of a sweep or of a single run; `{results} ls` lists them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run_command(_main, arguments)


def _main(given: list[str]) -> None:
    options = _options(given)
    if options.compare and len(options.folders) != 2:
        raise ConfigError(f"--compare takes two folders, not {len(options.folders)}.")
    sweeps = read_sweeps(options.folders)
    path = options.out or _default_path(sweeps)
    if path.is_dir():
        raise ConfigError(f"--out {path} is a folder.", f"Write --out {path / REPORT_FILE}.")
    write_page(sweeps, path, compared=options.compare, tolerance=options.tolerance)
    warn([warning for sweep in sweeps for warning in sweep.warnings])
    print(f"{path}: {_counted(sweeps)}")
    if options.open:
        webbrowser.open(path.resolve().as_uri())


def _default_path(sweeps: Sequence[Sweep]) -> Path:
    """In the folder of a single sweep; a report over several belongs to none of them."""
    return sweeps[0].folder / REPORT_FILE if len(sweeps) == 1 else outputs_dir() / "reports" / REPORT_FILE


def _counted(sweeps: Sequence[Sweep]) -> str:
    jobs = [job for sweep in sweeps for job in sweep.jobs]
    broken = sum(job.status == BROKEN for job in jobs)
    tail = f", {broken} broken" if broken else ""
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)}, {sum(job.finished for job in jobs)} finished{tail}"


def _options(given: list[str]) -> argparse.Namespace:
    parser = CommandParser(
        "report",
        description="Writes a report that opens in any browser, offline: trade-offs, what each knob does, all jobs.",
        epilog=EPILOG.format(report=command("report"), results=command("results")),
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="the folder of a sweep or run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write; default: report.html in DIR, or in "
                        "outputs/reports for several")  # fmt: skip
    parser.add_argument("--compare", action="store_true", help="compare the second of two sweeps with the first")
    parser.add_argument(
        "--tolerance",
        type=_percent,
        default=TOLERANCE,
        metavar="PERCENT",
        help="ignore changes up to this (default 1)",
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    return parser.read(given)


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a percentage of at least 0, not {text!r}")
    return value
