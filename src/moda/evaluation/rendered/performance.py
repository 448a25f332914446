"""Does the performance belong to this speech? Measured on finished videos, tracked again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from moda.encoders.face import FaceModels
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.errors import FaceError
from moda.evaluation.model.articulation import Tally, Utterance, tally_utterance
from moda.evaluation.model.lips import SpokenClip, takes_phones
from moda.evaluation.rendered.beside_filmed import BesideFilmed, beside_filmed, compare_with_filmed
from moda.evaluation.rendered.closures import low_gap
from moda.evaluation.rendered.filming import FILM_SIZE_PX, SeenFace, Stage, phone_segments, see_face
from moda.evaluation.rendered.sameness import (
    Likeness,
    Sameness,
    all_pairs,
    relative_difference,
    sameness,
)
from moda.evaluation.videos.motion import CLOSED_GAP
from moda.motion.rules.guiding import mouth_columns
from moda.structures import FRAMES_PER_SECOND, Floats, Motion, Picture
from moda.weights.checkpoints import Checkpoint

NUM_SPEECHES = 3
"""That are spoken with the same noise."""
REST_FRAMES = 5


@dataclass(frozen=True)
class PerformanceOptions:
    """How much is filmed."""

    seconds: float = 8.0
    """of each clip"""
    num_clips: int = 12
    num_utterances: int = 12
    """with known phones"""
    seeds: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class LipDifference:
    """Root mean square of the difference of two videos' lips over their spread."""

    gap: float
    width: float

    def __str__(self) -> str:
        return f"{self.gap:.2f} / {self.width:.2f}"


@dataclass(frozen=True)
class OtherSeed:
    """The same speeches with two seeds."""

    lips: LipDifference
    floor: LipDifference
    """of the first seed's mouth in the second one's head: what tracking makes of equal lips"""
    heads: Sameness


@dataclass(frozen=True)
class SeenTally:
    """What lips are seen to do at known phones."""

    closed: Tally
    """closed is a gap below 0.02"""
    low: Tally
    """closed is a gap that meets a closure of filmed lips, see :func:`closures.low_gap`"""

    def __add__(self, other: SeenTally) -> SeenTally:
        return SeenTally(self.closed + other.closed, self.low + other.low)


@dataclass(frozen=True)
class FilmedArticulation:
    """Closures at known phones, in finished videos of utterances."""

    alone: SeenTally
    """from sound alone"""
    known: SeenTally | None
    """told the phones; None of a model that takes none"""


@dataclass(frozen=True)
class Performance:
    """What finished videos of a model show."""

    num_videos: int
    rest_gap: float
    """what the tracker sees between the lips of the first portrait, closed and at rest"""
    same_noise: Sameness
    """other speech, same portrait and seed"""
    filmed: Sameness
    """filmed speakers of those speeches: what nobody expects to be alike"""
    defaults: Sameness
    """two speeches of two portraits without a seed, each with each other one"""
    other_seed: OtherSeed
    beside_filmed: BesideFilmed
    articulation: FilmedArticulation | None = None

    def markdown(self) -> list[str]:
        """Lines of the report."""
        seed = self.other_seed
        return [
            f"{self.num_videos} videos of {FILM_SIZE_PX} px made as `moda generate` makes them, "
            "tracked again. Likeness is the size of the correlation of the same frames, mean and "
            "(largest) over pairs of videos; beside it that of filmed speakers of other speech. "
            "Lengths are in outer-eye distances; the first portrait's closed lips at rest are seen "
            f"with a gap of {self.rest_gap:.3f}.",
            "",
            "| likeness | pairs | yaw | pitch | roll | lip gap | head moves, degrees |",
            "|---|---|---|---|---|---|---|",
            _sameness_row("same seed, other speech", self.same_noise),
            _sameness_row("default videos, other portrait or speech", self.defaults),
            _sameness_row("other seed, same speech", seed.heads),
            _sameness_row("filmed speakers, other speech", self.filmed),
            "",
            f"Another seed changes lip gap / width by {seed.lips} of their spread (rms; 1.41 is "
            f"unrelated lips; equal lips in two heads show {seed.floor}).",
            "",
            "| on finished frames | ours | filmed |",
            "|---|---|---|",
            *self.beside_filmed.rows(),
            *(_articulation_rows(self.articulation) if self.articulation else []),
        ]


