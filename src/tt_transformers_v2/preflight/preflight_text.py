# SPDX-License-Identifier: Apache-2.0
"""A preflight as lines of text with markup: the ops in a table, what was fitted, what ttnn refused and what helps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.markup import escape

from .preflight_result import PHASES, Section

Row = dict[str, Any]

_MOVES = (" shard", " unshard", " typecast", " concat", " tile")
_COLORS = {"ok": "green", "fitted": "yellow", "failed": "bold red"}
_VERDICT = re.compile(r"\b(?:ok|fitted|failed)$")
_HEADER = ("phase", "part", "op", "output", "program", "peak kB", "of L1", "verdict")
_RIGHT = ("peak kB", "of L1")


def section_lines(section: Section, *, every_op: bool = False) -> list[str]:
    """All of it. `every_op`: also moves between layouts, and the ops in which layers do not differ."""
    lines = [f"[dim]{escape(section['basis'])}[/]", f"[dim]{_asked(section)}[/]"]
    if section["error"] is not None:
        return [*lines, f"[bold red]failed[/] {escape(section['error'])}"]
    lines += ["", *table_lines(section, every_op=every_op), "", *_total_lines(section)]
    lines += [*_fitted_lines(section), *_failure_lines(section)]
    return lines + [f"[dim]note[/]     {escape(note)}" for note in section["notes"]]


def table_lines(section: Section, *, every_op: bool = False) -> list[str]:
    """The table of ops, identical ones of a part together."""
    found: list[tuple[str, ...]] = []
    for phase in PHASES:
        rows = [row for row in section["ops"] if row["phase"] == phase]
        worst = section["worst"][phase]
        found += _phase_cells(rows, worst["peak"] if worst else None, every_op)
    return aligned(_HEADER, found, _RIGHT)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """Lines of a table, columns as wide as their widest cell, those in `right` flush right; verdicts are coloured."""
    widths = [max(len(cells[i]) for cells in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        placed = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(header, cells, widths, strict=True)
        )
        return escape("  ".join(placed).rstrip())

    return [f"[bold]{line(header)}[/]", *(_coloured(line(cells)) for cells in rows)]


def _coloured(line: str) -> str:
    """A line with a colour for the verdict in it."""
    return _VERDICT.sub(lambda found: f"[{_COLORS[found[0]]}]{found[0]}[/]", line)


def _phase_cells(rows: list[Row], worst: int | None, every_op: bool) -> Iterator[tuple[str, ...]]:
    """The cells of a phase's lines. Of further kinds of layers, only what the first kind has not."""
    layers = [part for part in dict.fromkeys(row["part"] for row in rows) if part.startswith("layer")]
    usual = {_look(row) for row in rows if layers and row["part"] == layers[0]}
    shown = ""
    for part in dict.fromkeys(row["part"] for row in rows):
        alike: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            if row["part"] == part:
                alike.setdefault(_look(row), []).append(row)
        for look, same in alike.items():
            row = max(same, key=lambda row: row["peak"] or 0)
            telling = row["verdict"] == "failed" or row["peak"] == worst
            usually = _is_move(row["op"]) or (part in layers[1:] and look in usual)
            if every_op or telling or not usually:
                yield "" if shown else row["phase"], "" if part == shown else _short(part), *_cells(row, len(same))
                shown = part


def _short(part: str) -> str:
    return part.replace(", chunk 2", " (2)")


def _cells(row: Row, times: int) -> tuple[str, ...]:
    peak = "" if row["peak"] is None else f"{row['peak'] / 1000:.1f}"
    share = "" if row["share"] is None else f"{row['share']:.0%}"
    name = row["op"] if times == 1 else f"{row['op']} x{times}"
    return name, _shapes(row["output"]), program_text(row["program"]), peak, share, row["verdict"]


def _look(row: Row) -> tuple[Any, ...]:
    """What makes two rows of a part the same line: all but what earlier tensors hold."""
    return row["op"], str(row["output"]), str(row["program"]), str(row["usage"]), row["verdict"]


def _is_move(op: str) -> bool:
    """Whether an op only moves or converts a tensor for another one."""
    return op.endswith(_MOVES)


def _shapes(shapes: list[list[int]]) -> str:
    """Shapes without leading ones, equal ones counted."""
    texts = Counter("x".join(map(str, _without_ones(shape))) for shape in shapes)
    return " + ".join(text if count == 1 else f"{count} of {text}" for text, count in texts.items())


def _without_ones(shape: list[int]) -> list[int]:
    first = next((i for i, size in enumerate(shape) if size > 1), len(shape) - 1)
    return shape[min(first, max(len(shape) - 2, 0)) :]


