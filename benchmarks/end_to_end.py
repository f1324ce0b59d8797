#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long whole commands take here, and beside another checkout in the same run.

    python benchmarks/end_to_end.py [JSON] [--against DIR] [--rounds N] [--only NAME ...]

| name | command |
| --- | --- |
| cold | `run.py task=accuracy` on SmolLM2, 512 tokens, exact; nothing compiled or kept before |
| warm | the same with compiled kernels and what earlier runs kept |
| layer | a layer of Llama-8B's shape, 512 tokens, exact, performance preset; less a run of the reference alone |
| sweep | six jobs over precision and fidelity of the MLP on SmolLM2, exact |
| search | sensitivity of ff1_ff3 on SmolLM2, 256 tokens, fast |

Each round runs every command once in each checkout, the checkouts taking turns at being first; a round before them
fills the caches and is not counted. What is reported is the median of wall and of processor seconds, and the median of
the quotients within a round. A checkout is copied without its outputs and has a folder of its own for compiled code, so
that nothing is kept of it and nothing of yours is used. Prints a table and writes it to JSON (default
benchmarks/end_to_end.json).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import processor

ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = (".git", "outputs", "__pycache__", ".venv", "shared", "*.gguf", "*.nbi", "*.nbc")
SMOLLM2 = ("task=accuracy", "device=n150", "model=smollm2_135m", "workload.tokens=512", "workload.window=512")
KEEPS_NOTHING = [f"search.space.{group}=[]" for group in ("wo", "wqkv", "kv_cache", "lm_head", "ff2")]
COMMANDS = {
    "cold": [*SMOLLM2, "backend.numerics=exact"],
    "warm": [*SMOLLM2, "backend.numerics=exact"],
    "layer": [
        "task=accuracy",
        "device=n150",
        "model=llama8b",
        "precision=performance",
        "workload.tokens=512",
        "workload.window=512",
        "workload.max_seconds=0.1",  # the walk stops after one layer
    ],
    "sweep": [
        "--multirun",
        *SMOLLM2,
        "backend.numerics=exact",
        "precision=performance,accuracy",
        "compute.mlp.math_fidelity=LoFi,HiFi2,HiFi4",
    ],
    "search": [
        "task=sensitivity",
        "device=n150",
        "model=smollm2_135m",
        *(f"search.{name}=256" for name in ("tokens", "verify_tokens", "window")),
        "search.max_minutes=30",
        *KEEPS_NOTHING,
    ],
}


@dataclass(frozen=True)
class Spent:
    """Seconds of a command: on the wall, and of processors."""

    wall: float
    processor: float


class Checkout:
    """A copy of a checkout that benchmarks may fill and empty."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.name, self.root = source.name, folder / "checkout"
        shutil.copytree(source, self.root, ignore=shutil.ignore_patterns(*NOT_COPIED))
        self._results, self._compiled = folder / "results", folder / "compiled"
        self._environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
        self._environment |= {"NUMBA_CACHE_DIR": str(self._compiled), "PYTHONPATH": str(self.root / "src")}
        # What is installed tells torch of a module that another checkout may not have.
        self._environment["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"

    def empty(self) -> None:
        """As if nothing had ever run here."""
        for folder in (self._compiled, self.root / "outputs", *self.root.rglob("__pycache__")):
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, name: str) -> Spent:
        """Raises SystemExit with the command's last lines where it fails."""
        shutil.rmtree(self._results, ignore_errors=True)
        if name == "cold":
            self.empty()
        if name == "search":  # its measurements would be taken from the last one
            shutil.rmtree(self.root / "outputs" / "cache" / "search", ignore_errors=True)
        if name == "layer":
            layer, reference = (self._command(name, how) for how in (["backend.numerics=exact"], ["backend=reference"]))
            return Spent(layer.wall - reference.wall, layer.processor - reference.processor)
        return self._command(name)

    def _command(self, name: str, more: Sequence[str] = ()) -> Spent:
        folder = "sweep" if name == "sweep" else "run"
        return self._timed(["scripts/run.py", *COMMANDS[name], *more, f"hydra.{folder}.dir={self._results}"])

    def _timed(self, command: list[str]) -> Spent:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.root,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"{self.name}: {' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Spent(wall, spent)


def measure(name: str, checkouts: list[Checkout], rounds: int) -> list[list[Spent]]:
    """What each round took in each checkout."""
    if name != "cold":  # fills what "warm" and the others may find
        for checkout in checkouts:
            checkout.run(name)
    found = []
    for number in range(rounds):
        turns = list(enumerate(checkouts))[:: -1 if number % 2 else 1]
        spent = {i: checkout.run(name) for i, checkout in turns}
        found.append([spent[i] for i in range(len(checkouts))])
    return found


def row(name: str, rounds: list[list[Spent]]) -> dict[str, Any]:
    """Medians of each checkout, and of the first one's quotient by the second."""
    made: dict[str, Any] = {"what": name, "rounds": len(rounds)}
    for kind in ("wall", "processor"):
        columns = [[getattr(spent, kind) for spent in column] for column in zip(*rounds, strict=True)]
        made[f"{kind}_seconds"] = [statistics.median(column) for column in columns]
        if len(columns) == 2:
            made[f"{kind}_ratio"] = statistics.median(a / b for a, b in zip(*columns, strict=True))
    return made


def shown(made: dict[str, Any]) -> str:
    cells = []
    for kind in ("wall", "processor"):
        cells += [f"{value:9.1f}" for value in made[f"{kind}_seconds"]]
        if f"{kind}_ratio" in made:
            cells.append(f"{made[f'{kind}_ratio']:7.2f}")
    return f"{made['what']:8}" + "".join(cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", nargs="?", default=Path(__file__).with_name("end_to_end.json"), type=Path)
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--rounds", type=int, default=3)
    names = ["cold", "warm", "layer", "sweep", "search"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {given.rounds}")
    sources = [ROOT, *([given.against.resolve()] if given.against else [])]
    for source in sources:
        if not (source / "scripts" / "run.py").is_file():
            parser.error(f"{source} is no checkout of this project: it has no scripts/run.py")
    heads = [f"{source.name[:8]:>9}" for source in sources] + (["  ratio"] if given.against else [])
    print(f"{processor()}, {os.cpu_count()} cores; seconds on the wall, then of processors")
    print(" " * 8 + "".join(heads * 2), flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        checkouts = [Checkout(source, Path(folder) / str(i)) for i, source in enumerate(sources)]
        for name in given.only:
            rows.append(row(name, measure(name, checkouts, given.rounds)))
            print(shown(rows[-1]), flush=True)
    machine = {"processor": processor(), "cores": os.cpu_count()}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(
        json.dumps({"machine": machine, "checkouts": [source.name for source in sources], "results": rows}, indent=2)
        + "\n"
    )
    print(f"written to {given.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
