#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What gradient sensitivities of a large model take: seconds, CPU seconds, memory, tokens per second.

    /usr/bin/time -v python benchmarks/gradient_scale.py --model llama8b --minutes 60
    /usr/bin/time -v python benchmarks/gradient_scale.py --layers 1

With --layers the model has only so many; add the processor time of a layer for each further one. Weights are synthetic
and tokens are drawn, so figures of quality mean nothing; the work is that of real ones. Every option of conf/search at
every site of every layer is estimated. Beside it, from the same process: torch's float32 matmul of a matrix of the
model, and one layer of the emulated backend, from which the time of search.method=measured is extrapolated (half of the
layers for each change). What --minutes leaves out is said.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.planned import op_plans
from tt_transformers_v2.config.resolve import resolve_or_refuse
from tt_transformers_v2.models.decoder import LayerWeights, attention_half, mlp_half
from tt_transformers_v2.models.rope import rope_tables
from tt_transformers_v2.models.weights import SyntheticWeights
from tt_transformers_v2.search.gradient_estimates import EstimateFile, Estimator
from tt_transformers_v2.search.space import read_space, with_assignment

WINDOW = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama8b")
    parser.add_argument("--device", default="t3k")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--layers", type=int)
    given = parser.parse_args()
    fewer = [] if given.layers is None else [f"model.num_layers={given.layers}"]
    checked = check_overrides(["task=search", f"device={given.device}", f"model={given.model}", *fewer])
    experiment = resolve_or_refuse(compose(checked.texts), checked.typed)
    space = read_space(experiment.config.search.space, experiment.spec.num_layers)
    base = with_assignment(experiment, space.base())
    source = SyntheticWeights(experiment.spec)
    drawn = torch.Generator().manual_seed(0)
    windows = torch.randint(experiment.spec.vocab_size, (given.tokens // WINDOW, WINDOW), generator=drawn)
    wanted = [(place, option) for place in space.places() for option in space.options[place.site][1:]]
    found = {
        "model": given.model,
        "layers": experiment.spec.num_layers,
        "tokens": windows.numel(),
        "samples": given.samples,
        "matmul_gflops": matmul_rate(experiment.spec, windows.numel()),
    }
    print(json.dumps(found), flush=True)
    estimator = Estimator(source, windows, base.hardware, space, wanted, given.samples, op_plans(base))
    with tempfile.TemporaryDirectory() as folder:
        started, cpu = time.monotonic(), time.process_time()
        file = EstimateFile(Path(folder) / "estimates.safetensors")
        estimates = estimator.run(file, deadline=started + 60 * given.minutes, progress=report)
        cost = estimates.cost
        assert cost is not None
        # Peak memory is looked at before what follows.
        found |= {
            "estimated": len(estimates.found),
            "left_out": len(estimates.left_out),
            "seconds": time.monotonic() - started,
            "cpu_seconds": time.process_time() - cpu,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "cpu_seconds_of_a_layer": cost.layer_cpu,
            "forward_tokens_per_s": windows.numel() / cost.forward,
            "backward_tokens_per_s": windows.numel() * given.samples / cost.backward,
            "seconds_of": {name: getattr(cost, name) for name in ("forward", "recomputed", "backward", "effects")},
        }
    print(json.dumps(found), flush=True)
    layer = emulated_layer_seconds(source, base, windows)
    found["emulated_layer_seconds"] = layer
    found["measured_hours_extrapolated"] = layer * len(wanted) * experiment.spec.num_layers / 2 / 3600
    print(json.dumps(found, indent=1))


def report(what: str, done: int, of: int | None) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what} {done}/{of}", file=sys.stderr, flush=True)


def matmul_rate(spec, tokens: int) -> float:
    """GFLOP/s of [tokens, hidden] x [hidden, width], the best of three."""
    x, weight = torch.randn(tokens, spec.hidden_dim), torch.randn(spec.hidden_dim, spec.intermediate_dim)
    times = []
    for _ in range(3):
        started = time.monotonic()
        x @ weight
        times.append(time.monotonic() - started)
    return 2e-9 * tokens * weight.numel() / min(times)


def emulated_layer_seconds(source, base, windows) -> float:
    """One layer of the base in fast numerics, its weights ready in memory before."""
    ops = EmulatedOps(base.hardware, "fast", plans=op_plans(base)).at_layer(0)
    weights = LayerWeights(source, 0, keep=True)
    tables = rope_tables(source.spec, torch.arange(windows.shape[1]))
    x = torch.randn(*windows.shape, source.spec.hidden_dim)
    times = []
    for _ in range(2):
        started = time.monotonic()
        mlp_half(ops, source.spec, weights, attention_half(ops, source.spec, weights, x, tables))
        times.append(time.monotonic() - started)
    return times[-1]


if __name__ == "__main__":
    main()
