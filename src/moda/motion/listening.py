"""What the model hears besides the tokens: whether somebody speaks, and when lips are closed.

The energy of the sound cannot tell a melody from a voice; the phones that the speech embedder
recognises can. Where the words are known, their phones take the place of what is recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from moda.motion.layers import SpeechConv
from moda.motion.model import MotionTransformer
from moda.phones import LABELS_PER_SECOND, Phone, PhoneSegment, label_segments
from moda.structures import FRAMES_PER_SECOND, UNKNOWN_PHONE, Floats, Speech

VOICE_REACH_FRAMES = 4
"""A voice counts this many frames before it is heard, for lips open first, and after."""
VOICE_SPAN_FRAMES = 5
"""Phones must be heard in a good part of a stretch of this length, or nobody speaks."""
VOICE_SHARE = 0.35
CLOSURE_FLOOR, CLOSURE_CEILING = 0.12, 0.45
"""Probabilities of p, b or m at which the lips begin to close and are closed."""


def listen(model: MotionTransformer, speech: Iterable[Speech]) -> Iterator[Speech]:
    """The same speech with the activity limited to voices, and with closures, as a stream.

    Speech comes out as soon as what is ahead of it is known; a model whose embedder does not know
    phones leaves it as it is.
    """
    embedder = model.speech_embedder
    if not isinstance(embedder, SpeechConv) or not embedder.config.num_phones:
        yield from speech
        return
    config = embedder.config
    ahead = max(config.after, VOICE_REACH_FRAMES + VOICE_SPAN_FRAMES)
    behind = max(config.before, VOICE_REACH_FRAMES + VOICE_SPAN_FRAMES)
    held = list[Speech]()
    past = 0
    """Frames at the beginning of what is held that have been given out."""
    pieces = iter(speech)
    ended = False
    while not ended:
        piece = next(pieces, None)
        ended = piece is None
        if piece is not None:
            held.append(piece)
        if not held:
            return
        whole = join_speech(held)
        end = len(whole) if ended else len(whole) - ahead
        if end <= past:
            continue
        yield _hear(embedder, whole)[past:end]
        start = max(0, end - behind)
        held, past = [whole[start:]], end - start


def tell_phones(speech: Iterable[Speech], segments: Sequence[PhoneSegment]) -> Iterator[Speech]:
    """The same speech with known phones; what lies outside all segments is silence."""
    per_frame = round(LABELS_PER_SECOND / FRAMES_PER_SECOND)
    start = 0
    for stretch in speech:
        count = len(stretch)
        near = [
            segment._replace(
                start_seconds=segment.start_seconds - start / FRAMES_PER_SECOND,
                end_seconds=segment.end_seconds - start / FRAMES_PER_SECOND,
            )
            for segment in segments
        ]
        labels = label_segments(near, count * per_frame)
        yield replace(stretch, phones=labels[:: per_frame // 2].reshape(count, 2))
        start += count


def join_speech(parts: list[Speech]) -> Speech:
    """Stretches one after the other as one."""

    def joined(name: str) -> np.ndarray | None:
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else np.concatenate(values)

    names = ("features", "activity", "phones", "closure")
    return Speech(*(joined(name) for name in names))  # type: ignore[arg-type]


@torch.inference_mode()
def _hear(embedder: SpeechConv, speech: Speech) -> Speech:
    config = embedder.config
    device = embedder.linear.weight.device
    padded = np.pad(speech.features, ((config.before, config.after), (0, 0)))
    logits = embedder.phone_logits(torch.from_numpy(padded)[None].to(device))[0]
    shares = torch.softmax(logits, dim=0).T.reshape(len(speech), 2, -1).float().cpu().numpy()
    return Speech(
        speech.features,
        np.minimum(speech.activity, voice_activity(shares)).astype(np.float32),
        speech.phones,
        closures(shares, speech.phones),
    )


def voice_activity(shares: Floats) -> Floats:
    """(T,) 1 where phones are heard in enough of the frames around, from (T, 2, phones)."""
    voiced = 1.0 - shares[:, :, Phone.SILENCE].mean(1)
    kernel = np.full(VOICE_SPAN_FRAMES, 1.0 / VOICE_SPAN_FRAMES)
    near = np.convolve(voiced, kernel, mode="full")
    centre = VOICE_SPAN_FRAMES // 2
    heard = near[centre : centre + len(voiced)] > VOICE_SHARE
    wide = np.convolve(heard, np.ones(2 * VOICE_REACH_FRAMES + 1), mode="full")
    reached = wide[VOICE_REACH_FRAMES : VOICE_REACH_FRAMES + len(voiced)] > 0.5
    return np.asarray(reached, np.float32)


def closures(shares: Floats, phones: NDArray[np.int8] | None = None) -> Floats:
    """(T,) in 0..1 how surely lips are closed, from shares (T, 2, phones) and known phones (T, 2).

    A frame counts by its surer half: a closure must be seen even if it lasts half a frame.
    """
    heard = shares[:, :, Phone.BILABIAL]
    closure = np.clip((heard - CLOSURE_FLOOR) / (CLOSURE_CEILING - CLOSURE_FLOOR), 0.0, 1.0)
    if phones is not None:
        told = (phones == Phone.BILABIAL).astype(np.float32)
        closure = np.where(phones == UNKNOWN_PHONE, closure, told)
    return np.asarray(closure.max(1), np.float32)
