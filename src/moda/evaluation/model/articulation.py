"""Do lips close at p, b, m and narrow at u, o, w? On speech whose phones are known exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import NamedTuple

import numpy as np

from moda.data.phone_corpus import PhoneCorpus
from moda.evaluation.metrics import CLOSED_MOTION_GAP
from moda.evaluation.model.lips import hear, sampled_motion, takes_phones
from moda.motion.hearing.lips import lips_of_motion
from moda.motion.hearing.listening import true_runs
from moda.phones import LABELS_PER_SECOND, Labels, Phone
from moda.structures import FRAMES_PER_SECOND, Floats
from moda.structures.landmarks import Array
from moda.weights.checkpoints import Checkpoint

LABELS_PER_FRAME = int(LABELS_PER_SECOND / FRAMES_PER_SECOND)  # 4
SHORTEST_SEGMENT_LABELS = 2
"""20 ms; shorter ones are left out."""
CLOSING = (Phone.BILABIAL,)
ROUNDING = (Phone.ROUNDED, Phone.O)
CHANCE_DRAWS = 4
"""Random windows for each segment."""

FESTIVAL_LANGUAGES = {
    "cmu": "en", "kal": "en", "ked": "en", "lp": "it", "pc": "it", "hy": "fi", "suo": "fi",
    "msu": "ru", "czech": "cs", "upc": "ca", "hindi": "hi", "telugu": "te", "marathi": "mr",
}  # fmt: skip
"""By the beginning of a voice's name."""

Span = tuple[int, int]
"""Labels from the first to the one after the last"""


class Utterance(NamedTuple):
    """Speech with exact phone times."""

    language: str
    samples: Floats  # (N,) 16 kHz
    labels: Labels  # (N / 160,)


@dataclass(frozen=True)
class Tally:
    """What happened in some utterances; tallies add up."""

    utterances: int = 0
    closures: int = 0
    closed: int = 0
    """closures in which lips were closed in at least one frame"""
    closure_chances: int = 0
    """random windows as long as closures"""
    closed_by_chance: int = 0
    roundings: int = 0
    rounded: int = 0
    """roundings in which lips were narrower than the utterance's median"""
    rounding_chances: int = 0
    rounded_by_chance: int = 0
    open_frames: int = 0
    """frames of open vowels"""
    open_frames_closed: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class LanguageArticulation:
    """One language, from sound alone and with known phones where the model takes them."""

    language: str
    alone: Tally
    known: Tally | None

    def row(self) -> str:
        """A line of a Markdown table."""
        alone, known = self.alone, self.known or Tally()
        cells = [
            self.language,
            str(alone.utterances),
            str(alone.closures),
            _percent(alone.closed, alone.closures),
            _percent(known.closed, known.closures),
            _percent(alone.closed_by_chance, alone.closure_chances),
            str(alone.roundings),
            _percent(alone.rounded, alone.roundings),
            _percent(known.rounded, known.roundings),
            _percent(alone.rounded_by_chance, alone.rounding_chances),
            _percent(alone.open_frames_closed, alone.open_frames),
            _percent(known.open_frames_closed, known.open_frames),
        ]
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Articulation:
    """Closures and rounding in several languages, and of all together."""

    languages: list[LanguageArticulation]
    overall: LanguageArticulation

    def markdown(self) -> list[str]:
        """Lines of the report."""
        return [
            "Held-out voices with exact phone times. Closed: lips closed in a frame of a p, b or "
            "m; rounded: lips narrower than the utterance's median at u, o, w; chance: the same in "
            "random windows of other sounds; known: the phones were told; open: frames of open "
            "vowels with closed lips.",
            "",
            "| language | utterances | p b m | closed | known | chance | u o w | rounded | known "
            "| chance | open | known |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
            *(language.row() for language in (*self.languages, self.overall)),
        ]


def articulation_report(checkpoint: Checkpoint, utterances: Sequence[Utterance]) -> Articulation:
    """Sample motion of the utterances as the product does, and count."""
    languages = sorted({utterance.language for utterance in utterances})
    rows = [
        _language(checkpoint, name, [u for u in utterances if u.language == name])
        for name in languages
    ]
    known = [row.known for row in rows if row.known is not None]
    overall = LanguageArticulation(
        "all",
        sum((row.alone for row in rows), Tally()),
        sum(known, Tally()) if known else None,
    )
    return Articulation(rows, overall)


def held_out_utterances(corpus: PhoneCorpus) -> Iterator[Utterance]:
    """The held-out items of a corpus."""
    for index in np.flatnonzero(corpus.held_out):
        samples, labels = corpus.item(int(index))
        language = language_of(str(corpus.voices[index]))
        yield Utterance(language, samples.astype(np.float32) / np.float32(32768.0), labels)


def choose_utterances(
    utterances: Sequence[Utterance], *, per_language: int, num_languages: int
) -> list[Utterance]:
    """Some utterances of each of the languages with the most of them."""
    by_language: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        by_language.setdefault(utterance.language, []).append(utterance)
    largest = sorted(by_language, key=lambda name: (-len(by_language[name]), name))
    generator = np.random.default_rng(0)
    return [
        by_language[name][index]
        for name in largest[:num_languages]
        for index in generator.permutation(len(by_language[name]))[:per_language]
    ]


