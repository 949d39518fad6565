"""Keeps freed memory for the next frame.

Every frame needs the same dozen megabyte-sized arrays for a moment. By default the C library gives them back to the
kernel and asks for them again, and the kernel clears every page again: measured on 640×480 that is 2400 page faults and
as much time as the noise itself.
"""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_REUSED = 32 << 20
_KEPT = 256 << 20


def keep_freed_memory() -> bool:
    """Tells the C library to reuse freed blocks of up to 32 MiB, and to keep up to 256 MiB of them.

    For entry points of processes, once at their start.

    Returns:
        Whether the C library knows the settings; only glibc does, and without them everything works, only slower.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_REUSED) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
