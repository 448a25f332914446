"""What is on the page, and where; connected by :mod:`moda.web.page`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gradio as gr

from moda.files import example
from moda.options import (
    MAX_STYLE_CHARACTERS,
    OPTIONS,
    VideoOptions,
    for_visitors,
    read_visitor_options,
)
from moda.structures import EMOTIONS, EmotionAt
from moda.web import words
from moda.web.components import playing_video, portrait_picture
from moda.web.text import TextSpeaker

MAX_TEXT_LENGTH = 5_000
NO_EMOTION, USUAL = "none", "usual"
EXAMPLE_SPEECH = example("speech.wav")
EXAMPLES = {
    "Painting": (example("portraits/mona_lisa.jpg"), NO_EMOTION),
    "Photograph": (example("portraits/hopper.jpg"), "happy"),
    "Drawing": (example("portraits/drawing.jpg"), NO_EMOTION),
}
"""What can be tried without files of one's own, and without a network."""
SPOKEN = ("text", "language", "voice")
FIRST = ("emotion", "intensity", "head_motion", "expression", "seed", "full_frame")


def input_names(renderer: Literal["mesh", "neural"]) -> tuple[str, ...]:
    """All inputs in the order in which they are on the page."""
    options = [name for name in for_visitors(renderer) if name not in (*SPOKEN, *FIRST)]
    return ("portrait", "speech", *SPOKEN, *FIRST, *options)


def read_choices(values: Mapping[str, Any]) -> VideoOptions:
    """The options that the values of the inputs stand for.

    Raises:
        InputError: A value is outside its limits.
    """
    chosen = {
        name: value.strip() if isinstance(value, str) else value
        for name, value in values.items()
        if name not in ("portrait", "speech", "intensity")
    }
    emotion = chosen.pop("emotion")
    if emotion != NO_EMOTION:
        chosen["emotion"] = EmotionAt(0.0, emotion, values["intensity"])
    given = {name: value for name, value in chosen.items() if value not in (None, "", USUAL)}
    return read_visitor_options(given)


class Controls(NamedTuple):
    """The components that the buttons read and write."""

    inputs: list[Any]
    """In the order of :func:`input_names`."""
    seed: gr.Textbox
    new_seed: gr.Button
    generate: gr.Button
    stop: gr.Button
    outputs: list[Any]
    """In the order of :func:`moda.web.page.shown`."""


def lay_out(speaker: TextSpeaker, renderer: Literal["mesh", "neural"]) -> Controls:
    """Put the components on the page: what goes in on the left, the video on the right."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            media = _media(speaker)
            examples = gr.Column()
            first = _first_options()
            new_seed = first.pop("new_seed")
            names = input_names(renderer)
            with gr.Accordion("More options", open=False, elem_id="more"):
                more = {name: component(name) for name in names if name not in {**media, **first}}
            inputs = {**media, **first, **more}
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
        [inputs[name] for name in names],
        first["seed"],
        new_seed,
        generate,
        stop,
        [video, status, generate, stop, download, compared],
    )


def _examples(inputs: dict[str, Any]) -> None:
    gr.Examples(
        [
            [str(portrait), str(EXAMPLE_SPEECH), emotion, True]
            for portrait, emotion in EXAMPLES.values()
        ],
        [inputs[name] for name in ("portrait", "speech", "emotion", "full_frame")],
        label="Examples: the Mona Lisa and Grace Hopper, with a synthetic voice",
        example_labels=list(EXAMPLES),
        cache_examples=False,
        api_visibility="private",
    )


def _media(speaker: TextSpeaker) -> dict[str, Any]:
    reason, languages, voices = speaker
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
                max_length=MAX_TEXT_LENGTH,
                placeholder="[happy] Hello! [sad:0.6] I have to go.",
                info=reason or OPTIONS["text"].help,
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
            voice = gr.Dropdown(
                [USUAL, *voices],
                value=USUAL,
                label="Voice",
                visible=bool(voices),
                elem_id="voice",
            )
    return {
        "portrait": portrait, "speech": speech, "text": text, "language": language, "voice": voice,
    }  # fmt: skip


def _first_options() -> dict[str, Any]:
    """What people ask for first."""
    with gr.Row():
        emotion = gr.Dropdown(
            [NO_EMOTION, *EMOTIONS],
            value=NO_EMOTION,
            label="Emotion",
            info="Of the whole video",
            min_width=140,
            elem_id="emotion",
        )
        intensity = gr.Slider(
            0, 1, 0.8, step=0.05, label="Intensity", info="How much of it shows", min_width=140
        )
    with gr.Row():
        amounts = {name: component(name) for name in ("head_motion", "expression")}
    with gr.Row():
        seed = component("seed")
        with gr.Column(min_width=140):
            full_frame = component("full_frame")
            new_seed = gr.Button("Another seed", size="sm")
    return {
        "emotion": emotion, "intensity": intensity, **amounts, "seed": seed,
        "full_frame": full_frame, "new_seed": new_seed,
    }  # fmt: skip


def component(name: str) -> Any:
    """The input of an option, made from its description; empty stands for what is usual."""
    known = OPTIONS[name]
    described: dict[str, Any] = {
        "label": known.label[:1].upper() + known.label[1:],
        "elem_id": name.replace("_", "-"),
    }
    if Path in known.kinds:
        return gr.File(file_types=["video"], type="filepath", height=110, **described)
    described |= {"info": known.help, "min_width": 140}
    if bool in known.kinds:
        return gr.Checkbox(known.default, **described)
    if int in known.kinds or float in known.kinds:
        if known.default is None:  # an empty number would be sent as 0
            usual = known.option.usual
            return gr.Textbox(placeholder=usual and f"empty: {usual}", max_length=24, **described)
        return gr.Number(
            known.default,
            minimum=known.option.low,
            maximum=known.visitors_high,
            precision=0 if int in known.kinds else None,
            **described,
        )
    if known.choices:
        return gr.Dropdown([USUAL, *known.choices], value=USUAL, **described)
    return gr.Textbox(max_length=MAX_STYLE_CHARACTERS, **described)