def language_of(voice: str) -> str:
    """Language of a corpus' voice: "espeak:pt-br+f3" -> "pt", "festival:pc_diphone" -> "it"."""
    engine, _, name = voice.partition(":")
    if engine == "flite":
        return "en"
    if engine == "festival":
        return FESTIVAL_LANGUAGES.get(name.split("_")[0], name)
    return name.split("+")[0].split("-")[0]


def tally_utterance(
    labels: Labels,
    gap: Array,
    width: Array,
    generator: np.random.Generator,
    *,
    closed_gap: float = CLOSED_MOTION_GAP,
) -> Tally:
    """Count what lips do in one utterance.

    Args:
        labels: (N,) at 100 Hz.
        gap: (T,) lip gap in canonical units.
        width: (T,) lip width in any unit.
        generator: draws the windows that show what happens by chance.
        closed_gap: below it lips are closed.
    """
    count = min(len(gap), -(-len(labels) // LABELS_PER_FRAME))
    labels, gap, width = labels[: count * LABELS_PER_FRAME], gap[:count], width[:count]
    padded = np.pad(labels, (0, count * LABELS_PER_FRAME - len(labels)))
    by_frame = padded.reshape(count, LABELS_PER_FRAME)
    speaking = (by_frame != Phone.SILENCE).any(1)
    median = float(np.median(width[speaking])) if speaking.any() else 0.0
    closures, roundings = segments(labels, CLOSING), segments(labels, ROUNDING)
    other = random_spans(padded, closures, (*CLOSING, Phone.SILENCE), generator)
    unrounded = random_spans(padded, roundings, (*ROUNDING, Phone.SILENCE), generator)
    wide_open = (by_frame == Phone.A).all(1)
    return Tally(
        utterances=1,
        closures=len(closures),
        closed=num_closed(gap, closures, closed_gap),
        closure_chances=len(other),
        closed_by_chance=num_closed(gap, other, closed_gap),
        roundings=len(roundings),
        rounded=num_narrow(width, roundings, median),
        rounding_chances=len(unrounded),
        rounded_by_chance=num_narrow(width, unrounded, median),
        open_frames=int(wide_open.sum()),
        open_frames_closed=int((gap[wide_open] < closed_gap).sum()),
    )


def segments(labels: Labels, classes: Sequence[Phone]) -> list[Span]:
    """Runs of labels of some classes that are not too short."""
    return [
        (int(start), int(stop))
        for start, stop in true_runs(np.isin(labels, classes))
        if stop - start >= SHORTEST_SEGMENT_LABELS
    ]


def frames_of(span: Span) -> slice:
    """Frames that overlap a span of labels."""
    start, stop = span
    return slice(start // LABELS_PER_FRAME, -(-stop // LABELS_PER_FRAME))


def num_closed(gap: Array, spans: Sequence[Span], closed_gap: float) -> int:
    """How many spans have closed lips in at least one frame that overlaps them."""
    return sum(bool(gap[frames_of(span)].min() < closed_gap) for span in spans)


def num_narrow(width: Array, spans: Sequence[Span], median: float) -> int:
    """In how many spans the mean width of the overlapping frames is below the median."""
    return sum(bool(width[frames_of(span)].mean() < median) for span in spans)


def random_spans(
    labels: Labels,
    like: Sequence[Span],
    excluded: Sequence[Phone],
    generator: np.random.Generator,
) -> list[Span]:
    """Random spans as long as given ones whose frames hold none of the excluded classes.

    ``labels`` are of whole frames. Spans that fit nowhere are left out.
    """
    taken = np.isin(labels, excluded).reshape(-1, LABELS_PER_FRAME).any(axis=1)
    free = np.logical_not(np.asarray(taken))
    chosen: list[Span] = []
    for start, stop in like:
        length = stop - start
        possible = [
            place
            for place in range(len(labels) - length + 1)
            if free[frames_of((place, place + length))].all()
        ]
        if possible:
            places = generator.choice(possible, CHANCE_DRAWS)
            chosen += [(int(place), int(place) + length) for place in places]
    return chosen


def _language(
    checkpoint: Checkpoint, name: str, utterances: Sequence[Utterance]
) -> LanguageArticulation:
    told = takes_phones(checkpoint)
    alone, known = Tally(), Tally()
    for index, utterance in enumerate(utterances):
        speech = hear(checkpoint, utterance.samples, utterance.labels)
        untold = replace(speech, phones=None)
        gap, width = lips_of_motion(sampled_motion(checkpoint, untold))
        alone += tally_utterance(utterance.labels, gap, width, np.random.default_rng(index))
        if told:
            gap, width = lips_of_motion(sampled_motion(checkpoint, speech))
            known += tally_utterance(utterance.labels, gap, width, np.random.default_rng(index))
    return LanguageArticulation(name, alone, known if told else None)


def _percent(part: int, whole: int) -> str:
    return f"{100.0 * part / whole:.1f} %" if whole else "-"
