#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The LM head's share of a model's time on the emulated backend, beside its share of multiplications.

    python benchmarks/lm_head.py [--model gemma3_1b] [--tokens 512] [--precision performance] [--layers 3]

A run's own steps on synthetic weights, bit for bit: layers as they are walked, and the LM head on as many rows at a
time as the walk compares. Weights are drawn before the clock starts; making them ready for the matrix unit counts. The
time of all layers is that of the median one of `--layers` times their number, so give a model whose layers have the
same matrices. Multiplications are those of weights alone, so that attention, norms and rotary steps are in the layers'
time and not in their share; those of phases count HiFi2 twice, as the unit multiplies.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import processor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from tt_transformers_v2.accuracy.walk import LOGITS_AT_A_TIME
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.hardware.op_table import LM_HEAD, ModelOp
from tt_transformers_v2.models.decoder import LayerWeights, decoder_layer, logits_of, matrix_op
from tt_transformers_v2.models.rope import rope_tables, table_rows
from tt_transformers_v2.models.weights import SyntheticWeights, layer_tensors
from tt_transformers_v2.run.host_backend import emulated_ops


def main() -> None:
    """Prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gemma3_1b", help="a model of conf/model (gemma3_1b)")
    parser.add_argument("--tokens", type=int, default=512, help="of the one window (512)")
    parser.add_argument("--precision", default="performance", help="a precision of conf/precision (performance)")
    parser.add_argument("--layers", type=int, default=3, help="how many are timed (3)")
    given = parser.parse_args()
    words = ["device=n150", f"model={given.model}", f"precision={given.precision}", "backend.numerics=exact"]
    checked = check_overrides(words)
    experiment = resolve(compose(checked), checked.typed)
    spec = experiment.spec
    ops = emulated_ops(experiment, tokens=given.tokens, window=given.tokens, synthetic=True, prepared=None)
    source, tables = SyntheticWeights(spec), rope_tables(spec, torch.arange(given.tokens))
    x = torch.randn(1, given.tokens, spec.hidden_dim, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    layers = []
    for layer in range(given.layers + 1):  # the first compiles or loads kernels, and each draws its weights on 32 rows
        weights = LayerWeights(source, layer, keep=True)
        decoder_layer(ops.at_layer(layer), spec, weights, x[:, :32], table_rows(tables, slice(0, 32)))
        started = time.perf_counter()
        decoder_layer(ops.at_layer(layer), spec, weights, x, tables)
        layers.append(time.perf_counter() - started)
    matrix, rows = source.tensor(LM_HEAD.matrix), max(1, LOGITS_AT_A_TIME // spec.vocab_size)
    started = time.perf_counter()
    head = ops.matrix(matrix, LM_HEAD)
    ready = time.perf_counter() - started
    for at in range(0, given.tokens, rows):
        logits_of(ops, spec, head, x[0, at : at + rows])
    seconds = time.perf_counter() - started
    body = spec.num_layers * statistics.median(layers[1:])
    shapes = {name: shape for name, shape in layer_tensors(spec).items() if len(shape) == 2}

    def share(phases_of: Callable[[ModelOp], int]) -> float:
        """The LM head's part of all multiplications, each counted as often as its matmul has phases."""
        own = matrix.numel() * phases_of(LM_HEAD)
        rest = spec.num_layers * sum(math.prod(shape) * phases_of(matrix_op(name)) for name, shape in shapes.items())
        return round(own / (own + rest), 3)

    print(
        json.dumps(
            {
                "processor": processor(),
                "model": f"{spec.name}, synthetic weights, {given.tokens} tokens, precision={given.precision}",
                "lm_head": f"{matrix.shape[0]} x {matrix.shape[1]}, {rows} rows at a time",
                "share_of_multiplications": share(lambda op: 1),
                "share_of_phases": share(lambda op: ops.hardware.kernel(op, ops.phase).math_fidelity.phases),
                "share_of_time": round(seconds / (seconds + body), 3),
                "lm_head_s": round(seconds, 2),
                "of_which_made_ready_s": round(ready, 2),
                "layers_s": round(body, 2),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
