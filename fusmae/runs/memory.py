"""How this process's memory allocator treats freed memory."""

import ctypes

# From malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**31 - 1  # the largest that mallopt takes


def keep_freed_memory() -> None:
    """Keep what a batch freed for the next batch; does nothing where the C library is another than GNU's.

    Otherwise every large array's pages go back to the kernel, and each batch pays to have them zeroed and mapped
    again: on a CPU as much as reading and normalising it takes. Memory is never more than the peak was.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _KEPT_BYTES)
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
