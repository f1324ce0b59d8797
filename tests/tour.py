# SPDX-License-Identifier: Apache-2.0
"""The commands that README, tour and tutorial tell a newcomer to type, and what the pages say they print."""

import os
import re
import shlex
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

from places import ROOT
from tiny_model import write_tiny_model

PAGES = ("README.md", "docs/tour.md", "docs/tutorial.md")
# A command, indented; after it, perhaps, a block of what it prints: fenced, or indented too.
_COMMAND = re.compile(
    r"^    (python scripts/[^\n]*)\n(?:\n```text\n(.*?)```|\n((?:    (?!python |# )[^\n]*\n)+)(?=\n))?",
    flags=re.MULTILINE | re.DOTALL,
)
# A row of the README's table: a question, a command, its time and a line of what it prints.
_ROW = re.compile(r"^\| [^|]+ \| `(python scripts/[^`]*)` \| (\d+) (s|min) \| `([^`]*)` \|$", flags=re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A line to type and, where the page shows it, what it `prints`: "…" stands for anything, alone for any lines.

    A `slow` one takes minutes as it is written. `columns` is how wide a terminal the page assumes.
    """

    command: str
    prints: str
    slow: bool = False
    columns: int = 100

    def __str__(self) -> str:
        return self.command


def steps(*pages: str) -> list[Step]:
    """Those of the pages, by default README, tour and tutorial: each command once, with what it prints where shown."""
    found: dict[str, Step] = {}
    for page in pages or PAGES:
        found |= {step.command: step for step in rows(page)}
        for command, fenced, indented in _COMMAND.findall((ROOT / page).read_text(encoding="utf-8")):
            prints = fenced or textwrap.dedent(indented)
            if command not in found or prints:
                found[command] = Step(command, prints)
    return list(found.values())


def rows(page: str = "README.md") -> list[Step]:
    """The table of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Step(command, line, slow=unit == "min", columns=150) for command, _, unit, line in _ROW.findall(text)]


def words_of(step: Step, folder: Path, *, whole: bool = False) -> list[str]:
    """The words after `python`, with files that exist for DIR and FILE, few tokens, and results put into `folder`.

    A step that shows what it prints is left as it is written, but for the place of its results; so is a slow
    one only where the `whole` of it is asked for. Others are of the smallest model that will do.
    """
    text = folder / "text.txt"
    text.write_text("Some words of one's own. " * 40)
    words = shlex.split(step.command.replace("DIR", str(ROOT / "tests/data/hf_llama")).replace("FILE", str(text)))[1:]
    words = [str(ROOT / word) if word.startswith("tests/data/") else word for word in words]
    if words[0] == "scripts/preflight.py":
        return [*words, "--out", str(folder / "preflight.json")]
    if words[0] != "scripts/run.py" or words[1] == "--help":
        return words
    words.append(f"hydra.{'sweep' if '--multirun' in words else 'run'}.dir={folder / 'out'}")
    words = [f"quantize.out={folder / 'weights'}" if word.startswith("quantize.out=") else word for word in words]
    if whole or (step.prints and not step.slow):
        return words
    words += ["workload.max_seconds=1", "workload.tokens=32"]
    if {"model=llama70b", "model=llama8b"} & set(words) and not any(word.startswith("task=") for word in words):
        words += ["model.hidden_dim=512", "model.head_dim=8", "model.intermediate_dim=1024"]
    if not step.slow and not any(word.startswith(("model=", "task=")) for word in words):
        words += ["model=hf", f"model.path={ROOT / 'tests/data/hf_llama'}"]  # SmolLM2 takes seconds to prepare
    if any("text_file" in word for word in words):
        words = [word for word in words if "text_file" not in word]  # the test folder has no tokenizer
    if {"task=search", "task=quantize"} & set(words):  # those of SmolLM2 take minutes as they are written
        tiny = folder / "tiny"
        tiny.mkdir()
        words += ["model=hf", f"model.path={write_tiny_model(tiny)}"]
    if "task=quantize" in words:
        words = [word for word in words if not word.startswith("precision.")]
        words += ["precision.mlp_weights=BF16", "quantize.tokens=64"]
        words += [
            "quantize.verify_tokens=32",
            "quantize.window=32",
            "backend.numerics=fast",
            "quantize.verify_texts=[]",
        ]
    if "task=search" in words:
        words = [word for word in words if "max_kl" not in word]
        words += ["search.tokens=32", "search.verify_tokens=32", "search.window=16", "search.points=2"]
        words += ["search.space.wqkv=[]", "search.space.wo=[]", "search.space.ff1_ff3=[]"]
        words += ["search.space.ff2=[BFP8/HIFI2,BFP4/LOFI]", "search.max_minutes=0.2", "search.verify_numerics=fast"]
    return words


def installed_words(words: list[str], commands: Path) -> list[str]:
    """The same line with the installed command of that script, which lies in the folder `commands`."""
    name = Path(words[0]).stem.replace("_", "-")
    return [str(commands / f"tt-{name}"), *words[1:]]


def typed(words: list[str], cwd: Path, code: int = 0, columns: int = 100, seconds: float = 300) -> str:
    """Runs the words in `cwd` and returns what they print, on a terminal that wide; they must end with `code`."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"COLUMNS": str(columns)}
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=seconds, env=environment)
    assert done.returncode == code, done.stderr
    assert done.stdout.strip()
    return done.stdout


def assert_prints(step: Step, printed: str) -> None:
    """Every part of the block between lines of "…" stands in `printed`, in that order; blanks may differ."""
    rest = [_squeezed(line) for line in printed.splitlines()]
    for part in re.split(r"^…\n", step.prints, flags=re.MULTILINE):
        lines = [_squeezed(line) for line in part.splitlines()]
        at = next((at for at in range(len(rest)) if _all_match(lines, rest[at:])), None)
        assert at is not None, f"{step}: not printed, or not in this order:\n{part}\nbut:\n{printed}"
        rest = rest[at + len(lines) :]


def without_figures(line: str) -> str:
    """A line that any figures fit: those of a text or of weights differ a little between machines."""
    return re.sub(r"\d[\d.,]*", "…", line)


def _squeezed(line: str) -> str:
    return " ".join(line.split())


def _all_match(lines: list[str], printed: list[str]) -> bool:
    return len(lines) <= len(printed) and all(
        re.fullmatch(re.escape(line).replace("…", ".*"), said) for line, said in zip(lines, printed, strict=False)
    )
