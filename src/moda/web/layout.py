"""What is on the page, and where; connected by :mod:`moda.web.page`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import gradio as gr

from moda.files import example
from moda.options import (
    MAX_STYLE_CHARACTERS,
    OPTIONS,
    VideoOptions,
    for_visitors,
    of_command,
    read_visitor_options,
)
from moda.options.texts import COLOURS
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
Kind = Literal["generate", "dub", "reenact"]
"""Of videos; also the names by which programs ask for them."""
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_SPEAKERS = 4
SPEAKERS = tuple(f"speech_{number}" for number in range(1, MAX_SPEAKERS + 1))
"""Recordings of single faces."""
FILES = ("portrait", "footage", "speech", "driving", *SPEAKERS)
SPOKEN = ("text", "language", "voice")
OWN_INPUTS = ("subtitles", "in_turns", "loop", "intensity")
"""What is no option of visitors by itself."""
FIRST = ("emotion", "intensity", "head_motion", "expression", "seed", "full_frame")


def input_names(renderer: Literal["mesh", "neural"], kind: Kind = "generate") -> tuple[str, ...]:
    """All inputs of a kind of video, in the order in which programs give them."""
    options = [name for name in for_visitors(renderer) if name in of_command(kind)]
    if kind == "reenact":
        return ("portrait", "footage", *options)
    if kind == "dub":
        return ("footage", "speech", *options, "loop", "subtitles")
    others = [name for name in options if name not in (*SPOKEN, *FIRST)]
    group = () if renderer == "neural" else (*SPEAKERS, "in_turns")
    return ("portrait", "speech", *SPOKEN, *FIRST, *others, "subtitles", *group)


def read_choices(values: Mapping[str, Any]) -> VideoOptions:
    """The options that the values of the inputs stand for.

    Raises:
        InputError: A value is outside its limits.
    """
    chosen = {
        name: value.strip() if isinstance(value, str) else value
        for name, value in values.items()
        if name == "driving" or name not in (*FILES, *OWN_INPUTS)
    }
    emotion = chosen.pop("emotion", NO_EMOTION)
    if emotion != NO_EMOTION:
        chosen["emotion"] = EmotionAt(0.0, emotion, values["intensity"])
    given = {name: value for name, value in chosen.items() if value not in (None, "", USUAL)}
    return read_visitor_options(given)


class Controls(NamedTuple):
    """The components that the buttons read and write."""

    inputs: dict[Kind, list[Any]]
    """In the order of :func:`input_names`."""
    buttons: dict[Kind, gr.Button]
    """What makes a video."""
    portrait: gr.Image
    faces: list[Any]
    """What is asked of several faces: all of it, the numbered picture, the number, recordings."""
    seed: gr.Textbox
    new_seed: gr.Button
    stop: gr.Button
    outputs: list[Any]
    """In the order of :func:`moda.web.page.shown`."""


def lay_out(speaker: TextSpeaker, renderer: Literal["mesh", "neural"]) -> Controls:
    """Put the components on the page: what goes in on the left, the video on the right."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320), gr.Tabs(elem_id="kinds"):
            with gr.Tab("Talk"):
                media = _media(speaker)
                faces, grouped = _faces(renderer)
                examples = gr.Column(elem_id="examples")
                generate = _make_button("generate")
                with gr.Accordion("More: feeling, movement, picture", open=False, elem_id="more"):
                    more, new_seed = _more(renderer)
                talk = {**media, **grouped, **more}
                with examples:
                    _examples(talk)
            with gr.Tab("Dub a video", visible=renderer == "mesh"):
                dubbed, dub = _dub(speaker)
            with gr.Tab("Follow a video"):
                followed, reenact = _reenact(renderer)
        with gr.Column(min_width=320, elem_id="result"):
            stop, outputs = _result()
    buttons: dict[Kind, gr.Button] = {"generate": generate, "dub": dub, "reenact": reenact}
    made: dict[Kind, dict[str, Any]] = {"generate": talk, "dub": dubbed, "reenact": followed}
    inputs = {kind: [made[kind][name] for name in input_names(renderer, kind)] for kind in KINDS}
    return Controls(
        inputs,
        buttons,
        talk["portrait"],
        faces,
        talk["seed"],
        new_seed,
        stop,
        [*outputs, *buttons.values()],
    )


def _make_button(kind: Kind) -> gr.Button:
    return gr.Button("Make video", variant="primary", elem_id=kind)


def _result() -> tuple[gr.Button, list[Any]]:
    """The video and what is said of it; the button that stops, and all that changes."""
    video = playing_video(label="Video", autoplay=True, height=440, buttons=[], elem_id="video")
    status = gr.HTML(words.status(None), padding=False, elem_id="status")
    with gr.Row():
        stop = gr.Button("Stop", variant="stop", interactive=False, min_width=120, elem_id="stop")
        download = gr.DownloadButton(
            "Download", interactive=False, min_width=120, elem_id="download"
        )
        beside = gr.DownloadButton(
            "Subtitles (.srt)", visible=False, min_width=120, elem_id="download-subtitles"
        )
    compared = gr.ImageSlider(
        label="Before and after",
        visible=False,
        interactive=False,
        max_height=320,
        elem_id="compared",
    )
    return stop, [video, status, stop, download, beside, compared]


