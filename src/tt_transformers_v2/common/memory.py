# SPDX-License-Identifier: Apache-2.0
"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes

# glibc's names and numbers, malloc.h. 32 MiB is the most that it takes for the first.
_M_TRIM_THRESHOLD, _TRIM = -1, 256 << 20
_M_MMAP_THRESHOLD, _MMAP = -3, 32 << 20


def keep_freed_memory() -> None:
    """Has glibc keep up to 256 MiB that were freed for what is allocated next; other C libraries are left as they are.

    Otherwise each tensor of a few MiB is given back to the system and the next one taken anew, a page fault for every
    4 KiB of it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_TRIM_THRESHOLD, _TRIM)
    mallopt(_M_MMAP_THRESHOLD, _MMAP)
