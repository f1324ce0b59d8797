# SPDX-License-Identifier: Apache-2.0
"""Runs one experiment and writes its result, whatever happens on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from ..config.resolve import Experiment, hash_of, plain
from .result_files import SCHEMA_VERSION, environment, git_state, write_result
from .tasks import Job, function_of

if TYPE_CHECKING:
    from ..accuracy.state_reuse import SharedStates


def run(
    experiment: Experiment,
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    show_progress: bool = True,
    shared: SharedStates | None = None,
) -> dict[str, Any]:
    """Runs `experiment`, writes result.json into `folder` and returns it.

    What is in `shared`, weights and the reference's states, is used again, and kept there for the next job.

    Anything that stops the experiment is recorded with status "failed" and raised again; a ConfigError (a mistake of
    the user's) and an interrupt are raised without a result, so that nothing half-written stays.
    """
    started = time.monotonic()
    result = blank_result(overrides) | {
        "config": (config := experiment.to_dict()),
        "config_hash": hash_of(config),
    }
    result["findings"] = [plain(finding) for finding in experiment.findings]
    result["rules"] = [plain(effect) for effect in experiment.effects if effect.changed]
    try:
        outcome = function_of(experiment.config.task)(Job(experiment, folder, show_progress, shared))
        result |= outcome.sections
        result["status"], result["error"] = ("ok", None) if outcome.failure is None else ("failed", outcome.failure)
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        result["status"] = "failed"
        result["error"] = f"{type(error).__name__}: {error}".strip()
        result["seconds"] = time.monotonic() - started
        write_result(folder, result)
        raise
    result["seconds"] = time.monotonic() - started
    write_result(folder, result)
    return result


def blank_result(overrides: Sequence[str]) -> dict[str, Any]:
    """A result with every key in its place and nothing measured."""
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "failed",
        "error": None,
        "overrides": list(overrides),
        "config": None,
        "config_hash": None,
        "git": git_state(),
        "environment": environment(),
        "findings": [],
        "rules": [],
        "accuracy": None,
        "performance": None,
        "evaluation": None,
        "preflight": None,
        "search": None,
        "quantize": None,
        "seconds": None,
    }