def _footage(kind: Kind, label: str) -> gr.File:
    return gr.File(
        file_types=["video"], type="filepath", height=150, label=label, elem_id=f"{kind}-footage"
    )


def _dub(speaker: TextSpeaker) -> tuple[dict[str, Any], gr.Button]:
    """New lips on a video."""
    gr.Markdown("A video of a face gets new lips; the head, the eyes and the light stay.")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=180):
            footage = _footage("dub", "Video of a face")
            loop = gr.Checkbox(
                label="Loop",
                info="A video shorter than the speech plays back and forth.",
                elem_id="dub-loop",
            )
        with gr.Column(min_width=200):
            spoken = _speech(speaker, "dub-")
    button = _make_button("dub")
    own = (*SPOKEN, *FILES, *OWN_INPUTS)
    others = [name for name in input_names("mesh", "dub") if name not in own]
    with gr.Accordion("More", open=False, elem_id="dub-more"), gr.Row():
        more = {name: component(name, "dub-") for name in others}
    return {"footage": footage, "loop": loop, **spoken, **more}, button


def _reenact(renderer: Literal["mesh", "neural"]) -> tuple[dict[str, Any], gr.Button]:
    """A portrait that moves as the face in a video."""
    gr.Markdown("The portrait moves as the face in a video does, and takes its sound.")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=180):
            portrait = _portrait("reenact-")
        with gr.Column(min_width=200):
            footage = _footage("reenact", "Video that it follows")
    button = _make_button("reenact")
    others = [name for name in input_names(renderer, "reenact") if name not in FILES]
    with gr.Accordion("More", open=False, elem_id="reenact-more"), gr.Row():
        more = {name: component(name, "reenact-") for name in others}
    return {"portrait": portrait, "footage": footage, **more}, button


def _examples(inputs: dict[str, Any]) -> None:
    gr.Examples(
        [
            [str(portrait), str(EXAMPLE_SPEECH), emotion, True]
            for portrait, emotion in EXAMPLES.values()
        ],
        [inputs[name] for name in ("portrait", "speech", "emotion", "full_frame")],
        label="Or try one, with a synthetic voice",
        example_labels=list(EXAMPLES),
        cache_examples=False,
        api_visibility="private",
    )


def _media(speaker: TextSpeaker) -> dict[str, Any]:
    with gr.Row(equal_height=False):
        with gr.Column(min_width=180):
            portrait = _portrait()
        with gr.Column(min_width=200):
            spoken = _speech(speaker)
    return {"portrait": portrait, **spoken}


def _faces(renderer: Literal["mesh", "neural"]) -> tuple[list[Any], dict[str, Any]]:
    """Which face speaks, for pictures that show several; see :mod:`moda.web.faces`.

    Returns what changes with the portrait, and the inputs.
    """
    with gr.Column(visible=renderer == "neural", elem_id="faces") as whole:
        with gr.Row():
            numbered = gr.Image(
                label="Faces", interactive=False, height=150, buttons=[], min_width=160
            )
            with gr.Column(min_width=160):
                face = _face()
        inputs: dict[str, Any] = {"face": face}
        if renderer == "neural":
            return [whole, numbered, face], inputs
        gr.Markdown("Or each face says something of its own, instead of the speech above:")
        with gr.Row():
            for number, name in enumerate(SPEAKERS, start=1):
                inputs[name] = gr.File(
                    file_types=["audio", "video"],
                    type="filepath",
                    height=110,
                    label=f"Face {number}",
                    visible=False,
                    min_width=110,
                    elem_id=name.replace("_", "-"),
                )
        inputs["in_turns"] = gr.Checkbox(
            label="One after the other", info="Not all at once.", elem_id="in-turns"
        )
    return [whole, numbered, face, *(inputs[name] for name in SPEAKERS)], inputs


def _face(prefix: str = "") -> gr.Textbox:
    return gr.Textbox(
        label="Which face",
        info="Its number, from left to right; empty: the largest.",
        max_length=24,
        max_lines=1,
        min_width=140,
        elem_id=f"{prefix}face",
    )


def _portrait(prefix: str = "") -> gr.Image:
    return portrait_picture(
        sources=["upload", "webcam", "clipboard"],
        label="Portrait",
        height=214,
        elem_id=f"{prefix}portrait",
    )