class Cast:
    """Two portraits, and a count of the videos that were made of them."""

    def __init__(self, checkpoint: Checkpoint, portraits: Sequence[Picture], seconds: float):
        models = FaceModels()
        self._space = checkpoint.space
        self._stages = [Stage(checkpoint, portrait, models) for portrait in portraits]
        self._seconds = seconds
        self.num_videos = 0

    def rest_gap(self) -> float:
        """Of the first portrait, at rest."""
        rest = Motion(np.tile(self._space.rest, (REST_FRAMES, 1)).astype(np.float32), self._space)
        return float(np.median(self._stages[0].show(rest).gap))

    def begin(self, samples: Floats) -> Floats:
        """The part of a recording that is spoken."""
        return samples[: int(self._seconds * SAMPLE_RATE_HZ)]

    def film(self, clip: SpokenClip, seed: int | None, portrait: int = 0) -> SeenFace:
        """The beginning of a clip's speech."""
        return self._named(
            clip.name,
            lambda: self._stages[portrait].perform(self.begin(clip.samples), seed=seed),
        )

    def film_utterance(self, utterance: Utterance, *, told: bool) -> SeenFace:
        """An utterance with or without its phones."""
        phones = phone_segments(utterance.labels) if told else ()
        return self._named(
            f"utterance in {utterance.language}",
            lambda: self._stages[0].perform(utterance.samples, phones=phones),
        )

    def film_exchanged(self, clip: SpokenClip, seeds: tuple[int, int]) -> SeenFace:
        """The mouth of the first seed in the head of the second."""
        samples, stage = self.begin(clip.samples), self._stages[0]
        first, second = (stage.motion(samples, seed=seed) for seed in seeds)
        values, mouth = second.values.copy(), mouth_columns(self._space)
        values[:, mouth] = first.values[:, mouth]
        return self._named(clip.name, lambda: stage.show(Motion(values, self._space)))

    def _named(self, name: str, film: Callable[[], SeenFace]) -> SeenFace:
        self.num_videos += 1
        try:
            return film()
        except FaceError as error:
            raise FaceError(f"{name}, rendered: {error}") from error


def performance_report(
    checkpoint: Checkpoint,
    clips: Sequence[SpokenClip],
    others: Sequence[SpokenClip],
    portraits: tuple[Picture, Picture],
    utterances: Sequence[Utterance] = (),
    options: PerformanceOptions | None = None,
) -> Performance:
    """Film everything. ``clips`` are the held-out ones, ``others`` lend their speech if need be.

    Raises:
        FaceError: a portrait, or a video of it, shows no face.
    """
    options = options or PerformanceOptions()
    cast = Cast(checkpoint, portraits, options.seconds)
    chosen = choose_clips(clips, options.num_clips)
    speeches = [*chosen, *choose_clips(others, NUM_SPEECHES)][:NUM_SPEECHES]
    seed, other_seed = options.seeds
    every = {clip.name: clip for clip in (*chosen, *speeches)}
    seen = {name: cast.film(clip, seed) for name, clip in every.items()}
    again = {clip.name: cast.film(clip, other_seed) for clip in speeches}
    exchanged = {clip.name: cast.film_exchanged(clip, options.seeds) for clip in speeches}
    names = [clip.name for clip in speeches]
    defaults = [cast.film(c, None, portrait) for c, portrait in product(speeches[:2], (0, 1))]
    frames = int(options.seconds * FRAMES_PER_SECOND)
    filmed = {name: see_face(clip.track.landmarks[:frames]) for name, clip in every.items()}
    compared = [
        compare_with_filmed(c.name, cast.begin(c.samples), seen[c.name], filmed[c.name])
        for c in chosen
    ]
    articulation = _articulation(cast, utterances, told=takes_phones(checkpoint))
    return Performance(
        num_videos=cast.num_videos,
        rest_gap=cast.rest_gap(),
        same_noise=sameness(all_pairs([seen[name] for name in names])),
        filmed=sameness(all_pairs([filmed[name] for name in names])),
        defaults=sameness(all_pairs(defaults)),
        other_seed=OtherSeed(
            _lip_difference([(seen[name], again[name]) for name in names]),
            _lip_difference([(seen[name], exchanged[name]) for name in names]),
            sameness([(seen[name], again[name]) for name in names]),
        ),
        beside_filmed=beside_filmed(compared),
        articulation=articulation,
    )


