# SPDX-License-Identifier: Apache-2.0
"""The `sweep` and `launcher` sections of the configuration: how many jobs run and where, not what one of them is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..common.checked import Checked
from ..hardware.enums import Named


class OnInvalid(Named):
    """What becomes of combinations that cannot be: `skip` them, or `fail`, that is run nothing at all."""

    skip = "skip"
    fail = "fail"


class SamplerName(Named):
    """Which combinations run: all of the `grid`, or those that `optuna` asks for."""

    grid = "grid"
    optuna = "optuna"


class TrackerName(Named):
    """What else is told of finished jobs."""

    mlflow = "mlflow"
    tensorboard = "tensorboard"


class LauncherName(Named):
    """Where jobs run: in this process, in worker processes, as Slurm jobs or local processes by submitit, on ray."""

    in_process = "in_process"
    joblib = "joblib"
    submitit_local = "submitit_local"
    submitit_slurm = "submitit_slurm"
    ray = "ray"


@dataclass
class SweepConfig(Checked):
    """`axes` are overrides as typed, `pairs` mappings that set the same keys; see conf/config.yaml.

    Without quotes YAML splits an axis at its commas (`[device=n150,t3k]`); the pieces are put together again.
    """

    AT_LEAST = {"max_failures": 1, "trials": 1, "seed": 0}  # noqa: RUF012

    axes: list[str] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    on_invalid: OnInvalid = OnInvalid.skip
    max_failures: int | None = None
    resume: str | None = None
    retry_failed: bool = False
    parquet: bool = False
    trackers: list[TrackerName] = field(default_factory=list)
    mlflow_uri: str | None = None
    sampler: SamplerName = SamplerName.grid
    trials: int = 40
    objectives: list[str] = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        self.axes = _rejoined(self.axes)


def _rejoined(pieces: list[str]) -> list[str]:
    """Overrides of which YAML may have made several: a piece without a key or inside a bracket belongs to the last."""
    found: list[str] = []
    for piece in pieces:
        if found and ("=" not in piece or _is_open(found[-1])):
            found[-1] += f",{piece}"
        else:
            found.append(piece)
    return found


def _is_open(text: str) -> bool:
    return sum(map(text.count, "([{")) > sum(map(text.count, ")]}"))


@dataclass
class LauncherConfig(Checked):
    """conf/launcher. `workers` jobs run at once; `timeout_minutes` bounds one job.

    submitit: `jobs_per_task` jobs share one Slurm job, which asks for `cpus` cores and `memory_gb`; `slurm` holds any
    other option of sbatch by submitit's name for it (partition, account, qos, gres ...). ray: `address` names a running
    cluster, null starts one on this machine.
    """

    AT_LEAST = {"workers": 1, "timeout_minutes": 1e-3, "jobs_per_task": 1, "cpus": 1, "memory_gb": 1}  # noqa: RUF012

    name: LauncherName = LauncherName.in_process
    workers: int = 1
    timeout_minutes: float | None = None
    jobs_per_task: int = 1
    cpus: int = 1
    memory_gb: int | None = None
    slurm: dict[str, Any] = field(default_factory=dict)
    address: str | None = None
