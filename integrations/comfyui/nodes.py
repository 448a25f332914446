"""The nodes. Their interface is ComfyUI's: INPUT_TYPES, RETURN_TYPES, FUNCTION, CATEGORY.

Pictures are tensors (B, H, W, 3) in 0..1, sound is ``{"waveform": (B, C, N), "sample_rate": int}``.
"""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from moda import EMOTIONS, EmotionAt, InputError, Style, TalkingHead

if TYPE_CHECKING:
    from moda.structures import Picture

CATEGORY = "MoDA"
MODELS = ("moda-tiny", "moda-base")
DEVICES = ("auto", "cpu", "cuda", "mps")
FULL_SCALE = 32_767


class LoadModel:
    """Loads a model once; ComfyUI keeps it as long as its inputs stay the same."""

    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = ("MODA_MODEL",)
    RETURN_NAMES = ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"name": (list(MODELS),), "device": (list(DEVICES),)}}

    def load(self, name: str, device: str) -> tuple[TalkingHead]:
        """Raises :class:`moda.ModaError` if the model or the device is not there."""
        return (TalkingHead.from_pretrained(name, device=device),)


class Emotion:
    """One emotion from a time on; chain several for a schedule."""

    CATEGORY = CATEGORY
    FUNCTION = "make"
    RETURN_TYPES = ("MODA_STYLE",)
    RETURN_NAMES = ("style",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {
            "required": {
                "emotion": (["none", *EMOTIONS],),
                "intensity": number(1.0, 0.0, 1.0, 0.05),
                "from_seconds": number(0.0, 0.0, 14_400.0, 0.1),
            },
            "optional": {"before": ("MODA_STYLE",)},
        }

    def make(
        self, emotion: str, intensity: float, from_seconds: float, before: Style | None = None
    ) -> tuple[Style]:
        """The style before, and this emotion."""
        name = None if emotion == "none" else emotion
        earlier = () if before is None else before.schedule
        return (Style((*earlier, EmotionAt(from_seconds, name, intensity))),)


class TalkingHeadFrames:
    """A portrait and speech to frames."""

    CATEGORY = CATEGORY
    FUNCTION = "generate"
    RETURN_TYPES = ("IMAGE", "AUDIO", "FLOAT")
    RETURN_NAMES = ("frames", "speech", "frames_per_second")
    OUTPUT_TOOLTIPS: ClassVar = (
        "All frames of the video", "The speech, unchanged", "Rate of the frames",
    )  # fmt: skip

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {
            "required": {
                "model": ("MODA_MODEL",),
                "portrait": ("IMAGE",),
                "speech": ("AUDIO",),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1}),
                "frames_per_second": number(25.0, 10.0, 60.0, 1.0),
                "size": ("INT", {"default": 512, "min": 64, "max": 2160, "step": 2}),
                "full_frame": ("BOOLEAN", {"default": True}),
                "head_motion": number(1.0, 0.0, 2.0, 0.05),
                "expression": number(1.0, 0.0, 2.0, 0.05),
                "blink": ("BOOLEAN", {"default": True}),
                "max_frames": ("INT", {"default": 1500, "min": 1, "max": 100_000}),
            },
            "optional": {"style": ("MODA_STYLE",)},
        }

    def generate(
        self,
        model: TalkingHead,
        portrait: torch.Tensor,
        speech: Mapping[str, Any],
        seed: int,
        frames_per_second: float,
        size: int,
        full_frame: bool,
        head_motion: float,
        expression: float,
        blink: bool,
        max_frames: int,
        style: Style | None = None,
    ) -> tuple[torch.Tensor, Mapping[str, Any], float]:
        """Frames (T, H, W, 3) in 0..1, the speech, and the rate.

        Raises:
            ModaError: No face, bad sound, or more frames than ``max_frames``.
        """
        with tempfile.TemporaryDirectory(prefix="moda-comfyui-") as folder:
            video = model.generate(
                picture_of(portrait),
                write_speech(speech, Path(folder)),
                style=style,
                seed=seed,
                frames_per_second=frames_per_second,
                size=size,
                full_frame=full_frame,
                head_motion=head_motion,
                expression=expression,
                blink=blink,
            )
            frames = list(islice(map(tensor_of, video.frames()), max_frames + 1))
        if len(frames) > max_frames:
            raise InputError(
                f"the speech needs more than max_frames = {max_frames} frames; raise it if the "
                "memory suffices, shorten the speech, or use moda generate"
            )
        return torch.stack(frames), speech, frames_per_second


def number(default: float, low: float, high: float, step: float) -> tuple[str, dict[str, float]]:
    """An input with a decimal point."""
    return ("FLOAT", {"default": default, "min": low, "max": high, "step": step})


def picture_of(images: torch.Tensor) -> Picture:
    """The first picture of a batch (B, H, W, 3 or more) in 0..1, as (H, W, 3) of 8 bits."""
    if images.ndim != 4 or images.shape[-1] < 3 or len(images) == 0:
        raise InputError(f"portrait is {tuple(images.shape)}, not (pictures, height, width, 3)")
    scaled = (images[0, ..., :3].float().cpu().clamp(0, 1) * 255).round()
    return np.ascontiguousarray(scaled.to(torch.uint8).numpy())


def tensor_of(frame: Picture) -> torch.Tensor:
    """A frame (H, W, 3) of 8 bits in 0..1."""
    return torch.from_numpy(frame.copy()).float() / 255.0


def write_speech(speech: Mapping[str, Any], folder: Path) -> Path:
    """The first recording of a batch as a wav file of 16 bits."""
    waveform, rate = speech["waveform"], int(speech["sample_rate"])
    if waveform.ndim != 3 or len(waveform) == 0:
        raise InputError(f"speech is {tuple(waveform.shape)}, not (recordings, channels, samples)")
    samples = waveform[0].float().cpu().clamp(-1, 1).T.contiguous().numpy()
    path = folder / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * FULL_SCALE).round().astype("<i2").tobytes())
    return path


NODE_CLASS_MAPPINGS = {
    "MoDALoadModel": LoadModel,
    "MoDAEmotion": Emotion,
    "MoDATalkingHead": TalkingHeadFrames,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "MoDALoadModel": "MoDA Load Model",
    "MoDAEmotion": "MoDA Emotion",
    "MoDATalkingHead": "MoDA Talking Head",
}
