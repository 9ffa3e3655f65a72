"""How the C library's allocator treats the large buffers of a training on a CPU."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
_KEPT = 2**31 - 1


def keep_buffers() -> None:
    """Let freed memory stay with the process instead of going back to the kernel.

    Activations are freed and wanted again in every pass; by default glibc gives them back, and the
    kernel zeroes the same pages again and again (experiments/training-speed has a measurement).
    Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_TOP_PAD, 2**26)
