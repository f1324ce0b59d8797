# SPDX-License-Identifier: Apache-2.0
"""Whether ten commands leave the same result.json here and in another checkout, apart from time, git and versions.

    python benchmarks/same_results.py OTHER_CHECKOUT

Exit code 0 where all are equal, 1 with the differing keys where not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
SHORT = ["workload.tokens=64", "workload.window=64"]
DECODED = ["workload.tokens=96", "workload.window=48", "workload.prefill_tokens=32", "accuracy.isolated=true"]
COMMANDS = [
    SHORT,
    ["device=t3k", "precision=accuracy", "model=llama70b", "task=performance"],
    ["device=n300", "model=llama8b", "task=performance", "workload.batch=32", "workload.context=4096"],
    ["precision.mlp_weights=BFP8", "compute.attention.math_fidelity=HiFi3", "backend.numerics=fast", *SHORT],
    ["device=p150", "model=qwen3_8b", "precision=accuracy", "task=performance"],
    ["task=preflight", "device=n150", "model=llama1b", "precision=performance"],
    ["device=tg", "model=llama3_3_70b", "task=performance", "model_rules=tttv2"],
    ["device=n150", "precision=accuracy", *DECODED],
    ["device=n300", "task=accuracy", "model=smollm2_135m", "precision=custom", *SHORT],
    ["device=t3k", "model=mistral7b", "task=performance", "layers=[{select: '0..3', precision: {mlp_weights: BFP4}}]"],
]
OF_THE_RUN = ("seconds", "git", "environment")


def result(checkout: Path, overrides: list[str], folder: Path) -> Any:
    """What the command leaves, without what differs from run to run. Raises CalledProcessError."""
    command = [sys.executable, str(checkout / "scripts" / "run.py"), *overrides, f"hydra.run.dir={folder}"]
    subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    for key in OF_THE_RUN:
        found.pop(key)
        if isinstance(found.get("preflight"), dict):
            found["preflight"].pop(key, None)
    return found


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Dotted paths at which two results differ, with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from differences(a.get(key, "absent"), b.get(key, "absent"), f"{where}.{key}" if where else key)
    elif a != b:
        yield f"{where}: {str(a)[:80]} here, {str(b)[:80]} there"


def main() -> int:
    """Compares; prints a line per command."""
    other, code = Path(sys.argv[1]).resolve(), 0
    for number, overrides in enumerate(COMMANDS):
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = (result(c, overrides, Path(folder) / name) for c, name in ((HERE, "a"), (other, "b")))
        found = list(differences(ours, theirs))
        print(f"{number + 1}. {' '.join(overrides)}: {'equal' if not found else 'differs'}")
        print(*(f"   {line}" for line in found), sep="\n", end="\n" if found else "")
        code |= bool(found)
    return code


if __name__ == "__main__":
    sys.exit(main())
