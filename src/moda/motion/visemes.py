"""Phones as the 15 visemes of Oculus and Ready Player Me avatars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moda.phones import Phone
from moda.structures import FRAMES_PER_SECOND

VISEMES: Mapping[Phone, str] = {
    Phone.SILENCE: "sil",
    Phone.BILABIAL: "PP",
    Phone.LABIODENTAL: "FF",
    Phone.DENTAL: "TH",
    Phone.ALVEOLAR: "DD",
    Phone.SIBILANT: "SS",
    Phone.POSTALVEOLAR: "CH",
    Phone.VELAR: "kk",
    Phone.GLOTTAL: "kk",
    Phone.RHOTIC: "RR",
    Phone.LATERAL: "nn",
    Phone.ROUNDED: "U",
    Phone.O: "O",
    Phone.A: "aa",
    Phone.E: "E",
    Phone.I: "I",
    Phone.SCHWA: "E",
}
"""The name of what each class of phones looks like; n, which looks like d, is DD."""


def frame_visemes(
    labels: NDArray[np.integer[Any]], num_frames: int, labels_per_second: float
) -> list[str]:
    """The viseme of each frame at 25 fps: that of the phone in its middle.

    Args:
        labels: (N,) values of :class:`moda.phones.Phone`.
        num_frames: How many; beyond the labels there is silence.
        labels_per_second: Of the labels.
    """
    centres = (np.arange(num_frames) + 0.5) / FRAMES_PER_SECOND
    places = (centres * labels_per_second).astype(int)
    silent = int(Phone.SILENCE)
    return [
        VISEMES[Phone(int(labels[place]) if place < len(labels) else silent)] for place in places
    ]
