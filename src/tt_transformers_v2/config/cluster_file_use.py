# SPDX-License-Identifier: Apache-2.0
"""A description of a real system, `device.cluster_file`, that nothing reads."""

from __future__ import annotations

from ..hardware.schema import DeviceSpec
from .experiment_schema import Task
from .findings import Finding, Severity, declare, found

ID = "cluster-file-unread"
declare(ID, Severity.error, "`device.cluster_file` without `task=preflight`, which alone reads it")


def cluster_file_findings(spec: DeviceSpec, task: Task) -> list[Finding]:
    """An error where a cluster description was given and the task does not check programs on it."""
    if spec.cluster_file is None or task is Task.preflight:
        return []
    why = "Only task=preflight describes a system to ttnn."
    return [found(ID, "nothing reads device.cluster_file.", why, "Type task=preflight too, or leave it out.")]
