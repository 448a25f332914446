"""Text to clauses that Kokoro speaks, and its durations to times of phones and words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.phones import Phone, PhoneSegment
from moda.speech_synthesis.kokoro.notation import MARKS, STRESS, symbol_classes
from moda.structures.words import SENTENCE_ENDS, TimedWord

MOST_SYMBOLS = 400
"""Of one run of the network, which takes 510 and hurries near that."""
USUAL_SYMBOLS = 150
"""Sentences are joined up to this: very short ones sound cut off."""
DANDA = "\u0964"
"""The full stop of Indic scripts."""
_CLAUSE = re.compile(
    r"""\S.*?(?:\n|$|(?:—|(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bMrs)(?<!\bProf)
    [;:,.!?…।](?=\s|$|["”»)\]]))[;:,.!?…—।"”»)\]]*)\s*""",
    re.DOTALL | re.VERBOSE,
)


class SaidWord(NamedTuple):
    """A written word, or several that are said as one, in Kokoro's notation."""

    text: str
    phonemes: str


class Clause(NamedTuple):
    """Words up to a mark that is heard."""

    words: tuple[SaidWord, ...]
    mark: str = ""

    @property
    def symbols(self) -> str:
        return " ".join(word.phonemes for word in self.words) + self.mark

    @property
    def is_end(self) -> bool:
        """Whether a sentence ends behind it."""
        return self.words[-1].text.rstrip()[-1:] in SENTENCE_ENDS


class SaidClause(NamedTuple):
    """A clause with the times of the edges of its symbols."""

    clause: Clause
    edges: NDArray[np.float64]  # (len(symbols) + 1,) seconds


def split_clauses(text: str) -> list[str]:
    """The clauses of a text, with the spaces behind them."""
    return [match.group() for match in _CLAUSE.finditer(text)]


def without_mark(clause: str) -> tuple[str, str]:
    """A clause as espeak-ng gets it, and the mark at its end, if there is one."""
    text = clause.strip()
    bare = text.rstrip(MARKS + DANDA + '"”»)]')
    mark = next((letter for letter in text[len(bare) :] if letter in MARKS + DANDA), "")
    return bare, mark.replace(DANDA, ".")


def pair_words(
    words: Sequence[str], alone: Sequence[str], said: Sequence[str]
) -> tuple[SaidWord, ...]:
    """Written words beside the spoken ones, both joined where they don't match one to one.

    espeak-ng says "of the" as one word and "1999" as six. Words are cut where the sounds of each
    word alone end at the same place as sounds of the clause.

    Args:
        words: As they are written.
        alone: How each is said by itself.
        said: How the clause is said, cut at its spaces.
    """
    if len(words) == len(said):
        return tuple(map(SaidWord, words, said))
    apart, whole = ("".join(map(_sounds, parts)) for parts in (alone, said))
    ends = {end: count for count, end in enumerate(accumulate(len(_sounds(p)) for p in said), 1)}
    places = {0: [0]}
    for block in SequenceMatcher(None, apart, whole, autojunk=False).get_matching_blocks():
        for step in range(block.size + 1):
            places.setdefault(block.a + step, []).append(block.b + step)
    cuts = [(0, 0)]
    for count, end in enumerate(accumulate(len(_sounds(part)) for part in alone), 1):
        found = [ends[place] for place in places.get(end, ()) if place in ends]
        if count < len(words) and found and cuts[-1][1] < found[0] < len(said):
            cuts.append((count, found[0]))
    cuts.append((len(words), len(said)))
    return tuple(
        SaidWord("".join(words[first:end]), " ".join(said[start:stop]))
        for (first, start), (end, stop) in pairwise(cuts)
    )


def _sounds(phonemes: str) -> str:
    return "".join(symbol for symbol in phonemes if symbol_classes(symbol))


def joined(clauses: Sequence[Clause]) -> Iterator[list[Clause]]:
    """Clauses in groups that are spoken at once: whole sentences where that is possible."""
    group: list[Clause] = []
    for clause in clauses:
        for part in _within(clause):
            count = sum(len(other.symbols) + 1 for other in group) + len(part.symbols)
            if group and (count > MOST_SYMBOLS or (group[-1].is_end and count > USUAL_SYMBOLS)):
                yield group
                group = []
            group.append(part)
    if group:
        yield group


def _within(clause: Clause) -> Iterator[Clause]:
    """A clause that is too long for the network in parts, cut between words."""
    part: list[SaidWord] = []
    count = 0
    for word in clause.words:
        word = word._replace(phonemes=word.phonemes[: MOST_SYMBOLS - 1])
        count += len(word.phonemes) + 1
        if part and count > MOST_SYMBOLS:
            yield Clause(tuple(part))
            part, count = [], len(word.phonemes) + 1
        part.append(word)
    yield Clause(tuple(part), clause.mark)


def timed_words(said: Sequence[SaidClause]) -> tuple[TimedWord, ...]:
    """The words of clauses with the times of their symbols."""
    timed: list[TimedWord] = []
    for clause, edges in said:
        at = 0
        for text, phonemes in clause.words:
            timed.append(TimedWord(text, float(edges[at]), float(edges[at + len(phonemes)])))
            at += len(phonemes) + 1
    return tuple(timed)


def timed_phones(said: Sequence[SaidClause]) -> list[PhoneSegment]:
    """The phones of clauses; marks are silence, and the time of a space belongs to both sides."""
    segments: list[PhoneSegment] = []
    begin: float | None = None
    for clause, edges in said:
        if segments and segments[-1].symbol == "_":
            segments[-1] = segments[-1]._replace(end_seconds=float(edges[0]))
        for symbol, (start, end) in zip(clause.symbols, pairwise(edges.tolist()), strict=True):
            classes = symbol_classes(symbol)
            if symbol in STRESS:
                begin = start if begin is None else begin
            elif classes:
                start = start if begin is None else begin
                segments.append(PhoneSegment(symbol, start, end, classes))
                begin = None
            elif symbol in MARKS:
                segments.append(PhoneSegment("_", start, end, (Phone.SILENCE,)))
            elif segments:
                begin = (start + end) / 2 if symbol == " " else None
                segments[-1] = segments[-1]._replace(end_seconds=begin or end)
        if segments and segments[-1].symbol != "_":
            begin = float(edges[-1])
    return segments
