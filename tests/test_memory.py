from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FREE_AND_GIVE_BACK = """
from moda.memory import give_back_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
parts = [bytes(100_000) for _ in range(1000)]
end = bytes(100_000)
del parts
before = resident()
give_back_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
def test_freed_memory_goes_back_to_the_system() -> None:
    command = [sys.executable, "-c", FREE_AND_GIVE_BACK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000_000
