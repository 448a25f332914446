"""Pieces of a video that play while it is made, decoded again without the project's code."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from media_files import decode_video, tone, write_wav
from moda.errors import OutputError
from moda.media import VideoWriter
from moda.media.segments import SEGMENT_SECONDS, read_segments

SIZE = (96, 64)


def moving_pictures(count: int) -> list[np.ndarray]:
    rows, columns = np.mgrid[:64, :96]
    return [
        np.stack([(columns + 3 * n) % 256, (rows * 2 + n) % 256, 0 * rows + 90], 2).astype(np.uint8)
        for n in range(count)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pieces").mkdir()
    return tmp_path / "pieces"


def test_all_pieces_together_are_the_video(tmp_path: Path, folder: Path) -> None:
    sound = write_wav(tmp_path / "in.wav", tone(4.2, 16_000), 16_000)
    path = tmp_path / "out.mp4"
    with VideoWriter(path, SIZE, 25.0, sound=sound, segments=folder) as video:
        for picture in moving_pictures(105):
            video.write(picture)
    segments = read_segments(folder)
    assert len(segments) >= 4
    assert sum(segment.seconds for segment in segments) == pytest.approx(4.2, abs=0.05)
    joined = io.BytesIO(b"".join(segment.path.read_bytes() for segment in segments))
    with av.open(joined) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    whole = decode_video(path)
    assert np.array_equal(np.stack(frames), np.stack(whole.frames))
    joined.seek(0)
    with av.open(joined) as container:
        samples = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
    length = round(4.2 * 48_000)
    assert abs(samples.shape[1] - length) <= 2_048
    steady = slice(48_000, 3 * 48_000)  # a tone of 300 Hz has the same loudness in both
    assert samples[:, steady].std() == pytest.approx(whole.samples[:, steady].std(), rel=0.01)


def test_every_piece_plays_by_itself(tmp_path: Path, folder: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", SIZE, 30.0, segments=folder) as video:
        for picture in moving_pictures(100):
            video.write(picture)
    for segment in read_segments(folder)[:-1]:
        assert segment.seconds >= SEGMENT_SECONDS - 0.05
        with av.open(str(segment.path)) as container:
            frames = [frame.key_frame for frame in container.decode(video=0)]
        assert frames[0]
        assert len(frames) == pytest.approx(30 * segment.seconds, abs=0.01)


def test_pieces_are_there_before_the_video_is(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "out.mp4"
    assert read_segments(folder) == []
    with VideoWriter(path, SIZE, 25.0, segments=folder) as video:
        for picture in moving_pictures(200):
            video.write(picture)
        early = read_segments(folder)
        assert early
        assert not path.exists()
    late = read_segments(folder)
    assert late[: len(early)] == early
    assert read_segments(folder, start=len(early)) == late[len(early) :]


def test_without_pieces_the_bytes_are_as_ever(tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        with VideoWriter(tmp_path / name, SIZE) as video:
            for picture in moving_pictures(10):
                video.write(picture)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_a_missing_folder_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with VideoWriter(tmp_path / "out.mp4", SIZE, segments=tmp_path / "none") as video:
            for picture in moving_pictures(3):
                video.write(picture)

    with pytest.raises(OutputError, match="cannot be written"):
        write()
    assert list(tmp_path.iterdir()) == []
