# SPDX-License-Identifier: Apache-2.0
"""What an experiment will cost: the prediction of a resolved configuration, and its section in a result."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ..config.measured_points import measured_points
from ..config.model_shapes import described_spec
from ..config.resolve import Experiment
from ..perf.confidence import Confidence
from ..perf.prediction import Prediction
from ..perf.prediction import predict as predict_configuration


def predict(experiment: Experiment) -> Prediction:
    """Speed and memory of an experiment's workload, without a card. Users are shared out over data-parallel groups."""
    workload = experiment.config.workload
    return predict_configuration(
        experiment.hardware,
        experiment.spec,
        experiment.calibration,
        prompt_length=workload.prompt_length,
        batch=math.ceil(workload.batch / experiment.hardware.parallelism.data_parallel_size),
        context=workload.context,
        prefill_users=workload.prefill_users,
    )


def performance_section(experiment: Experiment) -> dict[str, Any]:
    """The `performance` section of a result: predicted tokens/s/user, tokens/s, TTFT in ms, bounds, time shares, how
    far to trust them, the nearest measured row, and memory per chip in bytes."""
    prediction = predict(experiment)
    memory = prediction.memory
    found: dict[str, Any] = {
        "assumes": prediction.assumes,
        "decode_confidence": _confidence(prediction.decode),
        "prefill_confidence": _confidence(prediction.prefill),
        "memory": dataclasses.asdict(memory) | {"used": memory.used, "fits": memory.fits},
    }
    row = prediction.nearest(measured_points(prediction.points), str(experiment.config.mode), described_spec)
    found["nearest_measured"] = None if row is None else row.as_dict()
    if not prediction.supported:
        return {"basis": "no prediction: unsupported", "notes": list(prediction.decode.reasons)} | found
    speed = prediction.speed
    return {
        "basis": speed.basis,
        "decode_tokens_per_s_per_user": speed.decode_tokens_per_s_per_user,
        "tokens_per_s": speed.decode_tokens_per_s_per_user * experiment.config.workload.batch,
        "ttft_ms": speed.ttft_ms,
        "bound": speed.bound,
        "shares": speed.shares,
        "prefill_bound": speed.prefill_bound,
        "notes": notes(experiment, prediction),
    } | found


def notes(experiment: Experiment, prediction: Prediction) -> list[str]:
    """What the predicted speed leaves out. Raises ConfigError where there is none."""
    typed = "typed programs (runtime.programs) change no predicted time; runtime.dram_readers_per_bank does."
    return [*prediction.speed.notes, *([typed] if experiment.config.runtime.programs else [])]


def _confidence(confidence: Confidence) -> dict[str, Any]:
    band = confidence.band if math.isfinite(confidence.band) else None
    return {"class": confidence.kind, "band_percent": band, "reasons": list(confidence.reasons)}
