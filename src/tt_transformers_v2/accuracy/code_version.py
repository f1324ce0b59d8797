# SPDX-License-Identifier: Apache-2.0
"""A hash of the code that figures of accuracy depend on, for caches that must never be stale."""

from __future__ import annotations

import functools
import hashlib
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
# Rooms whose files decide what a forward pass computes; ttnn's backend computes on a card and is not among them.
_ROOMS = (
    "numerics/*.py",
    "models/*.py",
    "planning/*.py",
    "backends/*.py",
    "backends/emulated/*.py",
    "accuracy/walk.py",
    "search/target.py",
    "search/replay.py",
    "search/gradients.py",
    "search/gradient_effects.py",
)


@functools.cache
def code_version(*more: str) -> str:
    """Sixteen hex digits over the sources of models, numerics, plans, backends and the versions of torch and numba; and
    over those that `more` patterns of the package name."""
    digest = hashlib.sha256()
    for room in (*_ROOMS, *more):
        for path in sorted(_ROOT.glob(room)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(f"torch {metadata.version('torch')} numba {metadata.version('numba')}".encode())
    return digest.hexdigest()[:16]
