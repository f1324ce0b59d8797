# SPDX-License-Identifier: Apache-2.0
"""An experiment on a card or on Tenstorrent's simulator: started in a process of its own, reported beside predictions.

Nothing here imports ttnn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..backends.ttnn.process.availability import require_card
from ..backends.ttnn.process.isolated import run_isolated
from ..backends.ttnn.process.stand_in import cache_home
from ..common.errors import ConfigError
from ..config.experiment_json import to_sections
from ..config.experiment_schema import Task
from ..config.resolve import Experiment
from ..hardware.enums import Prefill, Sampling, Stack
from .performance import performance_section

Progress = Callable[[str, int, int | None], None]

JOB = "tt_transformers_v2.run.card_job:measure"
# Seconds. Converting the weights of the largest models takes most of it, and only the first time.
LONGEST_RUN = 6 * 3600.0


def sections(experiment: Experiment, progress: Progress) -> dict[str, Any]:
    """The `accuracy` and `performance` sections that the task asks for, measured; what was predicted stays beside it.

    Raises ConfigError: no card or no ttnn, another device than configured, memory that is too small, what ttnn said
    when it failed.
    """
    found = require_card("backend=ttnn", str(experiment.hardware.device_type))
    _refuse_unmeasured(experiment)
    for line in found.findings:
        _warn(line)
    answer = run_isolated(
        JOB,
        {"experiment": to_sections(experiment), "home": str(cache_home())},
        device=experiment.hardware.spec,
        mock=False,
        timeout_s=LONGEST_RUN,
        on_progress=lambda facts: _show(facts, progress),
    )
    return beside_prediction(experiment, answer)


def beside_prediction(experiment: Experiment, answer: dict[str, Any]) -> dict[str, Any]:
    """The sections of a result from what the job measured."""
    found: dict[str, Any] = {"accuracy": answer["accuracy"]}
    if experiment.config.task is Task.accuracy:
        return found
    predicted, measured = performance_section(experiment), answer["measured"]
    ratios = {
        name: measured[name] / predicted[name]
        for name in ("ttft_ms", "decode_tokens_per_s_per_user")
        if predicted.get(name)
    }
    return found | {"performance": predicted | {"measured": measured | {"measured_over_predicted": ratios}}}


def _refuse_unmeasured(experiment: Experiment) -> None:
    """What can be predicted or emulated but is not run. Raises ConfigError."""
    runtime = experiment.config.runtime
    if experiment.config.workload.prefill_tokens is not None:
        raise ConfigError(
            "backend=ttnn measures accuracy only in prefill form.", "Leave workload.prefill_tokens unset."
        )
    if experiment.config.accuracy.isolated:
        raise ConfigError("backend=ttnn measures whole models, not modules.", "Set accuracy.isolated=false.")
    if runtime.sampling not in (None, Sampling.host):
        raise ConfigError("backend=ttnn samples tokens on the host.", "Leave runtime.sampling unset.")
    if runtime.prefill not in (None, Prefill.untraced):
        raise ConfigError("backend=ttnn traces decode, not prefill.", "Leave runtime.prefill unset.")
    if runtime.stack is Stack.vllm:
        raise ConfigError("backend=ttnn runs no server.", "Leave runtime.stack unset.")


def _show(facts: dict[str, Any], progress: Progress) -> None:
    if "warning" in facts:
        _warn(facts["warning"])
    else:
        progress(facts["stage"], facts["done"], facts["total"])


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)
