#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the README's table of questions from what the commands print: python docs/make_readme_table.py [WORD …]

Runs the commands that contain all of the words (all commands, without any: half an hour) and leaves the other rows as
they are. Every figure in the table is one that a command printed or took.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- made by docs/make_readme_table.py -->\n", "<!-- end of table -->\n"
HEAD = "| question | command | time | one line of what it prints |\n| --- | --- | --- | --- |\n"
# What differs between machines and runs, as a pattern; the table shows … for it.
_VARIES = re.compile(r"(?<=\d{3}_)[\w-]+_[0-9a-f]{12}|(?<=0 failed; ).*")
# A command that takes seconds is run so often, and its least processor time counts.
_TIMES, _SECONDS = 3, 20


@dataclass(frozen=True)
class Row:
    """A question, the command that answers it, and a pattern that finds the line to show; DIR is a folder."""

    question: str
    command: str
    line: str

    @property
    def typed(self) -> str:
        """The command as a user types it."""
        return f"python scripts/{self.command}"


ROWS = (
    Row("How fast is a model on a device?", "predict.py device=t3k model=llama70b", "^decode "),
    Row(
        "Does it fit, with this batch and context?",
        "predict.py device=n300 model=llama8b workload.batch=32 workload.context=4096",
        r"(Llama\S+ on N300 fits in DRAM: .*? per chip)",
    ),
    Row("Which device is fast enough?", "predict.py model=llama70b --target 15", r"to type\n.*?(device=.*)"),
    Row("What would make it faster?", "predict.py device=n150 model=llama8b --what-if", "^faster decode\n(.*)"),
    Row("What will run, and who says so?", "explain.py device=n150 model=llama8b", r"^precision\.ff1_ff3 "),
    Row("What do I tell a server?", "convert.py --model llama8b --device n150 --to vllm", "^--additional-config"),
    Row(
        "Which of these is best?",
        "run.py --multirun device=n150,n300,t3k,p150 model=llama8b task=performance",
        "^4 of 4 jobs done",
    ),
    Row("Does the real ttnn accept every op?", "run.py task=preflight device=n150 model=llama8b", "^total "),
    Row("How accurate is what the card computes?", "run.py device=n150 model=smollm2_135m", "^KL / PCC"),
    Row(
        "Which formats are fastest and keep the quality?",
        "run.py task=search device=n150 search.max_kl=0.05 runtime.sampling=host",
        r"^chosen .*?([\d.]+ tokens/s/user predicted.*)",
    ),
    Row(
        "Can weights be rounded better?",
        "run.py task=quantize device=n150 precision.mlp_weights=BFP4 quantize.out=DIR",
        "^(largest errors of outputs.*?),",
    ),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"  # a fresh one, in which nothing is cached yet
        shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".*", "outputs", "build", "dist", "__pycache__"))
        for row in ROWS:
            if all(word in row.typed for word in sys.argv[1:]):
                written = shown(row, checkout, Path(folder))
                print(written, end="", flush=True)
                write({row.typed: written})


def write(new: dict[str, str]) -> None:
    """Puts rows in their places in the README, by what is typed."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    known = {line.split("`")[1]: f"{line}\n" for line in table.splitlines() if "`" in line} | new
    lines = [known[row.typed] for row in ROWS if row.typed in known]
    README.write_text("".join([before, BEGIN, HEAD, *lines, END, after]), encoding="utf-8")


def shown(row: Row, checkout: Path, folder: Path) -> str:
    """The row in Markdown, its command run from the root of a checkout."""
    words = row.command.replace("DIR", f"{folder}/weights").split()
    times: list[float] = []
    while not times or (len(times) < _TIMES and times[0] < _SECONDS):
        began = _processor_seconds()
        printed = subprocess.run(
            [sys.executable, f"scripts/{words[0]}", *words[1:]],
            cwd=checkout,
            env={**os.environ, "COLUMNS": "150"},
            capture_output=True,
            text=True,
        )
        times.append(_processor_seconds() - began)
    line = line_of(row, printed.stdout + printed.stderr)
    return f"| {row.question} | `{row.typed}` | {rounded(min(times))} | `{line}` |\n"


def _processor_seconds() -> float:
    """What the processes started so far have taken, on all cores together: a busy machine does not change it."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def line_of(row: Row, printed: str) -> str:
    """The line in which the pattern, or its group, matches: what varies and what is beside the group left out."""
    match = re.search(row.line, printed, flags=re.MULTILINE)
    if match is None:
        raise SystemExit(f"{row.command} prints no {row.line!r}:\n{printed}")
    begin, end = match.span(match.re.groups)
    first, last = printed.rfind("\n", 0, begin + 1) + 1, printed.find("\n", end)
    line = printed[first:last]
    if match.re.groups:
        line = "…" * bool(printed[first:begin].strip()) + printed[begin:end] + "…" * bool(printed[end:last].strip())
    return _VARIES.sub("…", " ".join(line.split()))


def rounded(seconds: float) -> str:
    """Whole seconds below half a minute, or else whole minutes, rounded up."""
    return f"{-int(-seconds // 1)} s" if seconds <= 30 else f"{-int(-seconds // 60)} min"


if __name__ == "__main__":
    main()
