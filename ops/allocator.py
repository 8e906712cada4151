"""Keeps freed memory for the next batch instead of giving it back to the system after each.

A worker allocates the same few megabytes for every batch. glibc gives blocks of that size back at once and asks for them
again, and each page of them is faulted in anew: a sixth of the CPU of the window job (`benchmarks/`) on a virtual machine.
The price is that a process stays near the most memory it ever needed.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's `mallopt`."""

MMAP_BYTES_MIN = 32 * 1024 * 1024
"""Blocks from here on are still mapped and given back each for itself; glibc takes no larger limit."""
KEPT_BYTES_MAX = 512 * 1024 * 1024
"""Free memory at the heap's top that is kept."""
TOP_PAD_BYTES = 16 * 1024 * 1024
"""By how much more than needed the heap grows."""


def keep_freed_memory() -> bool:
    """For this process, from now on. Whether it was done: only glibc has the switches, elsewhere nothing happens."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = {_MMAP_THRESHOLD: MMAP_BYTES_MIN, _TRIM_THRESHOLD: KEPT_BYTES_MAX, _TOP_PAD: TOP_PAD_BYTES}
    done = [mallopt(name, value) == 1 for name, value in wanted.items()]
    return all(done)
