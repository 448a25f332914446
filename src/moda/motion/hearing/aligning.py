"""When is what said? Known phones brought into time with what the speech embedder hears.

The most probable way (A. Viterbi, "Error bounds for convolutional codes", IEEE Trans. Information
Theory 1967) through the phones in their order, silence allowed before every word, given the
probabilities that the embedder's phone head has for every 20 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.errors import InputError
from moda.motion.flow import Values
from moda.motion.hearing.listening import join_speech, with_context
from moda.motion.network import Network
from moda.phones import Phone, PhoneSegment
from moda.structures import FRAMES_PER_SECOND, Floats, Speech

PROBABILITIES_PER_SECOND = 2 * FRAMES_PER_SECOND
MAX_ALIGNED_SECONDS = 1800.0
PROBABILITY_FLOOR = 2e-3
"""A phone that is not heard at all costs no more than this."""
BAND_STATES = 4096
"""States that are looked at around the best one: several minutes of phones."""
WORST_MEAN_PROBABILITY = 0.2
"""Geometric mean of the probabilities on the way, pauses left out. The right transcripts of nine
natural recordings gave 0.30 to 0.48, of synthesised ones 0.44 to 0.71; wrong ones 0.05 to 0.19."""


class AlignedPhones(NamedTuple):
    """Phones at the times of a recording."""

    segments: tuple[PhoneSegment, ...]
    """As many as were given without their silences, in the same order, silences between them."""
    mean_probability: float
    """Geometric mean of the probability of the phones at their times."""


def heard_probabilities(model: Network[Values], speech: Iterable[Speech]) -> Floats:
    """Probabilities (2 T, phones) of what is heard at 50 Hz.

    Raises:
        InputError: The model does not recognise phones, or the recording is too long.
    """
    if not model.reads:
        raise InputError(
            "this model does not recognise phones, so it cannot find a transcript in a recording; "
            "leave it out, or choose the model moda-tiny"
        )
    stretches: list[Speech] = []
    seconds = 0.0
    for stretch in speech:
        stretches.append(stretch)
        seconds += len(stretch) / FRAMES_PER_SECOND
        if seconds > MAX_ALIGNED_SECONDS:
            raise InputError(
                f"the recording is longer than the limit of {MAX_ALIGNED_SECONDS / 60:.0f} minutes "
                "for a transcript; cut it into parts"
            )
    features = join_speech(stretches).features
    return model.hear(with_context(features, model.config.speech_embedder)).phones


def align_phones(
    probabilities: Floats, said: Sequence[PhoneSegment], word_starts: Sequence[float]
) -> AlignedPhones:
    """Times of phones in a recording.

    Args:
        probabilities: (N, phones) from :func:`heard_probabilities`.
        said: phones in their order, with the times of another reading of the same words.
        word_starts: seconds in that other reading at which words begin.

    Raises:
        InputError: There are no phones, more than fit into the recording, or others are said in it.
    """
    phones = [segment for segment in said if segment.phones not in ((), (Phone.SILENCE,))]
    if not phones:
        raise InputError("the transcript has no words; write what is said in the recording")
    begins = _word_begins(phones, word_starts)
    silence = int(Phone.SILENCE), -1
    way = [silence]
    for index, segment in enumerate(phones):
        if index and index in begins:
            way.append(silence)
        way += [(int(phone), index) for phone in segment.phones]
    states, owners = np.array([*way, silence]).T
    is_optional = owners < 0
    if int((~is_optional).sum()) > len(probabilities):
        raise InputError(
            f"the transcript has {int((~is_optional).sum())} phones, more than can be said in "
            f"{len(probabilities) / PROBABILITIES_PER_SECOND:.1f} s; is it that of this recording?"
        )
    costs = -np.log(np.maximum(probabilities, PROBABILITY_FLOOR)).astype(np.float32)
    path = best_path(costs[:, states], is_optional)
    owner = owners[path]
    spoken = owner >= 0
    on_path = costs[np.arange(len(path)), states[path]]
    mean_probability = float(np.exp(-on_path[spoken].mean()))
    if mean_probability < WORST_MEAN_PROBABILITY:
        raise InputError(
            f"the transcript does not fit the recording: its phones are heard with a probability "
            f"of {mean_probability:.2f}, {WORST_MEAN_PROBABILITY} is the least expected; check "
            "the text"
        )
    return AlignedPhones(_segments(phones, owner), mean_probability)


def best_path(costs: Floats, is_optional: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Cheapest way (N,) through states in their order: stay, go on, or pass over an optional one.

    It begins in the first state, or the second if the first is optional, and ends likewise.

    Args:
        costs: (N, S) of each state at each time.
        is_optional: (S,) states that may be left out; never two in a row.
    """
    num_steps, num_states = costs.shape
    width = min(BAND_STATES, num_states)
    passes = np.zeros(num_states, np.bool_)
    passes[2:] = is_optional[1:-1]
    total = np.full(num_states, np.inf, np.float32)
    first = 2 if is_optional[0] else 1
    total[:first] = costs[0, :first]
    moves = np.zeros((num_steps, width), np.int8)
    lows = np.zeros(num_steps, np.intp)
    for step in range(1, num_steps):
        low = 0
        if width < num_states:
            best = int(np.argmin(total))
            low = int(np.clip(best - width // 2, lows[step - 1], num_states - width))
        lows[step] = low
        band = slice(low, low + width)
        stay = total[band]
        go_on = np.concatenate([[np.inf], total[:-1]])[band]
        pass_over = np.where(passes, np.concatenate([[np.inf, np.inf], total[:-2]]), np.inf)[band]
        choices = np.stack([stay, go_on, pass_over])
        move = choices.argmin(0)
        moves[step] = move
        chosen = np.take_along_axis(choices, move[None], 0)[0] + costs[step, band]
        total = np.full(num_states, np.inf, np.float32)
        total[band] = chosen
    state = num_states - 1
    if is_optional[-1] and total[-2] < total[-1]:
        state -= 1
    path = np.zeros(num_steps, np.intp)
    for step in range(num_steps - 1, -1, -1):
        path[step] = state
        state -= int(moves[step, state - lows[step]]) if step else 0
    return path


def _word_begins(phones: Sequence[PhoneSegment], word_starts: Sequence[float]) -> set[int]:
    """Indices of the phones that begin a word: the nearest to each start."""
    starts = np.array([phone.start_seconds for phone in phones])
    return {int(np.abs(starts - seconds).argmin()) for seconds in word_starts}


def _segments(phones: Sequence[PhoneSegment], owner: NDArray[np.intp]) -> tuple[PhoneSegment, ...]:
    segments: list[PhoneSegment] = []
    for index, phone in enumerate(phones):
        frames = np.flatnonzero(owner == index)
        start = frames[0] / PROBABILITIES_PER_SECOND
        end = (frames[-1] + 1) / PROBABILITIES_PER_SECOND
        before = segments[-1].end_seconds if segments else 0.0
        if start > before:
            segments.append(PhoneSegment("", before, start, (Phone.SILENCE,)))
        segments.append(phone._replace(start_seconds=start, end_seconds=end))
    return tuple(segments)
