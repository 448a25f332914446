"""A live head sends to a server of RTMP, which is another FFmpeg on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from live_frames import RATE_HZ, TONE_HZ, bright, live_frames
from moda.errors import InputError, OutputError
from moda.live.outputs import RtmpOutput
from paths import ROOT

SIZE = (64, 48)
CONNECT_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connect(address: str) -> RtmpOutput:
    """As soon as somebody listens."""
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return RtmpOutput(address, SIZE, RATE_HZ)
        except OutputError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_what_arrives_is_what_was_shown(tmp_path: Path) -> None:
    address = f"rtmp://127.0.0.1:{free_port()}/live/key"
    program, path = ROOT / "tests" / "rtmp_receiver.py", tmp_path / "received.npz"
    receiver = subprocess.Popen([sys.executable, str(program), address, str(path)])
    frames = list(live_frames(50, SIZE, undrawn=(20,)))
    try:
        with connect(address) as output:
            for frame in frames:
                output.show(frame)
        assert receiver.wait(CONNECT_SECONDS) == 0
    finally:
        receiver.kill()
        receiver.wait()
    with np.load(path) as received:
        assert list(received["codecs"]) == ["h264", "aac"]
        expected = bright(frames)
        expected[20] = expected[19]
        assert received["levels"] == pytest.approx(expected, abs=2.0)
        assert np.diff(received["times"]) == pytest.approx(0.04, abs=0.0015)
        sound = received["sound"]
    sent = 50 * RATE_HZ // 25
    assert sent <= len(sound) <= sent + 3 * 1024, "AAC begins before the sound and fills up"
    spectrum = np.abs(np.fft.rfft(sound[RATE_HZ // 2 :][:RATE_HZ]))
    assert spectrum.argmax() == TONE_HZ
    assert np.abs(sound[RATE_HZ // 2 :][:RATE_HZ]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("address", ["http://a/b", "rtmp:", "file:///etc/passwd", "rtmp:///live"])
def test_other_addresses(address: str) -> None:
    with pytest.raises(InputError, match="is no address of a stream"):
        RtmpOutput(address, SIZE, RATE_HZ)


def test_nobody_listens() -> None:
    with pytest.raises(OutputError, match=r"the stream to 127\.0\.0\.1 broke off") as caught:
        RtmpOutput(f"rtmp://127.0.0.1:{free_port()}/live/secret", SIZE, RATE_HZ)
    assert "secret" not in str(caught.value)


def test_a_server_that_hangs_up_is_told_once(tmp_path: Path, monkeypatch: Any) -> None:
    container = av.open(str(tmp_path / "a.flv"), "w", format="flv")
    monkeypatch.setattr("moda.live.outputs.rtmp.av.open", lambda *_, **options: container)
    output = RtmpOutput("rtmp://localhost/live/key", SIZE, RATE_HZ)
    first, second, third = live_frames(3, SIZE)
    output.show(first)

    def broken(packet: Any) -> None:
        raise OSError(32, "Broken pipe")

    monkeypatch.setattr(output, "_container", SimpleNamespace(mux=broken))
    with pytest.raises(OutputError, match="Broken pipe"):
        output.show(second)
    output.show(third)
    output.close()
    container.close()
