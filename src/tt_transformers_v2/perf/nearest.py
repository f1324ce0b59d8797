# SPDX-License-Identifier: Apache-2.0
"""The measured row most like a prediction: alike in shape and precision first, then on the same chips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from ..hardware.op_table import DECODE
from ..models.spec import ModelSpec
from .confidence import Asked
from .measurements import MeasuredRow
from .token_costs import sampling_path

# Shapes this much alike, in octaves over parameters, layers and hidden size together, are told apart by what follows:
# Qwen3-32B and QwQ-32B are less than 0.001 apart, Llama-3.1-8B and Ministral-8B 0.17.
ALIKE = 0.1
# Rows of other modes, `cfg:` and ff13_bfp4, are performance mode with some formats changed.
ACCURACY = "accuracy"

# The specification that a row's model name stands for; None where it is not described.
Shapes = Callable[[str], ModelSpec | None]


def nearest(rows: Iterable[MeasuredRow], asked: Asked, mode: str, shapes: Shapes) -> MeasuredRow | None:
    """The row of `rows` most like what is asked, None where there are none.

    In this order: nothing that keeps it from counting; parameters, layers and hidden size; precision mode; device;
    the same model by name; chips
    per group; sampling, prefill and stack; users and tokens; formats of their own; groups. A row whose model `shapes`
    does not know is the farthest of those that count.
    """
    parallel, known = asked.hw.parallelism, {}

    def apart(name: str) -> float:
        if name not in known:
            known[name] = _steps(shapes(name), asked.spec, same_model(name, asked.spec.name))
        return known[name]

    def distance(row: MeasuredRow) -> tuple[float, ...]:
        return (
            not row.counts(DECODE),
            apart(row.model),
            (row.mode == ACCURACY) != (mode == ACCURACY),
            row.device != asked.hw.device_type,
            not same_model(row.model, asked.spec.name),
            abs(math.log2(row.tensor_parallel / parallel.tensor_parallel_size)),
            _ways_apart(row, asked),
            abs(math.log2(row.seq / asked.prompt_length)) + abs(math.log2(row.batch / asked.batch)),
            row.mode != mode,
            row.data_parallel != parallel.data_parallel_size,
            row.tokens_per_s_per_user is None,
        )

    return min(rows, key=distance, default=None)


def _ways_apart(row: MeasuredRow, asked: Asked) -> int:
    """In how many of sampling, prefill and stack a row is known to be run otherwise than what is asked."""
    c, chips = asked.constants, asked.hw.parallelism.tensor_parallel_size
    own = {"sampling": sampling_path(c, chips, asked.spec.vocab_size), "prefill": c.prefill, "stack": c.stack}
    return sum(getattr(row, name) not in (None, way) for name, way in own.items())


def shape_distance(one: ModelSpec, other: ModelSpec) -> float:
    """How far two shapes are apart in octaves: |log2| of the ratios of parameters, layers and hidden size, summed."""
    return sum(
        abs(math.log2(mine / theirs))
        for mine, theirs in (
            (one.num_parameters, other.num_parameters),
            (one.num_layers, other.num_layers),
            (one.hidden_dim, other.hidden_dim),
        )
    )


def same_model(row_name: str, name: str) -> bool:
    """Whether a row's model is this one; rows leave -Instruct and the like out."""
    mine, theirs = name.casefold(), row_name.casefold()
    return mine == theirs or (mine.startswith(theirs) and mine[len(theirs)] in "-_")


def _steps(row: ModelSpec | None, asked: ModelSpec, named_alike: bool) -> float:
    """The distance in whole steps of ALIKE, so that shapes which hardly differ do not outweigh mode and device."""
    if row is None:
        return 0.0 if named_alike else math.inf
    return math.floor(shape_distance(row, asked) / ALIKE)
