"""A good clip passes; each thing that can be wrong with one is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moda.data.clip_jobs import PrepareOptions, track_clip
from moda.data.clips import ClipEntry, write_shard
from moda.data.corpora import CorpusClip
from moda.data.quality import (
    DISAGREE,
    PictureWatch,
    QualityLimits,
    count_disagreeing,
    largest_jump,
)
from moda.data.statistics import MotionStatistics
from moda.encoders.face import FaceModels
from moda.encoders.tracking import LandmarkTrack
from moda.errors import FaceError
from talking_videos import Talk, beside_itself, in_the_distance

Judge = Callable[[Talk], list[str]]


@pytest.fixture
def reasons(tmp_path: Path) -> Judge:
    """What speaks against a talk, by the words before the colon."""

    def judge(talk: Talk) -> list[str]:
        clip = CorpusClip(talk.write(tmp_path / "clip.mp4"), "clip", "anna")
        _, found = track_clip(clip, PrepareOptions())
        assert all(": " in reason for reason in found)
        return [reason.split(":")[0] for reason in found]

    return judge


def test_a_good_clip(reasons: Judge, talk: Talk) -> None:
    assert reasons(talk) == []


def test_too_short(reasons: Judge, talk: Talk) -> None:
    assert "too short" in reasons(talk.part(0, 20))


def test_no_face(reasons: Judge, talk: Talk) -> None:
    grey = np.full_like(talk.pictures[0], 128)
    assert "no face" in reasons(Talk([*talk.pictures[:18], *[grey] * 8], talk.sound))
    with pytest.raises(FaceError, match="fewer than 2 frames"):
        reasons(Talk([grey] * 12, talk.sound))


def test_several_faces(reasons: Judge, talk: Talk) -> None:
    assert "several faces" in reasons(talk.part(0, 26).each(beside_itself))


def test_too_small(reasons: Judge, talk: Talk) -> None:
    assert "face too small" in reasons(talk.part(0, 26).each(in_the_distance))


def test_a_cut_to_another_place(reasons: Judge, talk: Talk) -> None:
    moved = [np.roll(picture, 60, axis=1) for picture in talk.pictures[13:26]]
    assert "cut inside" in reasons(Talk([*talk.pictures[:13], *moved], talk.sound))


def test_a_cut_to_another_picture_with_the_face_at_the_same_place(
    reasons: Judge, talk: Talk
) -> None:
    dark = [np.uint8(0.35 * picture) for picture in talk.pictures[13:26]]
    assert "cut inside" in reasons(Talk([*talk.pictures[:13], *dark], talk.sound))


def test_silence(reasons: Judge, talk: Talk) -> None:
    hiss = np.random.default_rng(0).normal(0, 1e-5, 26 * 640).astype(np.float32)
    assert reasons(talk.part(0, 26)._replace(sound=hiss)) == ["silence"]


def test_sound_that_is_not_the_lips(reasons: Judge, talk: Talk) -> None:
    assert reasons(talk._replace(sound=np.roll(talk.sound[::-1], len(talk.sound) // 3))) == [
        "sound and lips disagree"
    ]


def test_no_sound_where_there_should_be(talk: Talk, tmp_path: Path) -> None:
    video = talk.part(0, 26).write(tmp_path / "clip.mp4", with_sound=False)
    clip = CorpusClip(video, "clip", "anna")
    prepared, found = track_clip(clip, PrepareOptions())
    assert [reason.split(":")[0] for reason in found] == ["no sound"]
    assert not prepared.has_speech
    assert track_clip(replace(clip, has_own_sound=False), PrepareOptions())[1] == []


def test_every_limit_is_obeyed(talk: Talk, tmp_path: Path) -> None:
    clip = CorpusClip(talk.part(0, 26).write(tmp_path / "clip.mp4"), "clip", "anna")
    strict = QualityLimits(
        min_seconds=9.0, min_found_share=1.1, min_eye_distance_px=200.0, max_jump=0.0,
        max_crowd_share=-0.1, min_lip_correlation=1.1,
    )  # fmt: skip
    kinds = {reason.split(":")[0] for reason in track_clip(clip, PrepareOptions(strict))[1]}
    assert kinds == {
        "too short", "no face", "face too small", "cut inside", "several faces",
        "sound and lips disagree",
    }  # fmt: skip


def test_largest_jump() -> None:
    landmarks = np.zeros((10, 478, 3), np.float32)
    landmarks[:, 263, 0] = 40.0  # the outer eye corners are 40 pixels apart
    landmarks[4:, :, 1] += 10.0
    found = np.ones(10, bool)
    jump, seconds = largest_jump(LandmarkTrack(landmarks, found))
    assert jump == pytest.approx(0.25)
    assert seconds == pytest.approx(0.16)
    found[3] = False  # what is interpolated is no jump
    assert largest_jump(LandmarkTrack(landmarks, found))[0] == 0.0
    assert largest_jump(LandmarkTrack(landmarks, np.zeros(10, bool))) == (0.0, 0.0)


def test_pictures_pass_unchanged(models: FaceModels) -> None:
    pictures = [
        (i / 25, np.full((64, 80, 3), level, np.uint8)) for i, level in enumerate((9, 9, 99))
    ]
    watch = PictureWatch(models)
    passed = list(watch.pass_on(iter(pictures)))
    assert all(one[1] is other[1] for one, other in zip(passed, pictures, strict=True))
    assert [seconds for seconds, _ in passed] == [seconds for seconds, _ in pictures]
    assert watch.largest_change() == (pytest.approx(90.0), pytest.approx(0.08))
    assert watch.counts == [0]
    assert watch.crowd_share == 0.0


def test_fast_movement_is_no_cut(models: FaceModels) -> None:
    """The same change three times in a row, and once."""

    def largest(levels: list[int]) -> float:
        watch = PictureWatch(models)
        pictures = [
            (i / 25, np.full((64, 64, 3), level, np.uint8)) for i, level in enumerate(levels)
        ]
        list(watch.pass_on(iter(pictures)))
        return watch.largest_change()[0]

    assert largest([0, 0, 40, 80, 120, 120]) == 0.0
    assert largest([0, 0, 0, 40, 40, 40]) == pytest.approx(40.0)
    assert largest([7]) == 0.0


def test_clips_that_the_judge_has_thrown_out_are_counted(tmp_path: Path) -> None:
    """Only those of the speakers that are asked for, and only those that are missing."""
    anna = CorpusClip(tmp_path / "a.mp4", "a", "anna")
    missing = ClipEntry.of(anna)
    told = replace(missing, reasons=("too short: 0.5 s", f"{DISAGREE}: correlation 0.1"))
    entries = [
        told,
        replace(told, name="b", speaker="bert"),
        replace(told, name="c", status="prepared"),
        replace(missing, name="d", reasons=("silence: nobody speaks",)),
    ]
    path = tmp_path / "shard-00000-of-00001.safetensors"
    write_shard(path, entries, [], MotionStatistics.total([], 1))
    assert count_disagreeing([tmp_path], ["anna", "carl"]) == 1
