# SPDX-License-Identifier: Apache-2.0
"""How the threads of torch's operations wait for the next one."""

from __future__ import annotations

import os
import sys

# Turns of its loop for which a thread of GNU's OpenMP, which torch is built with, looks for work before it sleeps: some
# 30 us. Its own default is milliseconds, through which it holds a core that this package's kernels have threads for:
# of two cores, a product of 20 ms was waited for 3 ms longer.
_TURNS = "10000"


def let_torch_threads_sleep() -> None:
    """Has an effect before torch is loaded. What the user has set about it stays."""
    if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = _TURNS
