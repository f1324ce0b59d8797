#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the number formats and the matrix unit are on this machine, as ratios taken in one run.

    python benchmarks/numerics.py [JSON] [--rounds N] [--cluster-description YAML]

Prints a table and writes it to JSON (default benchmarks/numerics.json).

- The exact and the fast matmul against torch's float32 matmul of the same shape. The exact one is divided by the
  phases of the fidelity: each phase multiplies all numbers once.
- The exact one on matrices of Llama-8B's layer, all of K in one block and in blocks of 8 tiles that are packed onto L1;
  and on one thread against as many as there are.
- Packing 4096x4096 float32 on the host against `ttnn.from_torch`. ttnn converts to block formats only if it finds a
  device; a description of an N150, written to a temporary folder, stands in for one. Without ttnn it says so.

Every round times all things one after the other; what is reported is the median over rounds of the quotient within
a round. Times are medians too, and depend on what else the machine is doing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import processor

try:
    from tt_transformers_v2.numerics import fast_matmul, matrix_unit
    from tt_transformers_v2.numerics.formats import pack_tiles
except ModuleNotFoundError as error:
    if error.name != "tt_transformers_v2":
        raise
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
    from tt_transformers_v2.numerics import fast_matmul, matrix_unit
    from tt_transformers_v2.numerics.formats import pack_tiles

SHAPES = [(512, 2048, 2048), (32, 4096, 4096)]
PHASES = {"LoFi": 1, "HiFi4": 4}
# Of a layer of Llama-8B on two chips, in the performance preset: M, K, N, fidelity, fp32 Dst.
LAYER = [
    (512, 4096, 3584, "LoFi", False),
    (512, 3584, 4096, "HiFi2", False),
    (512, 4096, 1536, "HiFi2", True),
]
BLOCK = 8  # tiles of K

# The fields ttnn wants to see; board_id is one that means an N150.
N150 = """\
arch: {0: wormhole_b0}
chips: {0: [0, 0, 0, 0]}
ethernet_connections: []
chips_with_mmio: [{0: 0}]
harvesting:
  0: {noc_translation: true, harvest_mask: 64, dram_harvesting_mask: 0, eth_harvesting_mask: 0, pcie_harvesting_mask: 0}
boards:
  - [{board_id: 72059269368820857}, {board_type: n150}, {chips: [0]}]
"""


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round; a first round compiles and warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for i in range(rounds + 1):
        for name, work in works.items():
            spent = seconds(work)
            if i:
                times[name].append(spent)
    return times


