# SPDX-License-Identifier: Apache-2.0
"""Locks that end with the process that holds them, so that a killed sweep never bars its own resumption."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ..common.errors import ConfigError

LOCK_FILE = "sweep.lock"
_JOB_LOCK = ".running"


@contextlib.contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Holds `folder` for one sweep. Raises ConfigError when another process writes there."""
    path = folder / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}.", "Choose another hydra.sweep.dir.") from None
    try:
        _hold(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _hold(descriptor: int, path: Path) -> None:
    busy = ConfigError(f"another sweep is writing {path.parent}.", "Wait for it, or choose another hydra.sweep.dir.")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 200).decode("utf-8", "replace").strip()
        raise ConfigError(f"another sweep ({owner}) is writing {path.parent}.", busy.hint) from None
    except OSError:
        return  # a file system without locks
    if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
        raise busy  # the file was removed by a sweep that gave up, and perhaps made again by another
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


@contextlib.contextmanager
def job_lock(folder: Path) -> Iterator[None]:
    """Waits until no other process runs the job of `folder`, then holds it.

    A worker that outlives its sweep finishes its job before a resumed sweep looks at it.
    """
    path = folder / _JOB_LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # A file system without locks loses only the protection against such a worker.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
