# SPDX-License-Identifier: Apache-2.0
"""How this package builds and runs its compiled kernels: one decorator, one way to use all cores.

Kernels are plain loops, compiled by numba to run without the interpreter lock; several cores work on them as
ordinary threads, each on its own range. numba's own `parallel=True` is not used, on purpose: its OpenMP layer
spins beside torch's OpenMP threads on the same cores and aborts in a forked child, and its fallback layer aborts
the process when two threads call it. Nothing is compiled at import. Compiled code is cached on disk where some
folder can be written, and is built anew in each process where none can.

numba decides by a kernel's own source file whether its cached code is stale. A kernel should therefore call only
helpers of its own file, `instructions` and `vectors`, which have no reason to change.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import torch

# Below this many numbers a second thread costs more (some 70 us) than it saves.
SMALL = 1 << 16
# Pieces for each thread, which takes one at a time: the last ones are waited for, so long works are cut finer.
_PIECES, _MOST_PIECES = 4, 32
# No finer than this many numbers.
_PIECE = 1 << 22

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_pool_lock = threading.Lock()


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on its first call, without the interpreter lock, cached on disk if possible.

    Of the inexact float optimisations only the fusing of a product into a sum is allowed.
    """
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba found no folder it may write its cache to
        return numba.njit(**_OPTIONS)(function)


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` as a part of the kernels of the same file that call it."""
    return numba.njit(**_OPTIONS)(function)


def _forget_pool() -> None:
    # A forked child inherits the pool object but none of its threads: it must start its own.
    global _pool, _pool_size, _pool_lock
    _pool, _pool_size, _pool_lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _get_pool(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _pool_lock:
        if _pool is None or _pool_size < size:
            # An outgrown pool finishes what it was given and is then collected together with its threads.
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="numerics"), size
        return _pool


def run_split(work: Callable[[int, int], object], count: int, elements: int) -> None:
    """Call `work(begin, end)` on ranges that together cover 0..count, on as many threads as torch would use.

    Args:
        work: a compiled kernel bound to its arrays; the ranges it gets never overlap.
        count: how many independent items there are (rows, tiles, blocks of a product).
        elements: how many numbers are to be worked on; a few are done in the calling thread alone.

    The number of threads is at most `torch.get_num_threads()`, so `torch.set_num_threads` governs both. An
    exception of any range is raised after all ranges have ended. Calls from several threads are safe.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1 or elements < SMALL:
        work(0, count)
        return
    # Cores are seldom equally free: each takes a further piece when it has done one.
    pieces = min(count, threads * min(max(_PIECES, elements // (threads * _PIECE)), _MOST_PIECES))
    bounds = [count * i // pieces for i in range(pieces + 1)]
    left = iter(range(pieces))
    take = threading.Lock()

    def share() -> None:
        while True:
            with take:
                piece = next(left, None)
            if piece is None:
                return
            work(bounds[piece], bounds[piece + 1])

    pool = _get_pool(threads - 1)
    waiting = [pool.submit(share) for _ in range(threads - 1)]
    try:
        share()
    finally:
        # The kernels write into arrays of the caller: never leave before every one of them has ended. A thread that has
        # not woken up yet, which can take milliseconds, finds nothing left to do and is not waited for.
        failures = [error for future in waiting if not future.cancel() and (error := future.exception()) is not None]
    if failures:
        raise failures[0]
