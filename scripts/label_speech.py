"""Label natural recordings with the phones that pocketsphinx hears, for pretraining.

A phone loop with a phone trigram, no words and no dictionary, and an English acoustic model, which
also finds most lip closures of other languages. About 13 times as fast as the recording::

    pip install pocketsphinx
    python scripts/label_speech.py /path/to/recordings runs/phones/natural.npz

Writes one :class:`moda.data.phone_corpus.PhoneCorpus`; its labels are guesses, so train on them
with a head of their own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pocketsphinx

from moda.data.corpora import VIDEO_SUFFIXES
from moda.data.phone_corpus import (
    SAMPLE_RATE_HZ,
    SAMPLES_PER_LABEL,
    Samples,
    Utterance,
    join_utterances,
)
from moda.errors import MediaError
from moda.media.audio import AudioReader
from moda.phones import (
    LABELS_PER_SECOND,
    Labels,
    PhoneSegment,
    arpabet_phones,
    label_segments,
)

PIECE_SECONDS = 60
PEAK = 0.7
RECOGNISER_FRAME_SECONDS = 0.01
RECOGNISER_DELAY_SECONDS = 0.0078
"""Its frame k is centred at 10 k + 12.8 ms, label k at 10 k + 5 ms.

Against synthesised speech with known times the labels are then 0 to 5 ms late."""
MEDIA_SUFFIXES = VIDEO_SUFFIXES | {".flac", ".wav", ".mp3", ".m4a", ".ogg", ".opus"}


def phone_recogniser() -> pocketsphinx.Decoder:
    """pocketsphinx with the English model of its wheel, as a phone loop."""
    return pocketsphinx.Decoder(
        hmm=pocketsphinx.get_model_path("en-us/en-us"),
        allphone=pocketsphinx.get_model_path("en-us/en-us-phone.lm.bin"),
        lm=None,
        dict=None,
        lw=2.0,
        pip=0.3,
        beam=1e-20,
        pbeam=1e-20,
        loglevel="FATAL",
    )


def recognise_phones(recogniser: pocketsphinx.Decoder, samples: Samples) -> Labels:
    """Phone classes of 16 kHz samples (160 N,) -> (N,); heard at once, so keep it short."""
    recogniser.start_utt()
    recogniser.process_raw(samples.tobytes(), full_utt=True)
    recogniser.end_utt()
    segments = [
        PhoneSegment(
            heard.word,
            heard.start_frame * RECOGNISER_FRAME_SECONDS + RECOGNISER_DELAY_SECONDS,
            (heard.end_frame + 1) * RECOGNISER_FRAME_SECONDS + RECOGNISER_DELAY_SECONDS,
            arpabet_phones(heard.word),
        )
        for heard in recogniser.seg() or ()
    ]
    return label_segments(segments, len(samples) // SAMPLES_PER_LABEL)


def read_samples(path: Path) -> Samples:
    """A whole recording at a common peak, a whole number of labels long."""
    sound = np.concatenate(list(AudioReader(path, SAMPLE_RATE_HZ)))
    sound = sound[: len(sound) // SAMPLES_PER_LABEL * SAMPLES_PER_LABEL]
    sound = sound * (PEAK / max(float(np.abs(sound).max(initial=0.0)), 1e-6))
    return np.round(sound * 32767.0).astype(np.int16)


def label_recordings(paths: list[Path]) -> Iterator[Utterance]:
    """One utterance per recording that can be read, in order."""
    recogniser = phone_recogniser()
    for path in paths:
        try:
            samples = read_samples(path)
        except MediaError as error:
            print(f"{path.name} is left out: {error}", file=sys.stderr)
            continue
        piece = PIECE_SECONDS * SAMPLE_RATE_HZ
        starts = range(0, len(samples), piece)
        labels = [recognise_phones(recogniser, samples[start : start + piece]) for start in starts]
        print(f"{path.name}: {len(samples) / SAMPLE_RATE_HZ:.1f} s", flush=True)
        yield Utterance(samples, np.concatenate(labels), path.stem, f"natural:{path.stem}", False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="recordings: sound or video files")
    parser.add_argument("corpus", type=Path, help="the .npz file to write")
    options = parser.parse_args()
    paths = sorted(
        path for path in options.folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES
    )
    corpus = join_utterances(list(label_recordings(paths)))
    corpus.write(options.corpus)
    hours = len(corpus.labels) / LABELS_PER_SECOND / 3600
    print(f"{options.corpus}: {hours:.2f} h, {len(corpus)} recordings")


if __name__ == "__main__":
    main()
