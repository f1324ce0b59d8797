# SPDX-License-Identifier: Apache-2.0
"""Prompts of several users in one pass: how many tokens that is, and a number of users that nothing would read."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..hardware.enums import Prefill
from ..hardware.schema import DeviceConfig
from ..perf.calibration import Calibration
from ..perf.footprint import batched_tokens
from .experiment_schema import WorkloadConfig
from .findings import Finding, Severity, declare, found

ID = "prefill-users"
USERS = "workload.prefill_users"
declare(ID, Severity.error, f"`{USERS}` where prompts come one by one, or more of them than a group has users")


def tokens_of_a_pass(workload: WorkloadConfig, hardware: DeviceConfig, calibration: Calibration) -> int:
    """Tokens of the prompts that batched prefill computes at once; 0 where prompts come one by one."""
    prefill = calibration.of(hardware.spec.chip.arch).prefill
    return batched_tokens(prefill, workload.prompt_length, workload.prefill_users or _in_a_group(workload, hardware))


def prefill_users_findings(
    workload: WorkloadConfig, hardware: DeviceConfig, calibration: Calibration, typed: Iterable[str]
) -> list[Finding]:
    """An error where `workload.prefill_users` was typed and no prefill reads it, or it is more than there are."""
    users, prefill = workload.prefill_users, calibration.of(hardware.spec.chip.arch).prefill
    if users is None or USERS not in typed:
        return []
    if prefill is not Prefill.batched:
        why = f"Prompts come one by one with {prefill} prefill."
        fix = f"Type runtime.prefill=batched too, or leave {USERS} out."
        return [found(ID, f"nothing reads {USERS}={users}.", why, fix)]
    if users > (most := _in_a_group(workload, hardware)):
        why = f"workload.batch={workload.batch} is {most} in each data-parallel group."
        return [found(ID, f"{USERS}={users} are more users than there are.", why, f"Use {USERS}={most}.")]
    return []


def _in_a_group(workload: WorkloadConfig, hardware: DeviceConfig) -> int:
    return math.ceil(workload.batch / max(hardware.parallelism.data_parallel_size, 1))
