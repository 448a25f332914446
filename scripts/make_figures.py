"""Make the figures of docs/how-it-works.md from the built-in model: again for every model.

    python scripts/make_figures.py

Nothing is drawn by hand: the curves are what the model hears, samples and moves for the example.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from moda import TalkingHead
from moda.media import AudioReader
from moda.motion.flow import sample_euler
from moda.motion.hearing.lips import lips_of_motion
from moda.motion.onnx_network import OnnxNetwork
from moda.phones import Phone
from moda.structures import Floats, Motion, MotionSpace
from moda.systems.embedded import EmbeddedSystem

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
PORTRAIT = ROOT / "examples" / "portraits" / "mona_lisa.jpg"
SPEECH = ROOT / "examples" / "speech.wav"
SECONDS, FPS = 4.2, 25
INK, RED, BLUE, PALE = "#241d16", "#a63a1c", "#2f5d7c", "#efe8dc"


def main() -> None:
    """Write all figures."""
    mpl.rcParams.update({
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "figure.facecolor": "white", "text.color": INK, "axes.labelcolor": INK,
    })  # fmt: skip
    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    motion, steps = sampled(head)
    figures = {
        "streams": streams(), "flow": flow(steps), "space": space(head.space),
        "encoder": encoder(head, motion),
    }  # fmt: skip
    for name, figure in figures.items():
        figure.savefig(IMAGES / f"figure-{name}.png", dpi=110, bbox_inches="tight")


def sampled(head: TalkingHead) -> tuple[Motion, list[Floats]]:
    """Motion of the example's first seconds, and the noisy motion of the first window's steps."""
    seen: list[Floats] = []

    def sample(
        network: OnnxNetwork, predict: Callable[[Floats, int], Floats], noise: Floats, plan: Floats
    ) -> Floats:
        whole = not seen

        def noted(noisy: Floats, step: int) -> Floats:
            if whole:
                seen.append(network.decode(noisy)[0])
            return predict(noisy, step)

        made = sample_euler(noted, noise, plan)
        if whole:
            seen.append(network.decode(made)[0])
        return made

    usual = OnnxNetwork.sample
    OnnxNetwork.sample = sample  # type: ignore[method-assign]
    try:
        video = head.generate(PORTRAIT, SPEECH, seed=0)
        parts = list(islice(video.motion(), 20))
    finally:
        OnnxNetwork.sample = usual  # type: ignore[method-assign]
    values = np.concatenate([part.values for part in parts])[: round(SECONDS * FPS)]
    return Motion(values, parts[0].space), seen


def encoder(head: TalkingHead, motion: Motion) -> Figure:
    """What is heard, and what lips and head make of it."""
    assert isinstance(head.system, EmbeddedSystem)
    samples = np.concatenate(list(AudioReader(SPEECH, 16_000)))[: round(SECONDS * 16_000)]
    phones = head.system.hear_phones(iter([samples]))
    gap, width = lips_of_motion(motion)
    seconds = np.arange(len(motion)) / FPS
    figure = Figure((7.5, 6.2), layout="constrained")
    sound, heard, lips, pose = figure.subplots(
        4, 1, sharex=True, gridspec_kw={"height_ratios": (1, 2.4, 1.3, 1.3)}
    )
    sound.plot(np.arange(len(samples)) / 16_000, samples, color=INK, linewidth=0.4)
    sound.set(ylabel="sound", yticks=())
    heard.imshow(
        phones.reshape(len(phones), -1)[:, : len(Phone)].T, aspect="auto", cmap="OrRd",
        origin="lower", extent=(0, len(phones) / 50, -0.5, len(Phone) - 0.5), vmin=0, vmax=1,
    )  # fmt: skip
    heard.set(ylabel="phones that are heard")
    heard.set_yticks(range(len(Phone)), [phone.name.lower() for phone in Phone], fontsize=6.5)
    lips.plot(seconds, gap, color=RED, label="gap of the lips")
    lips.plot(seconds, width, color=BLUE, label="change of their width")
    pose.plot(seconds, motion.part("pitch")[:, 0], color=RED, label="pitch, degrees")
    pose.plot(seconds, motion.part("yaw")[:, 0], color=BLUE, label="yaw, degrees")
    for axes in (lips, pose):
        axes.legend(loc="lower left", frameon=False, ncols=2, fontsize=8)
        axes.margins(y=0.3)
    pose.set(xlabel="seconds", xlim=(0, SECONDS))
    return figure


def flow(steps: list[Floats]) -> Figure:
    """One number of the motion, from noise to a curve in a few Euler steps."""
    figure = Figure((7.5, 2.6), layout="constrained")
    axes = figure.subplots(1, len(steps), sharey=True)
    for index, (one, values) in enumerate(zip(axes, steps, strict=True)):
        one.plot(values[:, -2], color=RED if index == len(steps) - 1 else INK, linewidth=0.8)
        sigma = 1 - index / (len(steps) - 1)
        one.set_title("noise" if index == 0 else f"step {index}", fontsize=8)
        one.set(xticks=(), xlabel=f"{sigma:.2f}")
    axes[0].set_ylabel("yaw, standard deviations")
    figure.supxlabel("noise level sigma; 80 frames each", fontsize=8)
    return figure


def space(of: MotionSpace) -> Figure:
    """The face that the numbers of the motion move."""
    assert of.canonical_face is not None
    assert of.triangles is not None
    assert of.basis is not None
    face, basis = of.canonical_face[:468], of.basis
    mouth, brows = of.slice("mouth").start, of.slice("brows").start
    turn = np.radians(18.0)
    yaw = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    shown = {
        "the mean face": face,
        "mouth, first number": face + 2.5 * of.std[mouth] * basis[mouth],
        "mouth, second number": face + 2.5 * of.std[mouth + 1] * basis[mouth + 1],
        "brows, first number": face + 3.0 * of.std[brows] * basis[brows],
        "yaw": face @ yaw.T,
    }
    triangles = of.triangles[(of.triangles < len(face)).all(1)]
    figure = Figure((9, 2.6), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        axes.triplot(points[:, 0], -points[:, 1], triangles, color=INK, linewidth=0.25)
        moved = np.linalg.norm(points - face, axis=1)
        far = moved > 0.25 * max(moved.max(), 1e-9)
        if name not in ("the mean face", "yaw"):
            axes.scatter(points[far, 0], -points[far, 1], s=2.5, color=RED, zorder=3)
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(name, fontsize=8)
    return figure


def streams() -> Figure:
    """The transformer: four streams, two, one."""
    figure = Figure((7.5, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-1.5, 11), ylim=(-0.6, 4.4))
    axes.set_axis_off()
    names = ("noisy motion", "speech", "emotion", "identity")
    rows = {
        2.2: ("4 streams", [[row] for row in range(4)]),
        5.0: ("2 streams", [[3], [0, 1, 2]]),
        7.8: ("1 stream", [[0, 1, 2, 3]]),
    }
    for row, name in enumerate(names):
        y = 3 - row
        box(axes, -1.4, y, 1.9, name, PALE)
        arrow(axes, 0.55, 1.9, y)
    for x, (title, groups) in rows.items():
        axes.text(x + 0.7, 4.0, title, ha="center", fontsize=9)
        axes.add_patch(
            FancyBboxPatch(
                (x - 0.25, -0.4), 1.9, 4.1, boxstyle="round,pad=0.05", fill=False, ec=INK
            )
        )
        for group in groups:
            low, high = min(group), max(group)
            label = "weights\nof its own" if len(group) == 1 else "shared\nweights"
            box(axes, x, (low + high) / 2, 1.4, label, "#f5ddd2", height=high - low + 0.6)
        if x < 7:
            arrow(axes, x + 1.75, x + 2.5, 1.5)
    arrow(axes, 9.5, 9.95, 1.5)
    axes.text(10.05, 1.5, "velocity", va="center", fontsize=8)
    return figure


def box(
    axes: mpl.axes.Axes, x: float, y: float, width: float, label: str, colour: str,
    *, height: float = 0.6,
) -> None:  # fmt: skip
    """A box whose middle is at the height y."""
    corner = (x, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle="round,pad=0.04", fc=colour, ec=INK, lw=0.8)
    )
    axes.text(x + width / 2, y, label, ha="center", va="center", fontsize=7.5)


def arrow(axes: mpl.axes.Axes, start: float, end: float, y: float) -> None:
    axes.add_patch(FancyArrowPatch((start, y), (end, y), arrowstyle="->", mutation_scale=9, ec=INK))


if __name__ == "__main__":
    main()