def ratio(times: dict[str, list[float]], name: str, base: str) -> float:
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def matmuls(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for m, k, n in SHAPES:
        random = torch.Generator().manual_seed(0)
        in0 = torch.randn(m, k, generator=random).bfloat16()
        in1 = (torch.randn(k, n, generator=random) * 0.02).bfloat16()
        float0, float1 = in0.float(), in1.float()
        works: dict[str, Callable[[], object]] = {"torch": lambda x=float0, y=float1: torch.matmul(x, y)}
        phases = {}
        for fidelity, count in PHASES.items():
            for wide in (True, False):
                how = {"math_fidelity": fidelity, "fp32_dest_acc_en": wide}
                for kind, module in (("exact", matrix_unit), ("fast", fast_matmul)):
                    weights = module.prepare_in1(in1, fidelity)
                    name = f"{kind} {fidelity} {'fp32' if wide else 'bf16'} Dst"
                    works[name] = lambda f=module.matmul, x=in0, w=weights, o=how: f(x, w, **o)
                    phases[name] = count if kind == "exact" else 1
        times = measure(works, rounds)
        for name, count in phases.items():
            rows.append(
                {
                    "what": f"{name}, {m}x{k}x{n}" + (", per phase" if name.startswith("exact") else ""),
                    "against": "torch float32 matmul",
                    "ratio": ratio(times, name, "torch") / count,
                    "milliseconds": 1e3 * statistics.median(times[name]),
                    "gmac_per_second": m * k * n * count / statistics.median(times[name]) / 1e9,
                    "torch_gmac_per_second": m * k * n / statistics.median(times["torch"]) / 1e9,
                }
            )
    return rows


def blocks(rounds: int) -> list[dict[str, Any]]:
    """One block, several, and one thread."""
    rows = []
    for m, k, n, fidelity, wide in LAYER:
        random = torch.Generator().manual_seed(0)
        in0 = torch.randn(m, k, generator=random).bfloat16()
        in1 = (torch.randn(k, n, generator=random) * 0.02).bfloat16()
        float0, float1, weights = in0.float(), in1.float(), matrix_unit.prepare_in1(in1, fidelity)
        how: dict[str, Any] = {"math_fidelity": fidelity, "fp32_dest_acc_en": wide}
        works: dict[str, Callable[[], object]] = {
            "torch": lambda x=float0, y=float1: torch.matmul(x, y),
            "one": lambda x=in0, w=weights, o=how: matrix_unit.matmul(x, w, **o),
            "several": lambda x=in0, w=weights, o=how: matrix_unit.matmul(x, w, in0_block_w=BLOCK, **o),
        }
        if torch.get_num_threads() > 1:
            works["alone"] = lambda work=works["several"]: on_one_thread(work)
        times = measure(works, rounds)
        phases = {"LoFi": 1, "HiFi2": 2}[fidelity]
        what = f"{m}x{k}x{n} {fidelity} {'fp32' if wide else 'bf16'} Dst"
        for name, against, count in (("one", "torch", phases), ("several", "torch", phases), ("several", "one", 1)):
            label = f"{'one block' if name == 'one' else f'blocks of {BLOCK}'}, {what}"
            rows.append(
                {
                    "what": label + (", per phase" if against == "torch" else ""),
                    "against": "torch float32 matmul" if against == "torch" else "one block",
                    "ratio": ratio(times, name, against) / count,
                    "milliseconds": 1e3 * statistics.median(times[name]),
                }
            )
        if "alone" in times:
            rows.append(
                {
                    "what": f"one thread, {what}",
                    "against": f"{torch.get_num_threads()} threads",
                    "ratio": ratio(times, "alone", "several"),
                    "milliseconds": 1e3 * statistics.median(times["alone"]),
                }
            )
    return rows


def on_one_thread(work: Callable[[], object]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work()
    finally:
        torch.set_num_threads(threads)


def find_ttnn(description: str | None) -> Any:
    """The ttnn module, ready to convert, or a string that says why not."""
    try:
        if description is None and "TT_METAL_MOCK_CLUSTER_DESC_PATH" not in os.environ:
            file = Path(tempfile.mkdtemp()) / "n150.yaml"
            file.write_text(N150)
            description = str(file)
        if description is not None:
            os.environ["TT_METAL_MOCK_CLUSTER_DESC_PATH"] = description
        for name, value in {"LOGURU_LEVEL": "WARNING", "TT_LOGGER_LEVEL": "off"}.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("TT_METAL_CACHE", tempfile.mkdtemp())
        import ttnn

        ttnn.from_torch(torch.zeros(32, 32), dtype=ttnn.bfloat8_b, layout=ttnn.TILE_LAYOUT)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ttnn


def packing(rounds: int, description: str | None) -> list[dict[str, Any]]:
    x = torch.randn(4096, 4096, generator=torch.Generator().manual_seed(0))
    ttnn, rows = find_ttnn(description), []
    works: dict[str, Callable[[], object]] = {}
    for fmt, name in (("bfp8", "bfloat8_b"), ("bfp4", "bfloat4_b")):
        works[fmt] = lambda f=fmt: pack_tiles(x, f)
        if not isinstance(ttnn, str):
            dtype = getattr(ttnn, name)
            works[f"ttnn {fmt}"] = lambda d=dtype: ttnn.from_torch(x, dtype=d, layout=ttnn.TILE_LAYOUT)
    times = measure(works, rounds)
    for fmt in ("bfp8", "bfp4"):
        row: dict[str, Any] = {"what": f"host packing to {fmt}, 4096x4096", "against": "ttnn.from_torch"}
        row["milliseconds"] = 1e3 * statistics.median(times[fmt])
        if isinstance(ttnn, str):
            row["not_measured"] = ttnn
        else:
            row["ratio"] = ratio(times, fmt, f"ttnn {fmt}")
            row["ttnn_milliseconds"] = 1e3 * statistics.median(times[f"ttnn {fmt}"])
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", nargs="?", default=Path(__file__).with_name("numerics.json"), type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cluster-description", help="for ttnn; default: an N150")
    given = parser.parse_args()
    rows = matmuls(given.rounds) + blocks(given.rounds) + packing(given.rounds, given.cluster_description)
    machine = {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}")
    print(f"{'':55}{'ratio':>8}  {'ms':>9}  against")
    for row in rows:
        value = f"{row['ratio']:8.2f}" if "ratio" in row else f"{'-':>8}"
        note = row["against"] + (f" (not measured: {row['not_measured']})" if "not_measured" in row else "")
        print(f"{row['what']:55}{value}  {row['milliseconds']:9.1f}  {note}")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps({"machine": machine, "rounds": given.rounds, "results": rows}, indent=2) + "\n")
    print(f"written to {given.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
