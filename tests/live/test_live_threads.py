"""Programs that use a live head without the command, which keeps the libraries to one thread."""

from __future__ import annotations

import os
import subprocess
import sys

from paths import PORTRAIT, SPEECH

SPEAK = """
import sys, time
import cv2
import numpy as np
from moda.live import LiveHead, LiveOptions
from moda.media import AudioReader
from moda.options import FrameOptions
from moda.pipeline import TalkingHead

cv2.setNumThreads(1)
talking = TalkingHead.from_pretrained("moda-tiny", device="cpu")
options = LiveOptions(sample_rate=16_000, pace="ahead")
head = LiveHead.of(talking, sys.argv[1], options, frame=FrameOptions(size=64), warm_up=True)
head.push(np.concatenate(list(AudioReader(sys.argv[2], 16_000))))
time.sleep(0.5)  # threads that were woken before have gone to sleep
all_before, own_before = time.process_time(), time.thread_time()
for _ in range(50):
    head.next_frame()
print(time.process_time() - all_before, time.thread_time() - own_before)
"""


def test_no_thread_of_the_libraries_waits_busily_beside_a_live_head() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name, None)
    command = [sys.executable, "-c", SPEAK, str(PORTRAIT), str(SPEECH)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    everything, own = map(float, done.stdout.split())
    assert everything < 1.05 * own + 0.02
