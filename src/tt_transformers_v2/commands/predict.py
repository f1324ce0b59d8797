# SPDX-License-Identifier: Apache-2.0
"""Predicts speed and memory, and what would change them, without a card.

Exit codes: 0 done, 1 the configuration has error findings (it does not fit, it is not supported), 2 a user error,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.command_names import command
from ..common.errors import ConfigError
from ..common.terminal import console
from ..prediction.knobs import what_if
from ..prediction.limits import batch_limit, context_limits
from ..prediction.prediction_rows import (
    SCHEMA_VERSION,
    answer_json,
    limits_json,
    refusal_json,
    search_json,
    what_if_json,
)
from ..prediction.prediction_text import (
    answer_lines,
    escaped,
    figure_lines,
    header_lines,
    limit_lines,
    search_lines,
    what_if_lines,
)
from ..prediction.questions import Answer, Refused, ask_for_figures, resolve_overrides, typed_overrides
from ..prediction.roofline_picture import check_plot_file, write_plot
from ..prediction.targets import search
from .command_line import CommandParser, complain, run_command

EPILOG = """examples:
  {predict} device=n150 model=llama8b precision=accuracy
  {predict} device=n150 model=llama8b precision=accuracy --what-if
  {predict} model=llama70b --target 15
  {predict} device=n300 model=llama8b --max-context
  {predict} device=t3k model=llama8b workload.batch=32 --plot t3k.svg --json
  {predict} device=n150 model=llama8b --ops-csv ops.csv

Takes the same overrides as `{run}` and `{explain}`. Everything is predicted; nothing runs on a card."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run_command(_main, arguments)


def _main(given: list[str]) -> int:
    options = _options(given)
    overrides = typed_overrides(options.overrides)
    if options.plot:
        check_plot_file(options.plot)
    if options.ops_csv:
        _check_ops_csv(options)
    elif options.force:
        raise ConfigError("--force goes with --ops-csv: it lets that replace an existing file.")
    out = _Output()
    refused = None if _asks_target_only(options) else _add_configuration(out, overrides, options)
    if options.target is not None:
        search_found = search(overrides, options.target)
        out.add(search_lines(search_found), {"target": search_json(search_found)})
    out.print(as_json=options.json)
    return complain(refused) if refused else 0


def _check_ops_csv(options: argparse.Namespace) -> None:
    """ConfigError where --ops-csv would replace a file that it must not: a profile may be a measurement."""
    out: Path = options.ops_csv
    if options.against_ops and out.resolve() == options.against_ops.resolve():
        raise ConfigError(f"--ops-csv and --against-ops are the same file, {out}.", "Choose another --ops-csv.")
    if out.is_file() and not options.force:
        raise ConfigError(f"{out} already exists.", "Add --force to replace it, or choose another --ops-csv.")


def _asks_target_only(options: argparse.Namespace) -> bool:
    """Whether the configuration itself, which the search only starts from, is not asked about."""
    others = (options.what_if, options.max_context, options.plot, options.ops_csv, options.against_ops)
    return options.target is not None and not any(others)


def _add_configuration(out: _Output, overrides: Sequence[str], options: argparse.Namespace) -> Refused | None:
    """Adds what is asked about the configuration itself; returns what speaks against it, if anything does."""
    refused = None
    try:
        _add_answer(out, ask_for_figures(overrides), options)
    except Refused as error:
        refused = error
        out.add([], refusal_json(resolve_overrides(overrides), overrides, error))
    if options.max_context and (refused is None or refused.overflows):
        contexts, batch = context_limits(overrides), batch_limit(overrides)
        out.add(limit_lines(contexts, batch), {"max_context": limits_json(contexts, batch)})
    return refused


def _add_answer(out: _Output, answer: Answer, options: argparse.Namespace) -> None:
    asks_more = options.what_if or options.max_context or options.target is not None
    brief = asks_more and not options.prefill
    lines = [*header_lines(answer), *figure_lines(answer)] if brief else answer_lines(answer, prefill=options.prefill)
    out.add(lines, answer_json(answer))
    if options.what_if:
        found = what_if(answer)
        out.add(what_if_lines(found), {"what_if": what_if_json(found)})
    if options.ops_csv:
        from ..prediction.profile_file import write_ops_csv

        line = write_ops_csv(answer.prediction, options.ops_csv)
        out.add([escaped(line)], {"ops_csv": str(options.ops_csv)})
    if options.against_ops:
        from ..prediction.profile_comparison import compare_profile, comparison_json, comparison_lines

        compared = compare_profile(answer.prediction, str(options.against_ops))
        out.add(comparison_lines(compared), {"against_ops": comparison_json(compared)})
    if options.plot:
        write_plot(answer, options.plot)
        out.add([f"picture: {escaped(str(options.plot))}"], {"plot": str(options.plot)})


@dataclass
class _Output:
    """What to print, as text and as JSON."""

    sections: list[list[str]] = field(default_factory=list)
    found: dict[str, Any] = field(
        default_factory=lambda: {"schema_version": SCHEMA_VERSION, "status": "ok", "basis": "predicted"}
    )

    def add(self, lines: list[str], found: dict[str, Any]) -> None:
        if lines:
            self.sections.append(lines)
        self.found |= found

    def print(self, *, as_json: bool) -> None:
        if as_json:
            print(json.dumps(self.found, indent=2, allow_nan=False))
            return
        out = console()
        for index, lines in enumerate(self.sections):
            for line in [""] * (index > 0) + lines:
                out.print(line)


def _options(given: list[str]) -> argparse.Namespace:
    parser = CommandParser(
        "predict",
        usage="%(prog)s [GROUP=OPTION ...] [KEY=VALUE ...] [options]",
        description="Predicts decode speed, time to first token and memory of a configuration, without a card.",
        epilog=EPILOG.format(predict=command("predict"), run=command("run"), explain=command("explain")),
    )
    parser.takes_overrides()
    add = parser.add_argument
    add("--prefill", action="store_true", help="print the per-op table of prefill too")
    add("--what-if", action="store_true", help="rank what each single change would gain")
    add("--target", type=_speed, metavar="TOKENS", help="list what reaches this many tokens/s/user, cheapest first")
    add("--max-context", action="store_true", help="the longest context that fits, by batch, and the largest batch")
    add("--plot", type=Path, metavar="FILE", help="plot the roofline and time shares: .svg, or .png with matplotlib")
    add("--ops-csv", type=Path, metavar="FILE", help="write the predicted decode step as the profiler's ops CSV")
    add("--against-ops", type=Path, metavar="FILE", help="hold a measured ops CSV against the predicted decode step")
    add("--force", action="store_true", help="let --ops-csv replace an existing file")
    add("--json", action="store_true", help="print everything as JSON")
    return parser.read(given)


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of tokens/s/user above 0, not {text!r}")
    return value
