# SPDX-License-Identifier: Apache-2.0
"""What benchmarks say about the machine that they ran on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's model name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
