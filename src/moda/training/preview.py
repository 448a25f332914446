"""A short video of the model as it is, while it is still learning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moda.data.neural import require_networks
from moda.errors import InputError
from moda.media import read_image
from moda.pipeline import TalkingHead
from moda.structures import Picture
from moda.systems.loading import system_of
from moda.weights.checkpoints import Checkpoint

STRIP_FRAMES = 8
FOLDER = "previews"


@dataclass(frozen=True)
class PreviewOptions:
    """What is shown, and how often. Paths are relative to the recipe's folder."""

    every: int = 0
    """steps between previews; 0 makes none"""
    portrait: str = "../examples/portrait.jpg"
    speech: str = "../examples/speech.wav"
    size: int = 256
    """side in pixels of the square around the head"""

    def __post_init__(self) -> None:
        if self.every < 0 or not 64 <= self.size <= 2160:
            raise InputError(
                f"preview every {self.every} steps at {self.size} pixels: steps must be at least 0 "
                "and pixels in 64..2160"
            )


class Preview:
    """Renders the same portrait with the same speech and seed, so that previews can be compared.

    Raises:
        ModaError: The portrait cannot be read, or the renderer of the neural space has not been
            downloaded.
    """

    def __init__(self, options: PreviewOptions, base: Path, folder: Path, space: str) -> None:
        if space == "neural":
            require_networks()
        self._options = options
        self._portrait = read_image(base / options.portrait)
        self._speech = base / options.speech
        self._folder = folder / FOLDER
        self.every = options.every

    def write(self, checkpoint: Checkpoint, step: int) -> tuple[Path, Picture]:
        """Write ``previews/step-00000500.mp4``; returns it, and a strip of its frames.

        Raises:
            ModaError: portrait or speech cannot be used, or the renderer is not installed.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{step:08d}.mp4"
        video = TalkingHead(system_of(checkpoint, "cpu")).generate(
            self._portrait, self._speech, size=self._options.size, full_frame=False
        )
        video.write(path)
        shown = np.linspace(0, video.num_frames - 1, STRIP_FRAMES).astype(int)
        frames = [frame for index, frame in enumerate(video.frames()) if index in shown]
        return path, np.concatenate(frames, axis=1)
