#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/summary.svg, the README's picture, from what a prediction prints: python docs/make_picture.py"""

import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ["scripts/predict.py", "device=t3k", "model=llama8b"]
COLUMNS = 100
LINES = 32  # down to the first ops


def main() -> None:
    done = subprocess.run(
        [sys.executable, *COMMAND],
        cwd=ROOT,
        env={"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    shown = done.stdout.splitlines()[:LINES]
    console = Console(record=True, width=COLUMNS, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(f"[green]$[/] python {' '.join(COMMAND)}")
    for line in shown:
        console.print(Text.from_ansi(line), highlight=False)
    console.print("…")
    target = ROOT / "docs" / "images" / "summary.svg"
    target.parent.mkdir(exist_ok=True)
    svg = console.export_svg(title="predicted; nothing was run")
    # The picture must not fetch fonts from anywhere; a viewer's own monospace serves.
    target.write_text(re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
