# SPDX-License-Identifier: Apache-2.0
"""The matrix unit's kernel compiled in a process of its own, beside whatever else a first run compiles.

numba compiles one kernel at a time in a process, and this one takes as long as all others together. Where it is in
numba's cache already, or cannot be put there, nothing happens.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tt_transformers_v2.numerics import exact_float

# Nothing is imported from the current folder, which comes first for -m and -c.
_PROGRAM = """
import sys
sys.path = [folder for folder in sys.path if folder]
import runpy
runpy.run_module("tt_transformers_v2.numerics.first_product", run_name="__main__")
"""
_SOURCES = Path(__file__).resolve().parents[2]
_process: subprocess.Popen[bytes] | None = None
_meanwhile: Callable[[], object] | None = None


def start(meanwhile: Callable[[], object] | None = None) -> None:
    """Begins to compile, if that is needed and there is a second core.

    `finish` waits for it; where it would have to, it calls `meanwhile` first.
    """
    global _process, _meanwhile
    if _process is None and (os.cpu_count() or 1) > 1 and _missing(exact_float.accumulate):
        folders = [str(_SOURCES), *(folder for folder in sys.path[1:] if folder)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
        nowhere, command = subprocess.DEVNULL, [sys.executable, "-c", _PROGRAM]
        # It ends when its standard input does: with this process, however that ends.
        _process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere)
        _meanwhile = meanwhile
        atexit.register(_stop, _process)


def finish() -> None:
    """Returns when what `start` began has ended, well or not: what is not in the cache then is compiled here."""
    global _process, _meanwhile
    if _process is not None:
        process, _process, meanwhile, _meanwhile = _process, None, _meanwhile, None
        if meanwhile is not None and process.poll() is None:
            meanwhile()
        process.wait()
        atexit.unregister(_stop)


def _missing(kernel: Any) -> bool:
    """Whether a kernel has a place in a cache and none of its compiled forms is there, of its source as it is."""
    if kernel.signatures or kernel.stats.cache_path is None:
        return False
    source = Path(kernel.py_func.__code__.co_filename)
    indices = Path(kernel.stats.cache_path).glob(f"{source.stem}.{kernel.py_func.__name__}-*.nbi")
    return all(index.stat().st_mtime < source.stat().st_mtime for index in indices)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
