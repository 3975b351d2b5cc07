import platform
import subprocess
import sys

import pytest

# Each turn allocates and frees 64 MB, more than the C library ever keeps by itself; touched, each page is a fault once
# it was given back to the kernel.
PROGRAM = """
import resource, sys
import torch
from fusmae.runs.environment import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def turn():
    torch.ones(2**24)
for _ in range(10):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library has this setting")
def test_freed_memory_is_used_again_without_page_faults():
    faults = {
        how: int(
            subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout
        )
        for how in ("kept", "given back")
    }
    pages_a_turn = 2**24 * 4 // 4096
    assert faults["kept"] < pages_a_turn < 10 * pages_a_turn < faults["given back"]


# Two objects that hold each other stay until a search for cycles finds them.
CYCLES = """
import gc, sys, weakref
from fusmae.runs.environment import collect_garbage_rarely
collect_garbage_rarely()
class Node:
    pass
def cycle():
    one, other = Node(), Node()
    one.other, other.one = other, one
    return weakref.ref(one)
gone = cycle()
made = [Node() for _ in range(2_000)]
print(gone() is None)
more = [Node() for _ in range(100_000)]
print(gone() is None)
"""


def test_cycles_are_searched_for_rarely_but_searched_for():
    printed = subprocess.run([sys.executable, "-c", CYCLES], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "True"]