def choose_clips(clips: Sequence[SpokenClip], count: int) -> list[SpokenClip]:
    """The longest clip of each speaker, longest first, then what is left."""
    ordered = sorted(clips, key=lambda clip: (-clip.num_frames, clip.name))
    firsts = {clip.speaker: clip for clip in reversed(ordered)}
    leading = [clip for clip in ordered if firsts[clip.speaker] is clip]
    rest = [clip for clip in ordered if firsts[clip.speaker] is not clip]
    return [*leading, *rest][:count]


def mirrored(picture: Picture) -> Picture:
    """Left and right exchanged: another portrait where there is no second one."""
    return np.ascontiguousarray(picture[:, ::-1])


def tally_seen(utterance: Utterance, face: SeenFace) -> SeenTally:
    """Count closures in one video."""
    closed, low = (
        tally_utterance(
            utterance.labels, face.gap, face.width, np.random.default_rng(0), closed_gap=gap
        )
        for gap in (CLOSED_GAP, low_gap(face.gap))
    )
    return SeenTally(closed, low)


def _articulation(
    cast: Cast, utterances: Sequence[Utterance], *, told: bool
) -> FilmedArticulation | None:
    if not utterances:
        return None

    def tally(*, told: bool) -> SeenTally:
        total = SeenTally(Tally(), Tally())
        for utterance in utterances:
            total += tally_seen(utterance, cast.film_utterance(utterance, told=told))
        return total

    return FilmedArticulation(tally(told=False), tally(told=True) if told else None)


def _lip_difference(pairs: Sequence[tuple[SeenFace, SeenFace]]) -> LipDifference:
    return LipDifference(
        float(np.mean([relative_difference(a.gap, b.gap) for a, b in pairs])),
        float(np.mean([relative_difference(a.width, b.width) for a, b in pairs])),
    )


def _sameness_row(name: str, found: Sameness) -> str:
    parts: tuple[Likeness, ...] = (found.yaw, found.pitch, found.roll, found.gap)
    cells = [name, f"{found.num_pairs} of {found.seconds:.1f} s", *map(str, parts)]
    return f"| {' | '.join(cells)} | {found.head_degrees:.1f} |"


def _articulation_rows(found: FilmedArticulation) -> list[str]:
    def row(name: str, tally: Tally) -> str:
        shares = [
            f"{part / whole:.1%}" if whole else "-"
            for part, whole in (
                (tally.closed, tally.closures),
                (tally.closed_by_chance, tally.closure_chances),
                (tally.open_frames_closed, tally.open_frames),
            )
        ]
        return (
            f"| {tally.closures} p, b, m: {name} (by chance; frames of open vowels) "
            f"| {shares[0]} ({shares[1]}; {shares[2]}) | |"
        )

    told = {"sound alone": found.alone} | ({"phones known": found.known} if found.known else {})
    return [
        line
        for name, seen in told.items()
        for line in (
            row(f"gap below 0.02, {name}", seen.closed),
            row(f"closed as filmed lips are met, {name}", seen.low),
        )
    ]
