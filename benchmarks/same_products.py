#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether every exact product of a whole model has the same bits here and in another checkout.

    python benchmarks/same_products.py OTHER_CHECKOUT [--overrides KEY=VALUE ...]

Runs SmolLM2 on 128 tokens in the presets performance and accuracy on n150 (Wormhole) and p150 (Blackhole), keeps the
operands and the result of every product of the matrix unit, LM head and attention included, and has the other checkout
compute them again from the same operands, in the same blocks of K. Exit code 0 where no bit differs, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent.parent
RUN = ["task=accuracy", "model=smollm2_135m", "backend.numerics=exact", "workload.tokens=128", "workload.window=128"]
PRESETS = [
    [f"device={device}", f"precision={mode}"] for device in ("n150", "p150") for mode in ("performance", "accuracy")
]
NAMES = ("math_fidelity", "fp32_dest_acc_en", "arch", "in0_block_w", "packer_l1_acc", "out", "weight_format")


def record(overrides: list[str], folder: Path) -> None:
    """Runs an experiment and writes every product to `folder`: operands and result, and how it was computed."""
    from tt_transformers_v2.commands.run import main
    from tt_transformers_v2.numerics import matrix_unit

    compute, number = matrix_unit.matmul, 0

    def kept(in0: torch.Tensor, in1: Any, **how: Any) -> torch.Tensor:
        nonlocal number
        result = compute(in0, in1, **how)
        stored = in1 if isinstance(in1, torch.Tensor) else in1.values
        if not isinstance(in1, torch.Tensor):
            how = how | {"weight_format": in1.weight_format}
        tensors = {"in0": in0.contiguous(), "in1": stored.contiguous(), "result": result.contiguous()}
        metadata = {"how": json.dumps({name: how[name] for name in NAMES if name in how})}
        save_file(tensors, folder / f"{number}.safetensors", metadata)
        number += 1
        return result

    matrix_unit.matmul = kept
    if main([*overrides, f"hydra.run.dir={folder / 'run'}"]):
        raise SystemExit("the experiment failed")


def replay(folder: Path) -> None:
    """Computes what is in `folder` again and prints how many products and numbers there are, and how many differ."""
    from safetensors import safe_open

    from tt_transformers_v2.numerics.matrix_unit import matmul

    products = numbers = differing = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            how = json.loads(file.metadata()["how"])
        tensors = load_file(path)
        found = matmul(tensors["in0"], tensors["in1"], **how)
        products, numbers = products + 1, numbers + found.numel()
        differing += int((found.view(torch.int32) != tensors["result"].view(torch.int32)).sum())
    print(json.dumps([products, numbers, differing]))


def role(checkout: Path, *arguments: str) -> str:
    """What this script prints as a part of `checkout`. Raises CalledProcessError."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--overrides", nargs="+", default=[], help="of the runs, besides device and precision")
    parser.add_argument("--role", choices=["record", "replay"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "record":
        record(given.overrides, given.other)
        return 0
    if given.role == "replay":
        replay(given.other)
        return 0
    if not (given.other / "src" / "tt_transformers_v2").is_dir():
        parser.error(f"{given.other} is no checkout of this project")
    total = 0
    for preset in PRESETS:
        with tempfile.TemporaryDirectory() as folder:
            role(HERE, folder, "--role", "record", "--overrides", *RUN, *preset, *given.overrides)
            products, numbers, differing = json.loads(role(given.other.resolve(), folder, "--role", "replay"))
        print(f"{' '.join(preset)}: {products} products, {numbers:,} numbers, {differing} differ", flush=True)
        total += differing + (products == 0)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
