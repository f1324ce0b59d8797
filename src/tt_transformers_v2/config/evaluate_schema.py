# SPDX-License-Identifier: Apache-2.0
"""The `evaluate` section of the configuration: which tasks of lm-evaluation-harness a model is asked, and how much."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..common.checked import Checked


@dataclass
class EvaluateConfig(Checked):
    """What task=evaluate asks, by lm-eval's own names; see conf/config.yaml.

    `tasks` are names of lm-eval's tasks, groups or tags, or of those in `include_path`. `limit` counts documents of
    each task, `batch_size` sequences that are computed together.
    """

    AT_LEAST = {"limit": 1, "num_fewshot": 0, "batch_size": 1}  # noqa: RUF012

    tasks: list[str] = field(default_factory=list)
    include_path: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    batch_size: int = 64
