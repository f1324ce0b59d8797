# SPDX-License-Identifier: Apache-2.0
"""The `performance` section of a result: predicted speed and memory."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ..perf.memory import memory_fit
from ..perf.roofline import predict_performance
from .configuration import Experiment


def predict(experiment: Experiment) -> dict[str, Any]:
    """Predicted tokens/s/user, tokens/s, TTFT in ms, bound, time shares and memory per chip in bytes."""
    hardware, spec, workload = experiment.hardware, experiment.spec, experiment.config.workload
    users = math.ceil(workload.batch / hardware.parallelism.data_parallel_size)
    speed = predict_performance(
        hardware,
        spec,
        experiment.calibration,
        prompt_length=workload.prompt_length,
        batch=users,
        context=workload.context,
    )
    memory = memory_fit(hardware, spec, batch=users, context=experiment.context)
    return {
        "basis": speed.basis,
        "decode_tokens_per_s_per_user": speed.decode_tokens_per_s_per_user,
        "tokens_per_s": speed.decode_tokens_per_s_per_user * workload.batch,
        "ttft_ms": speed.ttft_ms,
        "bound": speed.bound,
        "shares": speed.shares,
        "prefill_bound": speed.prefill_bound,
        "notes": list(speed.notes),
        "memory": dataclasses.asdict(memory) | {"used": memory.used, "fits": memory.fits},
    }
