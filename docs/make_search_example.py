#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the worked example of docs/search.md anew: python docs/make_search_example.py (about 10 minutes on two cores).

With the folder of a finished search as argument, only writes it down.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
COMMAND = (
    "task=search",
    "device=n150",
    "model=smollm2_135m",
    "search.max_kl=0.05",
    "search.method=measured",
    "calibration=tt_metal_2025",
)
BEGIN, END = "<!-- example: made by docs/make_search_example.py -->\n", "<!-- end of example -->\n"


def main() -> None:
    if len(sys.argv) > 1:
        write(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        script = DOCS.parent / "scripts" / "run.py"
        subprocess.run([sys.executable, str(script), *COMMAND, f"hydra.run.dir={folder}/run"], check=True)
        write(Path(folder) / "run")


def write(run: Path) -> None:
    section = json.loads((run / "result.json").read_text(encoding="utf-8"))["search"]
    for name in ("sensitivity", "front"):
        shutil.copyfile(run / f"{name}.svg", DOCS / "images" / f"search_{name}.svg")
    page = DOCS / "search.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + BEGIN + example(section) + END + after, encoding="utf-8")


def example(section: dict) -> str:
    rows = [row(each) for each in (*section["points"], *section["presets"])]
    head = "| | tokens/s/user | KL | 95 % | top-1 | KL on the search's text | sum of sensitivities |"
    chosen = next((point for point in section["points"] if point["name"] == section["chosen"]), None)
    answer = f"\nChosen, {chosen['name']}: {chosen['sentence']}.\n" if chosen else ""
    return "\n".join(
        [
            f"    python scripts/run.py {' '.join(COMMAND)}",
            "",
            f"{section['basis']}. Searched on {section['tokens']} tokens of {section['text']}, verified on "
            f"{section['verified_on']}.",
            "",
            head,
            "| --- |" + " ---: |" * 6,
            *rows,
            answer,
            "![KL added by each change](images/search_sensitivity.svg)",
            "",
            "![The verified front](images/search_front.svg)",
            "",
            "",
        ]
    )


def row(each: dict) -> str:
    estimated = f"{each['estimated_kl']:.4f}" if "estimated_kl" in each else ""
    return (
        f"| {each['name']} | {each['decode_tokens_per_s_per_user']:.2f} | {each['kl_divergence']:.4f} | "
        f"{each['kl_low']:.4f} to {each['kl_high']:.4f} | {each['top1']:.1%} | {each['searched_kl']:.4f} | "
        f"{estimated} |"
    )


if __name__ == "__main__":
    main()
