# SPDX-License-Identifier: Apache-2.0
"""Converts settings between TTTv1, the serving tools and this project (docs/exchange.md).

Exit codes: 0 done, 2 a user error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..config.exchange.conversion import READS, WRITES, Source, convert, model_for
from ..config.findings import Finding
from ..models.spec import ModelSpec
from .command_line import CommandParser, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run_command(_main, arguments)


def _main(given: list[str]) -> None:
    options = _options(given)
    if options.out is not None and not options.out.parent.is_dir():
        raise ConfigError(f"cannot write {options.out}: there is no folder {options.out.parent}.")
    source = Source(options.source[0], options.source[1], options.model or "") if options.source else None
    if options.all:
        _print_all(options, source)
        return
    for name in ("to", "model"):
        if getattr(options, name) is None:
            raise ConfigError(f"--{name} is required.", "See --help.")
    source, model = model_for(source, options.model, options.to, ModelSpec.uniform)
    written = convert(
        source,
        options.to,
        model,
        mode=options.mode,
        device=options.device,
        lossy=options.lossy,
    )
    text = written if written.endswith("\n") else written + "\n"
    if options.out is None:
        print(text, end="")
    else:
        write_atomically(options.out, text, hint="Choose another --out.")
    _print_findings(written.findings)


def _print_all(options: argparse.Namespace, source: Source | None) -> None:
    """The table of --all. Raises ConfigError for another format, and for options that it does not read."""
    from ..config.exchange.server_table import HEADS, table_rows
    from ..report.terminal_tables import print_table

    if source is None or source.format != "server-spec":
        raise ConfigError("--all reads the entries of a server specification.", "Add --from server-spec FILE.")
    given = [name for name in ("to", "model", "mode", "device", "out", "lossy") if getattr(options, name)]
    if given:
        raise ConfigError(f"--all prints a table of all entries; --{given[0]} is for one.", f"Leave out --{given[0]}.")
    rows, unread, left_out = table_rows(source.text())
    print_table(HEADS, [row.cells for row in rows], right=HEADS[2:5])
    fits = [row.fits for row in rows]
    print(f"{len(rows)} entries: {fits.count('yes')} fit, {fits.count('no')} do not, {fits.count('–')} not told")
    if left_out:
        print(left_out)
    _print_findings(unread)


def _print_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        print(f"{finding.severity} [{finding.id}] {finding}", file=sys.stderr)


def _options(given: list[str]) -> argparse.Namespace:
    parser = CommandParser("convert", description="Converts settings of TTTv1 and the serving tools to ours and back.")
    add = parser.add_argument
    add(
        "--from",
        dest="source",
        nargs=2,
        metavar=("FORMAT", "SOURCE"),
        help=f"what to read: {', '.join(READS)}, from a file, - for stdin, or (all but tttv1-json) the text itself; "
        "default: the package's own settings",
    )
    add("--to", metavar="FORMAT", help=f"what to write: {', '.join(WRITES)}")
    add("--model", help="an option of conf/model, or a model's name: llama8b")
    add("--mode", help="performance, accuracy or custom (default: what the source says)")
    add("--device", help="an option of conf/device (default: what the source says, else n150)")
    add("--out", type=Path, metavar="FILE", help="write there instead of printing")
    add("--all", action="store_true", help="with --from server-spec FILE: a table of all of its entries")
    add("--lossy", action="store_true", help="write the nearest setting where TTTv1 has no equivalent")
    return parser.read(given)
