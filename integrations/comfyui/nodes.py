"""The nodes, in ComfyUI's V3 schema: what they take and give, and what they do.

Pictures are tensors (B, H, W, 3) in 0..1, sound is ``{"waveform": (B, C, N), "sample_rate": int}``.
"""

from __future__ import annotations

import logging
import tempfile
import wave
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io

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
Model = io.Custom("MODA_MODEL")
SpokenStyle = io.Custom("MODA_STYLE")


class LoadModel(io.ComfyNode):
    """Loads a model once; ComfyUI keeps it as long as its inputs stay the same."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MoDALoadModel",
            display_name="MoDA Load Model",
            category=CATEGORY,
            inputs=[
                io.Combo.Input("name", options=list(MODELS), default=MODELS[0]),
                io.Combo.Input("device", options=list(DEVICES), default=DEVICES[0]),
            ],
            outputs=[Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, name: str, device: str) -> io.NodeOutput:
        """Raises :class:`moda.ModaError` if the model or the device is not there."""
        return io.NodeOutput(TalkingHead.from_pretrained(name, device=device))


class Emotion(io.ComfyNode):
    """One emotion from a time on; chain several for a schedule."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MoDAEmotion",
            display_name="MoDA Emotion",
            category=CATEGORY,
            inputs=[
                io.Combo.Input("emotion", options=["none", *EMOTIONS], default="none"),
                io.Float.Input("intensity", default=1.0, min=0.0, max=1.0, step=0.05),
                io.Float.Input("from_seconds", default=0.0, min=0.0, max=14_400.0, step=0.1),
                SpokenStyle.Input("before", optional=True),
            ],
            outputs=[SpokenStyle.Output(display_name="style")],
        )

    @classmethod
    def execute(
        cls, emotion: str, intensity: float, from_seconds: float, before: Style | None = None
    ) -> io.NodeOutput:
        """The style before, and this emotion."""
        name = None if emotion == "none" else emotion
        earlier = () if before is None else before.schedule
        return io.NodeOutput(Style((*earlier, EmotionAt(from_seconds, name, intensity))))


class TalkingHeadFrames(io.ComfyNode):
    """A portrait and speech to frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MoDATalkingHead",
            display_name="MoDA Talking Head",
            category=CATEGORY,
            description="A portrait and speech become a talking head.",
            inputs=[
                Model.Input("model"),
                io.Image.Input("portrait"),
                io.Audio.Input("speech"),
                *(input_of(name, default) for name, default in ALWAYS.items()),
                io.Int.Input("max_frames", default=1500, min=1, max=100_000),
                SpokenStyle.Input("style", optional=True),
                *(input_of(name, optional=True) for name in node_options() if name not in ALWAYS),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="All frames of the video"),
                io.Audio.Output(display_name="speech", tooltip="The speech, unchanged"),
                io.Float.Output(display_name="frames_per_second", tooltip="Rate of the frames"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: TalkingHead,
        portrait: torch.Tensor,
        speech: Mapping[str, Any],
        max_frames: int,
        style: Style | None = None,
        **options: Any,
    ) -> io.NodeOutput:
        """Frames (T, H, W, 3) in 0..1, the speech, and the rate.

        Raises:
            ModaError: No face, bad sound, an option outside its limits, or more frames than
                ``max_frames``.
        """
        given = {name: value for name, value in options.items() if value not in (None, "", USUAL)}
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
        return io.NodeOutput(torch.stack(frames), speech, video.frames_per_second)


class MoDAExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadModel, Emotion, TalkingHeadFrames]


async def comfy_entrypoint() -> MoDAExtension:
    """Called by ComfyUI when it loads the folder."""
    return MoDAExtension()


def node_options() -> tuple[str, ...]:
    """Options that are inputs of the node; emotions come as a style."""
    known = (name for name in of_head() if name in for_visitors())
    return tuple(
        name
        for name in known
        if name not in ("emotion", "emotion_at", "style") and Path not in OPTIONS[name].kinds
    )


def input_of(name: str, default: float | None = None, *, optional: bool = False) -> io.Input:
    """The input of an option; a number without a default is a socket, else a widget."""
    known = OPTIONS[name]
    said: dict[str, Any] = {"tooltip": known.help, "optional": optional}
    default = known.default if default is None else default
    if bool in known.kinds:
        return io.Boolean.Input(name, default=default, **said)
    if int in known.kinds or float in known.kinds:
        said |= {"min": known.option.low, "max": known.option.high}
        said |= {"force_input": True} if default is None else {"default": default}
        if int in known.kinds:
            return io.Int.Input(name, **said)
        return io.Float.Input(name, step=0.05, **said)
    if known.choices:
        return io.Combo.Input(name, options=[USUAL, *known.choices], default=USUAL, **said)
    return io.String.Input(name, default="", **said)


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