def program_text(program: dict[str, Any] | None) -> str:
    """A program in short: cores, in0_block_w, subblock and per-core tiles, or the chunks of attention."""
    if program is None:
        return ""
    if program["kind"] == "SdpaPlan":
        keys = f"k{program['k_chunk_size']}" if program["k_chunk_size"] else "k auto"
        exponential = "" if program["exp_approx_mode"] else " exact exp"
        return f"{program['columns']}x{program['rows']} q{program['q_chunk_size']} {keys}{exponential}"
    if program["kind"] == "DramShardedPlan":
        return f"{program['cores']} cores k{program['in0_block_w']} n{program['per_core_n']}"
    return (
        f"{program['columns']}x{program['rows']} k{program['in0_block_w']} "
        f"s{program['out_subblock_h']}x{program['out_subblock_w']} {program['per_core_m']}x{program['per_core_n']}"
    )


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The fields of a program that differ, as `in0_block_w 8 -> 4`."""
    return ", ".join(f"{name} {value} -> {after[name]}" for name, value in before.items() if after[name] != value)


def _asked(section: Section) -> str:
    chips = f"{section['mesh'][0]}x{section['mesh'][1]} chips" if section["mesh"] != [1, 1] else "1 chip"
    split = f", TP {section['tensor_parallel']}" + (f" x DP {section['groups']}" if section["groups"] > 1 else "")
    tokens = (
        "" if section["tokens"] is None else f", prefill of {section['tokens']} tokens, decode of {section['users']}"
    )
    users = "" if section["users"] is None else f" user{'s' * (section['users'] > 1)} with {section['context']} tokens"
    return f"{chips}, {section['grid'][0]}x{section['grid'][1]} cores each{split}{tokens}{users}"


def _total_lines(section: Section) -> Iterator[str]:
    counts = f"{section['asked_ops']} ops checked, {section['fitted_ops']} fitted, {section['failed_ops']} failed"
    yield f"[bold]total[/]    {counts}; {section['seconds']:.1f} s"
    for phase, row in section["worst"].items():
        if row:
            most = f"{row['peak'] / 1000:.1f} of {section['l1_usable'] / 1000:.1f} kB ({row['share']:.0%})"
            yield f"worst    {phase} {row['part']} {row['op']}: {most} of the L1 that ttnn may use per core"
    moves = [row for row in section["ops"] if _is_move(row["op"]) and row["peak"] is not None]
    if moves:
        most = f"at most {max(row['peak'] for row in moves) / 1000:.1f} kB"
        yield f"[dim]moves    {len(moves)} ops between layouts and formats, {most}; see result.json[/]"
    yield "[dim]program  cores, k in0_block_w, n per_core_N | s subblock, per_core_M x per_core_N | q, k chunks[/]"


def _distinct(rows: list[Row], verdict: str, *fields: str) -> Iterator[tuple[str, Row, int]]:
    """One row of each failure or fit of an op that has the same `fields`, after the phases it happened in; and how many
    rows there are."""
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["verdict"] == verdict:
            alike.setdefault((row["op"], *(str(row[name]) for name in fields)), []).append(row)
    for same in alike.values():
        yield " and ".join(dict.fromkeys(row["phase"] for row in same)), same[0], len(same)


def _fitted_lines(section: Section) -> Iterator[str]:
    # Not by ttnn's words: they have the bytes of one place.
    for phases, row, times in _distinct(section["ops"], "fitted", "first_program", "program", "plans_refused"):
        change = changed_fields(row["first_program"], row["program"])
        tried = f"the first of {row['plans_refused'] + 1} tried that passes"
        count = f" x{times}" if times > 1 else ""
        yield f"[yellow]fitted[/]   {phases} {row['op']}{count}: {change}, {tried}"
        yield f"  ttnn   {escape(row['said'])}"


def _failure_lines(section: Section) -> Iterator[str]:
    for phases, row, _ in _distinct(section["ops"], "failed", "program", "said"):
        program = escape(program_text(row["program"]))
        yield f"[bold red]failed[/]   {phases} {row['part']} {row['op']} {program}".rstrip()
        yield f"  {'ttnn' if row['said_by'] == 'ttnn' else 'check':6} {escape(row['said'])}"
        for fix, name in zip(row["fixes"], ("fix", "or"), strict=False):
            then = "every op then passes" if fix["all_pass"] else "this op then passes"
            yield f"  {name:6} [bold]{escape(fix['do'])}[/]: {escape(fix['why'])} (verified: {then}{_with(row, fix)})"
        if row["no_help"]:
            yield f"  [dim]tried  {escape('; '.join(row['no_help']))}: did not help[/]"


def _with(row: Row, fix: dict[str, Any]) -> str:
    """The program that the op then has, where it is another one than the fix names."""
    if fix["program"] is None or row["program"] is None or not fix["do"].startswith(("leave", "runtime.autofit")):
        return ""
    return f", with {changed_fields(row['program'], fix['program'])}"
