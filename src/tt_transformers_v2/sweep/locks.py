# SPDX-License-Identifier: Apache-2.0
"""Locks that end with the process that holds them, so that a killed sweep never bars its own resumption."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..common.errors import ConfigError

LOCK_FILE = "sweep.lock"
_JOB_LOCK = ".running"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system without locks answers


@contextlib.contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Holds `folder` for one sweep. Raises ConfigError when another process writes there."""
    path = folder / LOCK_FILE
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_lock(path, timeout=0))
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        except Timeout:
            raise ConfigError(
                f"another sweep{_owner(path)} is writing {folder}.", "Wait for it, or choose another hydra.sweep.dir."
            ) from None
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}.", "Choose another hydra.sweep.dir.") from None
        yield


@contextlib.contextmanager
def job_lock(folder: Path) -> Iterator[None]:
    """Waits until no other process runs the job of `folder`, then holds it.

    A worker that outlives its sweep finishes its job before a resumed sweep looks at it.
    """
    path = folder / _JOB_LOCK
    with _lock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Holds `path`, but on a file system without locks nothing: a lock that is only a file outlives its process."""
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()


def _owner(path: Path) -> str:
    """The process that wrote the lock, if it has come to that."""
    try:
        owner = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return f" ({owner})" if owner else ""