def _speech(speaker: TextSpeaker, prefix: str = "") -> dict[str, Any]:
    """A recording or a text."""
    reason, languages, voices = speaker
    with gr.Tabs():
        with gr.Tab("Recording"):
            speech = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="Speech",
                buttons=[],
                elem_id=f"{prefix}speech",
            )
        with gr.Tab("Text"):
            text = gr.Textbox(
                label="What is said",
                lines=3,
                max_length=MAX_TEXT_LENGTH,
                placeholder="[happy] Hello! [sad:0.6] I have to go.",
                info=reason,
                interactive=reason is None,
                elem_id=f"{prefix}text",
            )
            language = gr.Dropdown(
                languages,
                value=languages[0][1] if languages else None,
                label="Language",
                visible=bool(languages),
                elem_id=f"{prefix}language",
            )
            voice = gr.Dropdown(
                [USUAL, *voices],
                value=USUAL,
                label="Voice",
                visible=bool(voices),
                elem_id=f"{prefix}voice",
            )
            subtitles = gr.Checkbox(
                label="Subtitles",
                info="In the file, and beside it.",
                visible=reason is None,
                elem_id=f"{prefix}subtitles",
            )
    return {
        "speech": speech,
        "text": text,
        "language": language,
        "voice": voice,
        "subtitles": subtitles,
    }


def _more(renderer: Literal["mesh", "neural"]) -> tuple[dict[str, Any], gr.Button]:
    """All other options under what they are about, and the button for another seed."""
    left = [
        name
        for name in input_names(renderer)
        if name not in ("portrait", "speech", "face", "subtitles", "in_turns", *SPOKEN, *SPEAKERS)
    ]
    made: dict[str, Any] = {}
    for heading, wanted in {**GROUPS, "Fine print": left}.items():
        names = [name for name in wanted if name in left and name not in made]
        gr.Markdown(f"## {heading}")
        with gr.Row():
            for name in names:
                made[name] = component(name)
                if name == "seed":
                    new_seed = gr.Button("Another seed", size="sm", min_width=140)
    return made, new_seed


def _emotion(prefix: str) -> gr.Dropdown:
    return gr.Dropdown(
        [NO_EMOTION, *EMOTIONS],
        value=NO_EMOTION,
        label="Emotion",
        info="Of the whole video.",
        min_width=140,
        elem_id=f"{prefix}emotion",
    )


def _intensity(prefix: str) -> gr.Slider:
    return gr.Slider(
        0,
        1,
        0.8,
        step=0.05,
        label="Intensity",
        info="How much of it shows.",
        min_width=140,
        elem_id=f"{prefix}intensity",
    )


def _background(prefix: str) -> gr.Dropdown:
    return gr.Dropdown(
        [
            ("The picture's", USUAL),
            *((name.capitalize(), name) for name in COLOURS if name != "gray"),
        ],
        value=USUAL,
        label="Background",
        info="Behind the person; a colour may be written as #rrggbb.",
        allow_custom_value=True,
        min_width=140,
        elem_id=f"{prefix}background",
    )


def _emotion_at(prefix: str) -> gr.Textbox:
    return gr.Textbox(
        label="Emotions at times",
        info="A time in seconds and an emotion; none ends it.",
        placeholder="0=happy; 3.2=sad:0.5",
        max_lines=1,
        max_length=MAX_STYLE_CHARACTERS,
        min_width=140,
        elem_id=f"{prefix}emotion-at",
    )


OWN: Mapping[str, Callable[[str], Any]] = {
    "emotion": _emotion, "intensity": _intensity, "emotion_at": _emotion_at,
    "background": _background, "face": _face,
}  # fmt: skip
"""Inputs that say more than the description of their option, or something else."""
GROUPS = {
    "Feeling": ("emotion", "intensity", "emotion_at", "style", "expression"),
    "Movement": ("head_motion", "blink", "blink_rate", "gaze", "lips_only", "seed", "driving"),
    "Picture": ("full_frame", "background", "size", "frames_per_second", "eyes", "lips"),
}


def component(name: str, prefix: str = "") -> Any:
    """The input of an option, made from its description; empty stands for what is usual."""
    if name in OWN:
        return OWN[name](prefix)
    known = OPTIONS[name]
    described: dict[str, Any] = {
        "label": known.label[:1].upper() + known.label[1:],
        "elem_id": prefix + name.replace("_", "-"),
    }
    if Path in known.kinds:
        return gr.File(file_types=["video"], type="filepath", height=150, **described)
    described |= {"info": known.visitors_help, "min_width": 140}
    if bool in known.kinds:
        return gr.Checkbox(known.default, **described)
    if int in known.kinds or float in known.kinds:
        if known.default is None:  # an empty number would be sent as 0
            usual = (known.option.usual or "").split(";")[0]
            return gr.Textbox(
                placeholder=usual and f"usual: {usual}", max_length=24, max_lines=1, **described
            )
        return gr.Number(
            known.default,
            minimum=known.option.low,
            maximum=known.visitors_high,
            precision=0 if int in known.kinds else None,
            **described,
        )
    if known.choices:
        return gr.Dropdown([USUAL, *known.choices], value=USUAL, **described)
    return gr.Textbox(max_length=MAX_STYLE_CHARACTERS, max_lines=1, **described)
