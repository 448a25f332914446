"""What is on the page, and where; connected by :mod:`moda.web.page`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import gradio as gr

from moda.encoders.style import (
    MAX_STYLE_CHARACTERS,
    Delivery,
    amount_if_chosen,
    encode_style,
)
from moda.structures import EMOTIONS, EmotionAt, Style
from moda.system import MAX_BLINK_RATE, Gaze
from moda.web import words
from moda.web.components import playing_video, portrait_picture
from moda.web.text import TextSpeaker

EXAMPLES = Path(__file__).parent / "examples"
NO_EMOTION = "none"
USUAL_GAZE = "usual"


@dataclass(frozen=True)
class Choices:
    """The values of all inputs, in the order in which they are on the page."""

    portrait: str | None
    speech: str | None
    text: str | None
    language: str | None
    emotion: str
    intensity: float
    head_motion: float
    expression: float
    seed: float | None
    full_frame: bool
    size: float
    frames_per_second: float
    face: float | None
    blink: bool
    steps: float | None
    guidance_scale: float | None
    style_words: str | None
    blink_rate: float | None
    gaze: str
    lips_only: bool
    driving: str | None

    def files(self) -> list[Path]:
        """The uploaded files."""
        return [Path(name) for name in (self.portrait, self.speech, self.driving) if name]

    @cached_property
    def delivery(self) -> Delivery:
        """What the words for the style say, and what was chosen, which counts more.

        Raises:
            InputError: the words are too long.
        """
        said = encode_style(self.style_words or "").with_chosen(
            head_motion=amount_if_chosen(self.head_motion),
            expression=amount_if_chosen(self.expression),
            blink_rate=self.blink_rate or None,
            gaze=None if self.gaze == USUAL_GAZE else cast("Gaze", self.gaze),
        )
        if self.emotion == NO_EMOTION:
            return said
        return replace(said, style=Style((EmotionAt(0.0, self.emotion, self.intensity),)))


class Controls(NamedTuple):
    """The components that the buttons read and write."""

    inputs: list[Any]
    """In the order of :class:`Choices`."""
    seed: gr.Number
    new_seed: gr.Button
    generate: gr.Button
    stop: gr.Button
    outputs: list[Any]
    """In the order of :func:`moda.web.page.shown`."""


def lay_out(speaker: TextSpeaker) -> Controls:
    """Put the components on the page: what goes in on the left, the video on the right."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            media = _media(speaker)
            examples = gr.Column()
            first = _first_options()
            new_seed = first.pop("new_seed")
            inputs = {**media, **first, **_more_options()}
            with examples:
                _examples(inputs)
            generate = gr.Button("Generate", variant="primary", elem_id="generate")
        with gr.Column(min_width=320, elem_id="result"):
            video = playing_video(
                label="Video",
                autoplay=True,
                height=420,
                buttons=[],
                elem_id="video",
            )
            status = gr.HTML(words.status(None), padding=False, elem_id="status")
            with gr.Row():
                stop = gr.Button(
                    "Stop", variant="stop", interactive=False, min_width=120, elem_id="stop"
                )
                download = gr.DownloadButton(
                    "Download", interactive=False, min_width=120, elem_id="download"
                )
            compared = gr.ImageSlider(
                label="Before and after",
                visible=False,
                interactive=False,
                max_height=320,
                elem_id="compared",
            )
    return Controls(
        [inputs[name] for name in Choices.__dataclass_fields__],
        first["seed"],
        new_seed,
        generate,
        stop,
        [video, status, generate, stop, download, compared],
    )


def _examples(inputs: dict[str, Any]) -> None:
    """What can be tried without files of one's own, and without a network."""
    examples = {"No emotion": (NO_EMOTION, True), "Happy": ("happy", True), "Sad": ("sad", False)}
    gr.Examples(
        [
            [str(EXAMPLES / "portrait.jpg"), str(EXAMPLES / "speech.mp3"), emotion, full_frame]
            for emotion, full_frame in examples.values()
        ],
        [inputs[name] for name in ("portrait", "speech", "emotion", "full_frame")],
        label="Examples: Eileen Collins, photographed by NASA, and a synthetic voice",
        example_labels=list(examples),
        cache_examples=False,
        api_visibility="private",
    )


