"""How this process's memory allocator treats freed memory."""

import ctypes

# From malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**31 - 1  # the largest that mallopt takes


def keep_freed_memory() -> None:
    """Keep memory that a batch freed for the next batch; does nothing where the C library is not GNU's.

    Otherwise the pages of every large array go back to the kernel, and it must zero and map them again for each batch:
    on a CPU this takes as long as reading and normalising the batch. The process's peak memory does not grow.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _KEPT_BYTES)
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
