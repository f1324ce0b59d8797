#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many predictions a second, and how long one takes beside a plain Hydra compose of the same configuration.

    python benchmarks/prediction.py [--predictions N] [--rounds N]

One process, one thread. Every prediction is of another configuration: formats, fidelities, batch and context are
drawn at random over four devices and two models, so that little of one helps the next. Hydra's compose, this project's
own, and the way from a composed configuration to a resolved experiment are timed beside it in the same rounds; medians
over the rounds.
"""

from __future__ import annotations

import argparse
import copy
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

try:
    from tt_transformers_v2.config.resolve import Experiment, resolve
except ModuleNotFoundError as error:
    if error.name != "tt_transformers_v2":
        raise
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
    from tt_transformers_v2.config.resolve import Experiment, resolve

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import conf_dir
from tt_transformers_v2.hardware.enums import DataFormat, MathFidelity
from tt_transformers_v2.hardware.schema import ComputeOverride
from tt_transformers_v2.perf.prediction import predict

CHOICES = [(device, model) for device in ("n150", "n300", "t3k", "p150") for model in ("llama8b", "llama3b")]
GROUPS = ("ff1_ff3", "ff2", "wqkv", "wo", "lm_head", "kv_cache", "mlp_activations", "attention_activations")


BATCH = 500


def drawn(experiment: Experiment, draw: random.Random) -> Callable[[], object]:
    """One prediction of a random variation of `experiment`."""
    hardware = copy.copy(experiment.hardware)
    hardware.precision, hardware.compute, hardware.layers = copy.copy(hardware.precision), dict(hardware.compute), {}
    for group in GROUPS:
        setattr(hardware.precision, group, draw.choice(list(DataFormat)))
    for group in ("ff1_ff3", "ff2", "qkv", "o", "sdpa_decode"):
        hardware.compute[group] = ComputeOverride(math_fidelity=draw.choice(list(MathFidelity)))
    sizes = {"prompt_length": draw.choice([128, 1024, 8192, 65536]), "batch": draw.choice([1, 8, 32])}
    return lambda: predict(hardware, experiment.spec, experiment.calibration, **sizes)


def seconds(work: Callable[[], object], times: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def predicting(experiments: list[Experiment], draw: random.Random, predictions: int) -> float:
    """Seconds per prediction; configurations are drawn in batches outside the clock, and dropped, as a sweep would."""
    total = 0.0
    for _ in range(predictions // BATCH):
        work = [drawn(draw.choice(experiments), draw) for _ in range(BATCH)]
        total += seconds(lambda work=work: [each() for each in work])
    return total / (predictions // BATCH * BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    overrides = ["device=t3k", "model=llama8b"]
    draw = random.Random(0)
    experiments = [resolve(compose((f"device={device}", f"model={model}"))) for device, model in CHOICES]
    gc.collect()
    gc.freeze()  # as a sweep does: modules need not be looked at again and again
    gc.set_threshold(20_000, 20, 20)
    figures: dict[str, list[float]] = {"predict": [], "compose": [], "resolve": [], "hydra": []}
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra_compose("config", overrides)
        for _ in range(arguments.rounds):
            figures["predict"].append(predicting(experiments, draw, arguments.predictions))
            figures["compose"].append(seconds(lambda: compose(overrides), 50))
            trees = [compose(overrides) for _ in range(50)]
            figures["resolve"].append(seconds(lambda trees=trees: resolve(trees.pop()), 50))
            figures["hydra"].append(seconds(lambda: hydra_compose("config", overrides), 3))
    median = {name: statistics.median(values) for name, values in figures.items()}
    ratios = {
        name: statistics.median(h / v for h, v in zip(figures["hydra"], values, strict=True))
        for name, values in figures.items()
    }
    print(f"{arguments.predictions} predictions, all different, {arguments.rounds} rounds, medians")
    print(f"  predictions per second            {1 / median['predict']:10,.0f}")
    for name, label in (
        ("predict", "one prediction"),
        ("compose", "composing a configuration"),
        ("resolve", "resolving it (rules, checks)"),
        ("hydra", "Hydra composing it"),
    ):
        print(f"  {label:30s} {median[name] * 1e6:10,.0f} us   Hydra takes {ratios[name]:8,.0f} times as long")


if __name__ == "__main__":
    main()