def _media(speaker: TextSpeaker) -> dict[str, Any]:
    reason = speaker.why_not()
    languages = speaker.languages() if reason is None else ()
    portrait = portrait_picture(
        sources=["upload", "webcam", "clipboard"],
        label="Portrait",
        height=280,
        elem_id="portrait",
    )
    with gr.Tabs():
        with gr.Tab("Recording"):
            speech = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="Speech",
                buttons=[],
                elem_id="speech",
            )
        with gr.Tab("Text"):
            text = gr.Textbox(
                label="What is said",
                lines=3,
                max_length=5_000,
                placeholder="[happy] Hello! [sad:0.6] I have to go.",
                info=reason or words.EXPLANATIONS["text"],
                interactive=reason is None,
                elem_id="text",
            )
            language = gr.Dropdown(
                languages,
                value=languages[0] if languages else None,
                label="Language",
                visible=bool(languages),
                elem_id="language",
            )
    return {"portrait": portrait, "speech": speech, "text": text, "language": language}


def _first_options() -> dict[str, Any]:
    """What people ask for first."""
    said = words.EXPLANATIONS
    with gr.Row():
        emotion = gr.Dropdown(
            [NO_EMOTION, *EMOTIONS],
            value=NO_EMOTION,
            label="Emotion",
            info=said["emotion"],
            min_width=140,
            elem_id="emotion",
        )
        intensity = gr.Slider(
            0, 1, 0.8, step=0.05, label="Intensity", info=said["intensity"], min_width=140
        )
    with gr.Row():
        head_motion = gr.Slider(
            0, 2, 1, step=0.05, label="Head motion", info=said["head_motion"], min_width=140
        )
        expression = gr.Slider(
            0, 2, 1, step=0.05, label="Expression", info=said["expression"], min_width=140
        )
    with gr.Row():
        seed = gr.Number(
            None, label="Seed", info=said["seed"], precision=0, minimum=0, min_width=140,
            elem_id="seed",
        )  # fmt: skip
        with gr.Column(min_width=140):
            full_frame = gr.Checkbox(True, label="Full frame", info=said["full_frame"])
            new_seed = gr.Button("Another seed", size="sm")
    return {
        "emotion": emotion, "intensity": intensity, "head_motion": head_motion,
        "expression": expression, "seed": seed, "full_frame": full_frame, "new_seed": new_seed,
    }  # fmt: skip


def _more_options() -> dict[str, Any]:
    """What is folded away."""
    said = words.EXPLANATIONS
    with gr.Accordion("More options", open=False, elem_id="more"):
        with gr.Row():
            size = gr.Slider(64, 2160, 512, step=2, label="Size", info=said["size"], min_width=140)
            rate = gr.Slider(
                10, 60, 25, step=1, label="Frames per second", info=said["rate"], min_width=140
            )
        style_words = gr.Textbox(
            label="Style",
            info=said["style_words"],
            placeholder="warm, a little tired, nods",
            max_length=MAX_STYLE_CHARACTERS,
            elem_id="style",
        )
        with gr.Row():
            blink = gr.Checkbox(True, label="Blink", info=said["blink"], min_width=140)
            blink_rate = gr.Number(
                0, label="Blinks a minute", info=said["blink_rate"], minimum=0,
                maximum=MAX_BLINK_RATE,
                min_width=140, elem_id="blink-rate",
            )  # fmt: skip
        with gr.Row():
            gaze = gr.Dropdown(
                [USUAL_GAZE, *get_args(Gaze)], value=USUAL_GAZE, label="Gaze", info=said["gaze"],
                min_width=140,
            )  # fmt: skip
            lips_only = gr.Checkbox(False, label="Lips only", info=said["lips_only"], min_width=140)
        driving = gr.File(
            label="Driving video",
            file_types=["video"],
            type="filepath",
            height=110,
            elem_id="driving",
        )
        gr.Markdown(said["driving"], elem_classes="moda-small")
        with gr.Row():
            face = gr.Number(
                0, label="Face", info=said["face"], precision=0, minimum=0, min_width=140
            )
            steps = gr.Number(
                0, label="Steps", info=said["steps"], precision=0, minimum=0, min_width=140
            )
        guidance = gr.Number(
            0, label="Guidance scale", info=said["guidance_scale"], minimum=0, min_width=140
        )
    return {
        "size": size, "frames_per_second": rate, "face": face, "blink": blink, "steps": steps,
        "guidance_scale": guidance, "style_words": style_words, "blink_rate": blink_rate,
        "gaze": gaze, "lips_only": lips_only, "driving": driving,
    }  # fmt: skip
