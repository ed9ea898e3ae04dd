"""Memory of freed tensors is kept by the process instead of being handed back and faulted in again."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_FROM_HEAP = 1 << 30


def keep_freed_memory() -> None:
    """On Linux with glibc, serve large allocations from the heap and do not trim it; elsewhere do nothing.

    By default glibc maps every large tensor anew and the kernel clears its pages, which costs a good part of the
    time of CPU inference, where each step makes and frees the same sizes again.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
