#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the worked example of docs/quantize.md anew: python docs/make_quantize_example.py (4 minutes on two cores).

With the folder of a finished run as argument, only writes it down.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
COMMAND = (
    "task=quantize",
    "device=n150",
    "model=smollm2_135m",
    "precision=accuracy",
    "precision.mlp_weights=BFP4",
    "compute.mlp.math_fidelity=LoFi",
    "backend.numerics=exact",
)
BEGIN, END = "<!-- example: made by docs/make_quantize_example.py -->\n", "<!-- end of example -->\n"


def main() -> None:
    if len(sys.argv) > 1:
        write(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        script, out = DOCS.parent / "scripts" / "run.py", f"quantize.out={folder}/weights"
        subprocess.run([sys.executable, str(script), *COMMAND, out, f"hydra.run.dir={folder}/run"], check=True)
        write(Path(folder) / "run")


def write(run: Path) -> None:
    section = json.loads((run / "result.json").read_text(encoding="utf-8"))["quantize"]
    page = DOCS / "quantize.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + BEGIN + example(section) + END + after, encoding="utf-8")


def example(section: dict) -> str:
    verified = [quality(each) for each in section["verified"]]
    layers = [
        f"| {each['layer']} | {each['nearest']:.2%} | {each['calibrated']:.2%} |" for each in section["layers"][::5]
    ]
    return "\n".join(
        [
            f"    python scripts/run.py {' '.join(COMMAND)} quantize.out=DIR",
            "",
            f"{section['basis']}. {section['calibrated_matrices']} matrices, calibrated on {section['tokens']} tokens "
            f"of {section['text']}.",
            "",
            "| verified on | tokens | numerics | KL nearest | KL calibrated | top-1 nearest | top-1 calibrated |",
            "| --- | ---: | --- |" + " ---: |" * 4,
            *verified,
            "",
            "Error of the outputs on the calibration text, relative to the outputs (every fifth layer):",
            "",
            "| layer | nearest | calibrated |",
            "| ---: | ---: | ---: |",
            *layers,
            "",
            "",
        ]
    )


def quality(each: dict) -> str:
    kls = (interval(each[name]) for name in ("nearest", "calibrated"))
    shares = (f"{each[name]['top1']:.1%}" for name in ("nearest", "calibrated"))
    return f"| {each['how']} ({each['text']}) | {each['tokens']} | {each['numerics']} | {' | '.join((*kls, *shares))} |"


def interval(figures: dict) -> str:
    low, high = figures["confidence_interval"]["kl_divergence"]
    return f"{figures['kl_divergence']:.4f} ({low:.4f} to {high:.4f})"


if __name__ == "__main__":
    main()
