# SPDX-License-Identifier: Apache-2.0
"""Places of a server, `runtime.max_num_seqs`: too few for the users, more than the device takes, or read by nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..hardware.enums import Stack
from ..hardware.schema import DeviceConfig
from ..perf.calibration import Calibration
from .experiment_schema import WorkloadConfig
from .findings import Finding, Severity, declare, found

ID = "server-places"
PLACES = "runtime.max_num_seqs"
declare(
    ID,
    Severity.error,
    f"`{PLACES}` without a server, or a server with fewer places than a group has users or more than the device takes",
)


def server_findings(
    workload: WorkloadConfig, hardware: DeviceConfig, calibration: Calibration, typed: Iterable[str]
) -> list[Finding]:
    """An error where places were typed and no server has them, or where a server has fewer than users in a group, or
    more than a group of the device takes."""
    own = calibration.of(hardware.spec.chip.arch)
    if own.stack is not Stack.vllm:
        if PLACES not in typed:
            return []
        why = f"{own.stack} decodes the users that there are."
        return [found(ID, f"nothing reads {PLACES}.", why, f"Type runtime.stack=vllm too, or leave {PLACES} out.")]
    users = math.ceil(workload.batch / max(hardware.parallelism.data_parallel_size, 1))
    if users <= own.max_num_seqs:
        most = hardware.max_batch_size
        if PLACES not in typed or own.max_num_seqs <= most:
            return []
        what = f"{PLACES} is {own.max_num_seqs}; {hardware.device_type} takes at most {most} users in a group here."
        return [found(ID, what, "Decode holds one user per row of a 32-row tile.", f"Set {PLACES}={most}.")]
    what = f"the server has {own.max_num_seqs} places, and a data-parallel group {users} users."
    return [found(ID, what, "The others wait until one is free.", f"Set {PLACES}={users}.")]
