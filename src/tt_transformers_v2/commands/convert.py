# SPDX-License-Identifier: Apache-2.0
"""Converts settings between TTTv1, the serving tools and this project (docs/exchange.md).

Exit codes: 0 done, 2 a user error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..config.exchange.conversion import READS, WRITES, Source, convert, model_shape
from ..models.spec import ModelSpec
from .command_line import CommandParser, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run_command(_main, arguments)


def _main(given: list[str]) -> None:
    options = _options(given)
    if options.out is not None and not options.out.parent.is_dir():
        raise ConfigError(f"cannot write {options.out}: there is no folder {options.out.parent}.")
    written = convert(
        Source(*options.source) if options.source else None,
        options.to,
        model_shape(options.model, ModelSpec.uniform),
        mode=options.mode,
        device=options.device,
        lossy=options.lossy,
    )
    text = written if written.endswith("\n") else written + "\n"
    if options.out is None:
        print(text, end="")
    else:
        write_atomically(options.out, text, hint="Choose another --out.")
    for finding in written.findings:
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
    add("--to", required=True, metavar="FORMAT", help=f"what to write: {', '.join(WRITES)}")
    add("--model", required=True, help="an option of conf/model, or a model's name: llama8b")
    add("--mode", help="performance, accuracy or custom (default: what the source says)")
    add("--device", help="an option of conf/device (default: what the source says, else n150)")
    add("--out", type=Path, metavar="FILE", help="write there instead of printing")
    add("--lossy", action="store_true", help="write the nearest setting where TTTv1 has no equivalent")
    return parser.read(given)
