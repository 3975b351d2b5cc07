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
