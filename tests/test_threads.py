"""Threads that end before the interpreter does."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

START = """
    import sys, threading, time
    from moda.threads import BackgroundThread

    stopping, working = threading.Event(), threading.Event()

    def work():
        working.set()
        stopping.wait()
        time.sleep(0.2)
        print("ended", flush=True)
"""
ENDS = {"returns": ("", 0), "exits": ("sys.exit(143)", 143), "fails": ("raise ValueError", 1)}


def outcome(code: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("end", list(ENDS))
def test_the_program_waits_for_its_threads(end: str) -> None:
    statement, code = ENDS[end]
    begin = f"""
    BackgroundThread(work, "work", stopping.set).start()
    working.wait()
    {statement}
    """
    assert outcome(START + begin) == (code, "ended\n")


def test_a_thread_that_has_ended_is_not_stopped_again() -> None:
    begin = """
    thread = BackgroundThread(lambda: None, "work", lambda: print("stopped"))
    thread.start()
    thread.join()
    """
    assert outcome(START + begin) == (0, "")


def test_an_abandoned_generator_does_not_abort_the_program() -> None:
    """Its thread is within native code that must not be cut off when the program ends."""
    code = """
    import sys
    import numpy as np
    from moda.pipeline.read_ahead import read_ahead

    class Endless:
        def __iter__(self):
            return self

        def __next__(self):
            return np.ones((200, 200)) @ np.ones((200, 200))

    items = read_ahead(Endless())
    next(items)
    import atexit, threading
    names = [thread.name for thread in threading.enumerate()]
    atexit._run_exitfuncs()
    print("moda-sampler" in names, [t.name for t in threading.enumerate()])
    """
    assert outcome(code) == (0, "True ['MainThread']\n")
