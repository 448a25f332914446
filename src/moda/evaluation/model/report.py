"""The report on a motion model: every figure with the rows that give it meaning beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moda.data.clips import PreparedClip
from moda.data.phone_corpus import read_phone_corpus
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.errors import InputError
from moda.evaluation.model.articulation import (
    Articulation,
    Utterance,
    articulation_report,
    choose_utterances,
    held_out_utterances,
)
from moda.evaluation.model.expressions import Expressions, expressions_report
from moda.evaluation.model.hearing import Hearing, hearing_report
from moda.evaluation.model.lip_table import LipTable, LipTableOptions, Say, lip_table
from moda.evaluation.model.lips import (
    SpokenClip,
    hear,
    sampled_motion,
    spoken_clips,
)
from moda.evaluation.model.liveliness import Liveliness, liveliness_report
from moda.evaluation.model.silence import (
    NonSpeech,
    Silence,
    non_speech_report,
    silence_report,
    with_pauses,
)
from moda.evaluation.model.speed import Speed, measure_speed, repeat_sound
from moda.evaluation.rendered.performance import (
    Performance,
    PerformanceOptions,
    mirrored,
    performance_report,
)
from moda.files import write_text
from moda.structures import Floats, Picture
from moda.weights.checkpoints import Checkpoint

CIRCULAR = (
    "**Circular:** moda prepare left {} clips of these speakers out because their lips are not "
    "those that moda-tiny expects. Figures of moda-tiny, and of models trained on clips chosen so, "
    "are too good; prepare the clips with --keep-all."
)


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    seeds: Sequence[int] = (0, 1, 2)
    minutes: float = 10.0
    """of liveliness"""
    non_speech_minutes: float = 3.0
    utterances_per_language: int = 12
    num_languages: int = 12
    silence_seconds: float = float("inf")
    """of recordings that are looked through for silences"""
    rendered_seconds: float = float("inf")
    """of each held-out clip"""
    speed_seconds: float = 60.0
    filming: PerformanceOptions = field(default_factory=PerformanceOptions)


QUICK = Effort(
    seeds=(0,),
    minutes=2.0,
    non_speech_minutes=1.0,
    utterances_per_language=4,
    num_languages=6,
    silence_seconds=60.0,
    rendered_seconds=3.0,
    speed_seconds=20.0,
    filming=PerformanceOptions(seconds=5.0, num_clips=4, num_utterances=4),
)


@dataclass(frozen=True)
class Evidence:
    """What the model is measured on besides the clips; what is missing is left out."""

    utterances: Sequence[Utterance] = ()
    """held-out speech with exact phone times"""
    clip_phones: Mapping[str, NDArray[np.int8]] | None = None
    """labels at 100 Hz by name of clip"""
    portrait: Picture | None = None
    """of whom motion is rendered to be tracked again"""
    other_portrait: Picture | None = None
    """whose default videos are compared with those of the first; None is the first, mirrored"""
    example: Floats | None = None
    """(N,) speech that the emotions are tried on"""
    compare: tuple[str, Checkpoint] | None = None
    """name and contents of another checkpoint"""
    num_disagreeing: int = 0
    """clips of the speakers that ``moda prepare`` left out because ``moda-tiny`` disagreed"""


@dataclass(frozen=True)
class ModelReport:
    """All figures of one model."""

    model: str
    lips: LipTable
    silence: Silence
    non_speech: NonSpeech
    liveliness: Liveliness
    speed: Speed
    hearing: Hearing
    articulation: Articulation | None = None
    performance: Performance | None = None
    expressions: Expressions | None = None
    notes: list[str] = field(default_factory=list)
    """What was left out, and why"""
    num_disagreeing: int = 0
    """of :class:`Evidence`"""

    def markdown(self) -> str:
        """The report as text."""
        rest = [*self.silence.markdown(), "", *self.non_speech.markdown()]
        sections = {
            "Lips": self.lips.markdown(),
            "Closures and rounding": self.articulation.markdown() if self.articulation else [],
            "Silence": rest,
            "Liveliness": [*self.liveliness.markdown(), "", *self.hearing.markdown()],
            "Performance": self.performance.markdown() if self.performance else [],
            "Emotions": self.expressions.markdown() if self.expressions else [],
            "Speed": self.speed.markdown(),
        }
        lines = [f"# {self.model}", ""]
        if self.num_disagreeing:
            lines += [CIRCULAR.format(self.num_disagreeing), ""]
        for title, text in sections.items():
            if text:
                lines += [f"## {title}", "", *text, ""]
        lines += [f"Left out: {note}." for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, path: Path) -> None:
        """JSON to ``path`` and Markdown beside it."""
        text = json.dumps(_without_nan(asdict(self)), indent=1, allow_nan=False)
        write_text(path, text)
        write_text(path.with_suffix(".md"), self.markdown())


def evaluate_model(
    checkpoint: Checkpoint,
    clips: Sequence[PreparedClip],
    speakers: Sequence[str],
    *,
    evidence: Evidence | None = None,
    effort: Effort | None = None,
    say: Say = lambda text: None,
) -> ModelReport:
    """Evaluate on held-out speakers; the other clips fit the linear map.

    Raises:
        InputError: one of the speakers has no clip with speech.
    """
    evidence, effort = evidence or Evidence(), effort or Effort()
    speaking = {clip.speaker for clip in clips if clip.has_speech}
    if not speakers or not speaking.issuperset(speakers):
        unknown = ", ".join(sorted(set(speakers) - speaking)) or "any speaker"
        known = ", ".join(sorted(speaking)) or "nobody"
        raise InputError(f"no clip with speech of {unknown}; there are clips of {known}")
    say("features of the clips")
    spoken = spoken_clips(clips, checkpoint.config.motion.speech.mesh_kind)
    held_out = [clip for clip in spoken if clip.speaker in speakers]
    others = [clip for clip in spoken if clip.speaker not in speakers]
    lips = lip_table(
        checkpoint,
        held_out,
        others,
        LipTableOptions(
            effort.seeds,
            evidence.compare,
            evidence.clip_phones,
            evidence.portrait,
            effort.rendered_seconds,
        ),
        say,
    )
    say("minutes of motion")
    sound = repeat_sound([clip.samples for clip in spoken], 60.0 * effort.minutes)
    motion = sampled_motion(checkpoint, hear(checkpoint, sound))
    liveliness = liveliness_report(checkpoint, motion, sound, clips)
    say("silences, music and noise")
    silence = silence_report(checkpoint, _recordings(spoken, speakers, effort.silence_seconds))
    non_speech = non_speech_report(checkpoint, motion, minutes=effort.non_speech_minutes)
    notes: list[str] = []
    return ModelReport(
        checkpoint.config.name,
        lips,
        silence,
        non_speech,
        liveliness,
        articulation=_articulation(checkpoint, evidence.utterances, effort, notes, say),
        performance=_performance(checkpoint, (held_out, others), evidence, effort, notes, say),
        expressions=_expressions(checkpoint, evidence.example, notes, say),
        speed=measure_speed(
            checkpoint, repeat_sound([clip.samples for clip in spoken], effort.speed_seconds)
        ),
        hearing=hearing_report(checkpoint, [clip for clip in clips if clip.speaker in speakers]),
        notes=notes,
        num_disagreeing=evidence.num_disagreeing,
    )


def read_utterances(paths: Sequence[Path]) -> list[Utterance]:
    """The held-out utterances of some phone corpora.

    Raises:
        InputError: a file is missing or no such corpus.
    """
    return [found for path in paths for found in held_out_utterances(read_phone_corpus(path))]


def _without_nan(values: Any) -> Any:
    """The same with None for figures that are not defined, which JSON cannot hold."""
    if isinstance(values, dict):
        return {key: _without_nan(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not np.isfinite(values) else values


def _recordings(
    spoken: Sequence[SpokenClip], speakers: Sequence[str], seconds: float
) -> list[Floats]:
    """Recordings, held-out ones first, as they are and with pauses of digital silence."""
    ordered = sorted(spoken, key=lambda clip: clip.speaker not in speakers)
    chosen: list[Floats] = []
    for clip in ordered:
        if sum(map(len, chosen)) < seconds * SAMPLE_RATE_HZ:
            chosen.append(clip.samples)
    return [*chosen, *map(with_pauses, chosen)]


def _articulation(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    effort: Effort,
    notes: list[str],
    say: Say,
) -> Articulation | None:
    if not utterances:
        notes.append("closures and rounding, since no corpus with phone times was given")
        return None
    say("closures and rounding")
    chosen = choose_utterances(
        utterances,
        per_language=effort.utterances_per_language,
        num_languages=effort.num_languages,
    )
    return articulation_report(checkpoint, chosen)


def _performance(
    checkpoint: Checkpoint,
    clips: tuple[Sequence[SpokenClip], Sequence[SpokenClip]],
    evidence: Evidence,
    effort: Effort,
    notes: list[str],
    say: Say,
) -> Performance | None:
    portrait, other = evidence.portrait, evidence.other_portrait
    if portrait is None:
        notes.append("finished videos, since there is no portrait to render")
        return None
    say("finished videos")
    chosen = choose_utterances(
        evidence.utterances, per_language=1, num_languages=effort.filming.num_utterances
    )
    portraits = portrait, mirrored(portrait) if other is None else other
    return performance_report(checkpoint, *clips, portraits, chosen, effort.filming)


def _expressions(
    checkpoint: Checkpoint, example: Floats | None, notes: list[str], say: Say
) -> Expressions | None:
    if example is None:
        notes.append("emotions, since there is no example speech to try them on")
        return None
    say("emotions")
    return expressions_report(checkpoint, example)
