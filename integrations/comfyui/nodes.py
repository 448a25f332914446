"""The nodes. Their interface is ComfyUI's: INPUT_TYPES, RETURN_TYPES, FUNCTION, CATEGORY.

Pictures are tensors (B, H, W, 3) in 0..1, sound is ``{"waveform": (B, C, N), "sample_rate": int}``.
"""

from __future__ import annotations

import logging
import tempfile
import wave
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from moda import EMOTIONS, EmotionAt, InputError, Style, TalkingHead
from moda.options import OPTIONS, for_visitors, of_head, read_options
from moda.pipeline.jobs import VideoJob, begin_video

if TYPE_CHECKING:
    from moda.structures import Picture

logger = logging.getLogger(__name__)
CATEGORY = "MoDA"
USUAL = "usual"
ALWAYS: Mapping[str, float | None] = {
    "seed": 0, "frames_per_second": None, "size": 512, "full_frame": None, "head_motion": 1.0,
    "expression": 1.0, "blink": None,
}  # fmt: skip
"""Inputs that are always there, in the order of saved workflows, with defaults of their own."""
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
                **{name: input_of(name, default) for name, default in ALWAYS.items()},
                "max_frames": ("INT", {"default": 1500, "min": 1, "max": 100_000}),
            },
            "optional": {
                "style": ("MODA_STYLE",),
                **{name: input_of(name) for name in node_options() if name not in ALWAYS},
            },
        }

    def generate(
        self,
        model: TalkingHead,
        portrait: torch.Tensor,
        speech: Mapping[str, Any],
        max_frames: int,
        style: Style | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, Mapping[str, Any], float]:
        """Frames (T, H, W, 3) in 0..1, the speech, and the rate.

        Raises:
            ModaError: No face, bad sound, an option outside its limits, or more frames than
                ``max_frames``.
        """
        given = {name: value for name, value in options.items() if value not in ("", USUAL)}
        chosen = read_options({**given, "style": style}, allowed=(*node_options(), "style"))
        with tempfile.TemporaryDirectory(prefix="moda-comfyui-") as name:
            folder = Path(name)
            sound = write_speech(speech, folder)
            job = VideoJob(picture_of(portrait), folder / "frames.mp4", sound, chosen)
            video = begin_video(job, model, folder)
            frames = list(islice(map(tensor_of, video.frames()), max_frames + 1))
            for note in (*video.notes, *video.notes_afterwards()):
                logger.warning(note)
        if len(frames) > max_frames:
            raise InputError(
                f"the speech needs more than max_frames = {max_frames} frames; raise it if the "
                "memory suffices, shorten the speech, or use moda generate"
            )
        return torch.stack(frames), speech, video.frames_per_second


def node_options() -> tuple[str, ...]:
    """Options that are inputs of the node; emotions come as a style."""
    known = (name for name in of_head() if name in for_visitors())
    return tuple(
        name
        for name in known
        if name not in ("emotion", "emotion_at", "style") and Path not in OPTIONS[name].kinds
    )


def input_of(name: str, default: float | None = None) -> tuple[Any, dict[str, Any]]:
    """The input of an option; a number without a default is a socket, else a widget."""
    known = OPTIONS[name]
    said: dict[str, Any] = {"tooltip": known.help}
    default = known.default if default is None else default
    if bool in known.kinds:
        return "BOOLEAN", {"default": default, **said}
    if int in known.kinds or float in known.kinds:
        low, high = known.option.low, known.option.high
        said |= {"min": low} | ({} if high is None else {"max": high})
        said |= {"forceInput": True} if default is None else {"default": default}
        return ("INT", said) if int in known.kinds else ("FLOAT", {"step": 0.05, **said})
    if known.choices:
        return [USUAL, *known.choices], {"default": USUAL, **said}
    return "STRING", {"default": "", **said}


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
