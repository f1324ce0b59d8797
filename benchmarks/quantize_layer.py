#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of calibrated rounding of one layer, and from it of a whole model.

    python benchmarks/quantize_layer.py [MODEL] [TOKENS]

The weights are synthetic and so are the layer's inputs, which are correlated as a text's are: time and memory do not
depend on values. BFP4 everywhere, windows of 512 tokens.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.models.rope import rope_tables
from tt_transformers_v2.models.weights import SyntheticWeights
from tt_transformers_v2.quantize.calibrated_layer import Settings, matrices_of, round_layer
from tt_transformers_v2.quantize.grid import Grid

WINDOW = 512


def main(model: str = "llama8b", tokens: str = "2048") -> None:
    """Prints one line per matrix and what the layer took."""
    spec = resolve(compose([f"model={model}"])).spec
    source, count = SyntheticWeights(spec), int(tokens)
    generator = torch.Generator().manual_seed(0)
    directions = spec.hidden_dim // 4
    mixing = torch.randn(directions, spec.hidden_dim, generator=generator) * directions**-0.5
    x = torch.randn(count // WINDOW, WINDOW, directions, generator=generator) @ mixing
    tables = rope_tables(spec, torch.arange(WINDOW))
    grids = {name: Grid("bfp4") for name in matrices_of(source, 0)}
    started = last = time.perf_counter()
    cpu = time.process_time()

    def progress(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        print(f"{name}: {now - last:.1f} s, peak {_peak():.2f} GiB", flush=True)
        last = now

    done = round_layer(source, 0, grids, x, tables, Settings(), progress)
    seconds, busy = time.perf_counter() - started, time.process_time() - cpu
    print(f"layer of {spec.name}, {count} tokens: {seconds:.0f} s ({busy:.0f} s of CPU), peak {_peak():.2f} GiB")
    print(f"all {spec.num_layers} layers: {spec.num_layers * seconds / 60:.0f} min, {torch.get_num_threads()} threads")
    for row in done.rows:
        print(f"{row.matrix}: error {row.nearest:.4f} to {row.calibrated:.4f}, damping {row.damping:.3f}")


def _peak() -> float:
    """Resident memory at its highest, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


if __name__ == "__main__":
    main(*sys.argv[1:])
