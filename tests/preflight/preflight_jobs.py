# SPDX-License-Identifier: Apache-2.0
"""Preflights of several experiments in which one goes wrong; `isolated` imports this file in the process that runs."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from tt_transformers_v2.backends.ttnn.process.child import Job
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.preflight import preflight_job

asked = preflight_job.asked


def dies_at_llama1b(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """ttnn ends the process, as some of its assertions do."""

    def ends(question: Any, *others: Any) -> Any:
        if question.spec.hidden_dim != 2048:
            return asked(question, *others)
        print("TT_FATAL @ /project/x.cpp:12: a == b\ninfo:\nthe sky fell\nbacktrace:\n --- main", file=sys.stderr)
        sys.stderr.flush()
        os.abort()

    return _with(ends, payload, job)


def refuses_llama1b(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    def refuses(question: Any, *others: Any) -> Any:
        if question.spec.hidden_dim != 2048:
            return asked(question, *others)
        raise ConfigError("32 heads are too many.")

    return _with(refuses, payload, job)


def _with(asks: Any, payload: dict[str, Any], job: Job) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight_job, "asked", asks)
        return preflight_job.preflight_each(payload, job)
