# SPDX-License-Identifier: Apache-2.0
"""Lists results, shows one, compares two, or finds the best.

Exit codes: 0 done, 2 a user error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..common.checkout import outputs_dir
from ..common.command_names import command
from ..common.errors import ConfigError
from ..report import compare, listing
from ..report.differences import as_text, split_common
from ..report.filters import known_metric, parse_condition
from ..report.loading import Job, read_sweep
from ..report.metrics import Metric
from ..report.pareto import pareto_front
from ..report.terminal_tables import job_json, metrics_of, print_changes, print_job, print_jobs, print_table, say
from ..run.result_files import RESULT_FILE
from .command_line import CommandParser, run_command, warn

COMMANDS = ("ls", "show", "diff", "best")
EPILOG = """examples:
  {results} ls
  {results} show outputs/sweeps/DIR
  {results} show outputs/sweeps/DIR/3
  {results} diff DIR/0 DIR/3
  {results} best DIR --metric decode_tokens_per_s_per_user --where "kl_divergence<0.05"
"""
_ACCURACY = ("kl_divergence", "top1", "pcc", "ttft_ms")  # the second figure of the front, the first that there is


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run_command(_main, arguments)


def _main(given: list[str]) -> None:
    options = _options(_command_first(given))
    commands: dict[str, Callable[[argparse.Namespace], None]] = {"ls": _ls, "show": _show, "diff": _diff, "best": _best}
    commands[options.command](options)


def _command_first(given: list[str]) -> list[str]:
    """The words with ls, show, diff or best before the flags that stand before it."""
    place = next((place for place, word in enumerate(given) if word in COMMANDS), 0)
    before = given[:place]
    return [given[place], *before, *given[place + 1 :]] if before and before[0].startswith("-") else given


def _ls(options: argparse.Namespace) -> None:
    found = listing.entries(options.root or outputs_dir(), options.newest or None)
    if options.json:
        _print_json([dataclasses.asdict(entry) | {"folder": str(entry.folder)} for entry in found])
    elif not found:
        say(f"no results under {options.root or outputs_dir()}")
    else:
        rows = [(entry.when, entry.kind, _counts(entry.jobs), _short(entry.folder), entry.problem or entry.about)
                for entry in found]  # fmt: skip
        print_table(("when", "kind", "jobs", "folder", "what"), rows)


def _show(options: argparse.Namespace) -> None:
    jobs = _read(options.folder)
    if options.json:
        _print_json([job_json(job) for job in jobs])
    elif _is_result(options.folder):
        print_job(jobs[0])
    else:
        print_jobs(jobs)


def _diff(options: argparse.Namespace) -> None:
    kinds = [_is_result(folder) for folder in (options.a, options.b)]
    if kinds[0] != kinds[1]:
        raise ConfigError("one of these is a sweep and the other a single result.", "Give two of the same kind.")
    before, after = _read(options.a), _read(options.b)
    (_diff_results if kinds[0] else _diff_sweeps)(before, after, options)


def _diff_results(before: Sequence[Job], after: Sequence[Job], options: argparse.Namespace) -> None:
    one, other = before[0], after[0]
    settings = [(path, *map(as_text, values)) for path, values in _config_differences(one, other).items()]
    changes = compare.changes(one, other, options.tolerance)
    if options.json:
        configuration = {path: {"a": a, "b": b} for path, a, b in settings}
        _print_json({"configuration": configuration, "figures": [dataclasses.asdict(change) for change in changes]})
        return
    if settings:
        print_table(("setting", "A", "B"), settings)
    else:
        say("the configurations are identical")
    if changes:
        print_changes([("", change) for change in changes], first="")


def _config_differences(one: Job, other: Job) -> dict[str, list[Any]]:
    """Each differing path of the two configurations with both values; {} where either result has none."""
    if one.config is None or other.config is None:
        return {}
    return split_common([one.config, other.config])[1]


def _diff_sweeps(before: Sequence[Job], after: Sequence[Job], options: argparse.Namespace) -> None:
    matches = compare.match_jobs(before, after)
    moved = [
        (match, change)
        for match in matches
        for change in compare.changes(before[match.before], after[match.after], options.tolerance)
        if change.verdict != "same"
    ]
    turned = [match for match in matches if compare.status_verdict(before[match.before], after[match.after]) != "same"]
    if options.json:
        _print_json(
            {
                "matched": len(matches),
                "only_a": _left(before, {match.before for match in matches}),
                "only_b": _left(after, {match.after for match in matches}),
                "changes": [
                    {"a": before[match.before].name, "b": after[match.after].name, "by": match.by}
                    | dataclasses.asdict(change)
                    for match, change in moved
                ],
                "status": [
                    {"a": before[match.before].name, "b": after[match.after].name}
                    | {"before": before[match.before].status, "after": after[match.after].status}
                    for match in turned
                ],
            }
        )
        return
    for match in turned:
        one, other = before[match.before], after[match.after]
        why = f": {other.reason}" if other.reason else ""
        say(f"job {other.name}: was {one.status}, now {other.status}{why}")
    rows = [(f"{after[match.after].name}: {' '.join(after[match.after].overrides)}", change) for match, change in moved]
    if rows:
        print_changes(sorted(rows, key=lambda row: row[1].verdict != "worse"))
    worse = sum(change.verdict == "worse" for _, change in moved)
    say(
        f"{len(matches)} jobs matched; {worse} figures worse, "
        f"{sum(change.verdict == 'better' for _, change in moved)} better by more than {options.tolerance:g} %; "
        f"{len(before) - len(matches)} jobs only in A, {len(after) - len(matches)} only in B"
    )


def _left(jobs: Sequence[Job], matched: set[int]) -> list[str]:
    return [job.name for index, job in enumerate(jobs) if index not in matched]


def _best(options: argparse.Namespace) -> None:
    jobs = _read(options.folder)
    tests = [parse_condition(text, jobs) for text in options.where]
    metric = known_metric(options.metric, jobs)
    against = known_metric(options.against, jobs) if options.against else _second(metric, jobs)
    for chosen in (metric, against):
        if chosen and not chosen.better:
            raise ConfigError(
                f"{chosen.name} cannot be ranked: neither high nor low is better.", "Choose another figure."
            )
    passing = [job for job in jobs if job.finished and all(test(job) for test in tests)]
    having = [job for job in passing if metric.of(job.result) is not None]
    sign = -1 if metric.better == "high" else 1
    having.sort(key=lambda job: sign * (metric.of(job.result) or 0.0))
    front = set() if against is None else {id(having[index]) for index in _front(having, metric, against)}
    best = [job for index, job in enumerate(having) if index < options.top or id(job) in front]
    if options.json:
        _print_json(
            {"metric": metric.name, "against": against.name if against else None, "passing": len(having)}
            | {"best": [job_json(job) | {"front": id(job) in front} for job in best]}
        )
        return
    if best:
        extra = [metric.name, *([against.name] if against else [])]
        print_jobs(best, among=jobs, marks=["★" if id(job) in front else " " for job in best], extra=extra)
    say(
        f"{len(having)} of {len(jobs)} jobs pass"
        + (f"; ★ marks the Pareto front with {against.label}" if against else "")
    )


def _front(jobs: Sequence[Job], metric: Metric, against: Metric) -> list[int]:
    points = [(metric.of(job.result), against.of(job.result)) for job in jobs]
    return pareto_front(points, (metric.better, against.better))


def _second(metric: Metric, jobs: Sequence[Job]) -> Metric | None:
    others = metrics_of(jobs, (*_ACCURACY, "decode_tokens_per_s_per_user"))
    names = [*_ACCURACY, "decode_tokens_per_s_per_user"]
    others = sorted((other for other in others if other is not metric), key=lambda other: names.index(other.name))
    return others[0] if others else None


def _is_result(folder: Path) -> bool:
    return (folder / RESULT_FILE).is_file() or folder.name == RESULT_FILE


def _read(folder: Path) -> list[Job]:
    """The jobs of a sweep, or the one of a result; result.json itself may be named. Warnings go to standard error."""
    sweep = read_sweep(folder.parent if folder.name == RESULT_FILE else folder)
    warn(sweep.warnings)
    return sweep.jobs


def _counts(jobs: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in Counter(jobs).items())


def _short(folder: Path) -> str:
    """`folder` as one would type it from here."""
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


def _print_json(found: Any) -> None:
    print(json.dumps(found, indent=2, allow_nan=False))


def _options(given: list[str]) -> argparse.Namespace:
    parser = CommandParser(
        "results",
        description="Shows finished experiments in the terminal.",
        epilog=EPILOG.format(results=command("results")),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def subcommand(name: str, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.add_argument("--json", action="store_true", help="print JSON")
        return added

    ls = subcommand("ls", "sweeps and runs, newest first")
    ls.add_argument("root", nargs="?", type=Path, metavar="DIR", help="where to look; default: outputs")
    ls.add_argument("--newest", type=_count, default=20, metavar="N", help="how many to list (default 20); 0 for all")
    show = subcommand("show", "the table of a sweep, or everything in one result")
    show.add_argument("folder", type=Path, metavar="DIR", help="a sweep, a run, or one job of a sweep")
    diff = subcommand("diff", "two results: settings and figures; two sweeps: what changed, job by job")
    diff.add_argument("a", type=Path, metavar="A")
    diff.add_argument("b", type=Path, metavar="B")
    diff.add_argument(
        "--tolerance",
        type=float,
        default=compare.TOLERANCE,
        metavar="PERCENT",
        help="ignore changes up to this (default 1)",
    )
    best = subcommand("best", "the best jobs by a figure, and the Pareto front")
    best.add_argument("folder", type=Path, metavar="DIR")
    best.add_argument(
        "--metric",
        default="decode_tokens_per_s_per_user",
        metavar="NAME",
        help="figure to rank by (default %(default)s)",
    )
    best.add_argument("--against", metavar="NAME", help="the other figure of the front (default: an accuracy figure)")
    best.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COND",
        help="only jobs that pass, such as kl_divergence<0.05; repeatable",
    )
    best.add_argument(
        "--top", type=_count, default=5, metavar="N", help="how many to list besides the front (default 5)"
    )
    return parser.read(given)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r}")
    return int(text)
