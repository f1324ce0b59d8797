#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the worked example of docs/search.md anew: python docs/make_search_example.py (about 30 minutes on two cores).

With the folders of the two finished searches as arguments, only writes it down.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))  # that of this checkout, installed or not

from tt_transformers_v2.search.search_pictures import fronts

DOCS = Path(__file__).resolve().parent
SPEED = "decode_tokens_per_s_per_user"
COMMAND = (
    "task=search",
    "device=n150",
    "model=smollm2_135m",
    "search.max_kl=0.05",
    "search.method=measured",
    "calibration=tt_metal_2025",
)
# More points, so that one is as fast as each of the first search's.
MORE = ("search.rounding=[nearest,calibrated]", "search.points=32")
BEGIN, END = "<!-- example: made by docs/make_search_example.py -->\n", "<!-- end of example -->\n"


def main() -> None:
    if len(sys.argv) > 1:
        write(*map(Path, sys.argv[1:]))
        return
    with tempfile.TemporaryDirectory() as folder:
        script, runs = DOCS.parent / "scripts" / "run.py", [Path(folder) / "nearest", Path(folder) / "both"]
        for run, more in zip(runs, ((), MORE), strict=True):
            subprocess.run([sys.executable, str(script), *COMMAND, *more, f"hydra.run.dir={run}"], check=True)
        write(*runs)


def write(nearest: Path, both: Path) -> None:
    before_after = [json.loads((run / "result.json").read_text(encoding="utf-8"))["search"] for run in (nearest, both)]
    for name in ("sensitivity", "front"):
        shutil.copyfile(nearest / f"{name}.svg", DOCS / "images" / f"search_{name}.svg")
    drawing = fronts(dict(zip(("nearest", "nearest or calibrated"), before_after, strict=True)), "rounding")
    (DOCS / "images" / "search_rounding.svg").write_text(drawing.svg(), encoding="utf-8")
    page = DOCS / "search.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + BEGIN + example(*before_after) + END + after, encoding="utf-8")


def example(nearest: dict, both: dict) -> str:
    rounding = both["rounding"]
    return "\n".join(
        [
            f"    python scripts/run.py {' '.join(COMMAND)}",
            "",
            f"{nearest['basis']}. Searched on {nearest['tokens']} tokens of {nearest['text']}, verified on "
            f"{nearest['verified_on']}.",
            "",
            *front(nearest),
            "![KL added by each change](images/search_sensitivity.svg)",
            "",
            "![The verified front](images/search_front.svg)",
            "",
            "### With calibrated rounding",
            "",
            f"    python scripts/run.py {' '.join(COMMAND)} '{MORE[0]}' {MORE[1]}",
            "",
            f"The same texts; weights calibrated on {rounding['tokens']} tokens of {rounding['text']}.",
            chosen(both),
            "Each point of the front above, and the most accurate one here that is at least as fast:",
            "",
            "| | tokens/s/user | KL | | tokens/s/user | KL | share of the KL |",
            "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
            *(match(point, both["points"]) for point in nearest["points"]),
            "",
            "![Verified fronts by rounding](images/search_rounding.svg)",
            "",
            "KL that the sites of a layer add when changed one at a time, before and after (every fifth layer):",
            "",
            "| layer | option | nearest | calibrated |",
            "| ---: | --- | ---: | ---: |",
            *(layer(each) for each in rounding["layers"] if each["layer"] % 5 == 0),
            "",
            "",
        ]
    )


def front(section: dict) -> list[str]:
    head = "| | tokens/s/user | KL | 95 % | top-1 | KL on the search's text | sum of sensitivities |"
    rows = [row(each) for each in (*section["points"], *section["presets"])]
    return [head, "| --- |" + " ---: |" * 6, *rows, chosen(section)]


def chosen(section: dict) -> str:
    found = next((point for point in section["points"] if point["name"] == section["chosen"]), None)
    return f"\nChosen, {found['name']}: {found['sentence']}.\n" if found else ""


def match(point: dict, points: list[dict]) -> str:
    fast = [each for each in points if each[SPEED] >= point[SPEED] - 1e-9]
    best = min(fast, key=lambda each: each["kl_divergence"])
    share = best["kl_divergence"] / point["kl_divergence"]
    cells = [f"{each['name']} | {each[SPEED]:.2f} | {each['kl_divergence']:.4f}" for each in (point, best)]
    return f"| {' | '.join(cells)} | {share:.2f} |"


def layer(each: dict) -> str:
    return f"| {each['layer']} | {each['option']} | {each['nearest']:.4f} | {each['calibrated']:.4f} |"


def row(each: dict) -> str:
    estimated = f"{each['estimated_kl']:.4f}" if "estimated_kl" in each else ""
    return (
        f"| {each['name']} | {each[SPEED]:.2f} | {each['kl_divergence']:.4f} | "
        f"{each['kl_low']:.4f} to {each['kl_high']:.4f} | {each['top1']:.1%} | {each['searched_kl']:.4f} | "
        f"{estimated} |"
    )


if __name__ == "__main__":
    main()
