"""The whole report on made clips and an untrained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from made_clips import made_clip, tiny_checkpoint
from moda.data.clips import PreparedClip
from moda.data.phone_corpus import Utterance as CorpusUtterance
from moda.data.phone_corpus import join_utterances
from moda.errors import InputError
from moda.evaluation.model.articulation import Utterance
from moda.evaluation.model.report import Effort, Evidence, evaluate_model, read_utterances
from moda.evaluation.model.speed import repeat_sound
from moda.evaluation.rendered.performance import PerformanceOptions
from moda.media import read_image
from paths import PORTRAIT

TINY = Effort(
    seeds=(0,),
    minutes=0.1,
    non_speech_minutes=0.25,
    silence_seconds=5.0,
    rendered_seconds=1.0,
    speed_seconds=2.0,
    filming=PerformanceOptions(seconds=1.0, num_clips=1, num_utterances=1),
)


@pytest.fixture(scope="module")
def clips() -> list[PreparedClip]:
    return [made_clip(speaker, seed) for seed, speaker in enumerate("abc")]


def test_unknown_speakers_are_refused(clips: list[PreparedClip]) -> None:
    with pytest.raises(InputError, match="no clip with speech of aa; there are clips of a, b, c"):
        evaluate_model(tiny_checkpoint(), clips, ["a", "aa"])
    with pytest.raises(InputError, match="no clip with speech of any speaker"):
        evaluate_model(tiny_checkpoint(), clips, [])


def test_report_is_written_whole(tmp_path: Path, clips: list[PreparedClip]) -> None:
    sound = clips[0].sound[:32_000]
    evidence = Evidence(
        utterances=[Utterance("fr", sound, np.ones(200, np.int8))],
        portrait=read_image(PORTRAIT),
        example=sound,
    )
    said: list[str] = []
    report = evaluate_model(
        tiny_checkpoint(), clips, ["a"], evidence=evidence, effort=TINY, say=said.append
    )
    report.write(tmp_path / "report.json")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    sections = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert sections == [
        "Lips", "Closures and rounding", "Silence", "Liveliness", "Performance", "Emotions",
        "Speed",
    ]  # fmt: skip
    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert values["lips"]["speakers"] == ["a"]
    assert values["articulation"]["languages"][0]["known"]["closures"] == 1
    assert values["speed"]["sound_seconds"] == 2.0
    hearing = values["hearing"]
    assert hearing["right"]["rest"] == hearing["wrong"]["rest"], "an untrained flow is deaf"
    assert values["performance"]["same_noise"]["num_pairs"] == 3
    assert values["performance"]["articulation"]["known"]["closed"]["closures"] == 1
    assert said


def test_what_is_not_given_is_left_out_with_a_reason(clips: list[PreparedClip]) -> None:
    report = evaluate_model(
        tiny_checkpoint(knows_phones=False, has_mean=False),
        clips,
        ["a"],
        evidence=Evidence(num_disagreeing=2),
        effort=TINY,
    )
    text = report.markdown()
    assert "**Circular:** moda prepare left 2 clips of these speakers out" in text
    assert "## Emotions" not in text
    assert "Left out: closures and rounding, since no corpus" in text
    assert "Left out: emotions" in text
    assert "Left out: finished videos" in text
    assert "Left out: regression" in text


def test_phones_go_by_file_name(tmp_path: Path) -> None:
    samples = np.zeros(1600, np.int16)
    corpus = join_utterances(
        [
            CorpusUtterance(samples, np.full(10, k, np.int8), name, "espeak:de+f5", held_out=True)
            for k, name in enumerate(("one.mp4", "two"))
        ]
    )
    labels = corpus.labels_by_name()
    assert {name: int(values[0]) for name, values in labels.items()} == {"one": 0, "two": 1}
    corpus.write(tmp_path / "corpus.npz")
    found = read_utterances([tmp_path / "corpus.npz"] * 2)
    assert [utterance.language for utterance in found] == ["de"] * 4


def test_sound_is_repeated() -> None:
    first, second = np.zeros(1000, np.float32), np.ones(1000, np.float32)
    sound = repeat_sound([first, second], 0.25)
    assert sound.shape == (4000,)
    assert sound.mean() == 0.5
