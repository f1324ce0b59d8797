# SPDX-License-Identifier: Apache-2.0
"""What is measured of a model on a mesh: the time to the first token and the time of a decode step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from .mesh_model import TtnnModel

Progress = Callable[[str, int, int], None]


@dataclass
class Timings:
    """Milliseconds of every measured prompt and decode step, warm-up left out.

    A prompt's time ends when its next token is known on the host, a step's when every user's is.
    """

    prompts_ms: list[float] = field(default_factory=list)
    steps_ms: list[float] = field(default_factory=list)


def measure_speed(
    model: TtnnModel,
    prompts: Sequence[Sequence[int]],
    *,
    context: int,
    runs: int,
    steps: int,
    trace: bool,
    progress: Progress,
) -> Timings:
    """Times `runs` prefills of the first prompt and `steps` decode steps of all users, replayed where `trace`.

    Both run once before anything is timed, which compiles the programs. The first step adds the token after `context`
    cached ones; where the prompts are shorter, the cache holds zeros between. The token with the largest logit is
    taken, on the host. A trace is released again.
    """
    timings = Timings()
    model.prefill(prompts[0])
    for i in range(runs):
        began = time.perf_counter()
        _ = int(model.prefill(prompts[0]).argmax())
        timings.prompts_ms.append(_ms_since(began))
        progress("prefill", i + 1, runs)
    tokens = [int(model.prefill(prompt, user).argmax()) for user, prompt in enumerate(prompts)]
    positions = [context] * len(prompts)
    (model.decoder.record if trace else model.decoder.step)(tokens, positions)
    try:
        for i in range(steps):
            began = time.perf_counter()
            tokens = model.decoder.step(tokens, positions).argmax(-1).tolist()
            timings.steps_ms.append(_ms_since(began))
            positions = [position + 1 for position in positions]
            progress("decode", i + 1, steps)
    finally:
        model.decoder.release()
    return timings


def median(values: Sequence[float]) -> float:
    """The middle value, the lower of the two in the middle."""
    return float(torch.tensor(values, dtype=torch.float64).median())


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
