"""``moda doctor``: is everything there, and does it work?"""

from __future__ import annotations

import hashlib
import platform
import time
from importlib.metadata import version

import typer

from moda.devices import has_torch
from moda.errors import InputError
from moda.version import __version__

app = typer.Typer()


@app.command()
def doctor() -> None:
    """Check the installation: versions, devices, models, and one rendered frame."""
    healthy = True
    for name, check in DOCTOR_CHECKS.items():
        try:
            mark, result = "ok", check()
        except Exception as error:  # whatever is wrong, the other checks still run
            healthy, mark, result = False, "PROBLEM", f"{type(error).__name__}: {error}"
        typer.echo(f"{mark:<8} {name}: {' '.join(result.split())}")
    if not healthy:
        raise InputError("the lines marked PROBLEM say what is wrong; reinstall moda-talking-head")


def _versions() -> str:
    parts = ["numpy", "numba", "onnxruntime", "opencv-python-headless", "av", "pillow"]
    parts += ["torch"] if has_torch() else []
    system = f"moda {__version__}, Python {platform.python_version()} on {platform.platform()}"
    return ", ".join((system, *(f"{part} {version(part)}" for part in parts)))


def _devices() -> str:
    if not has_torch():
        return "cpu; others need PyTorch: pip install '.[neural]'"
    import torch

    names = [f"cpu ({torch.get_num_threads()} threads)"]
    names += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    return ", ".join(names)


def _model_files() -> str:
    from moda.weights.files import ASSETS

    files = sorted(path for path in ASSETS.iterdir() if path.suffix in (".onnx", ".safetensors"))
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items())


def _motion_model() -> str:
    from moda.weights.motion_files import BUILT_IN, read_motion_file

    sizes = {
        name: sum(weight.size for weight in read_motion_file(name).weights.values())
        for name in BUILT_IN
    }
    return ", ".join(
        f"{name} with {size / 1e6:.1f} million weights" for name, size in sizes.items()
    )


def _published_models() -> str:
    from moda.files import models_folder
    from moda.weights.catalogue import CATALOGUE
    from moda.weights.installation import model_state

    folder = models_folder()
    states = [f"{name} {model_state(model, folder)}" for name, model in CATALOGUE.items()]
    return f"{', '.join(states)} in {folder}"


def _kernel_cache() -> str:
    from moda.rendering.mesh import warp

    # Kernels that others call are compiled into them, and have no place of their own.
    kept = (kernel.stats.cache_path for kernel in vars(warp).values() if hasattr(kernel, "stats"))
    return ", ".join(sorted(filter(None, set(kept)))) or "none: compiled again in every process"


def _face_models() -> str:
    import numpy as np

    from moda.encoders.face import FaceModels

    started = time.perf_counter()
    models = FaceModels()
    picture = np.full((256, 256, 3), 128, np.uint8)
    faces, mask = models.find_faces(picture), models.person_mask(picture)
    if faces or not np.isfinite(mask).all():
        raise RuntimeError("the face models see a face in a grey picture")
    return f"run, {time.perf_counter() - started:.2f} s with loading"


def _rendered_frame() -> str:
    import numpy as np

    from moda.rendering.mesh.renderer import MeshRenderer
    from moda.structures import Motion, Portrait
    from moda.structures.landmarks import Similarity
    from moda.weights.spaces import load_motion_space

    started = time.perf_counter()
    space = load_motion_space()
    assert space.canonical_face is not None
    side = 256
    face = space.canonical_face.astype(np.float64)
    pose = Similarity(side / 4, np.eye(3), np.array([side / 2, side / 2, 0.0]))
    picture = np.full((side, side, 3), 128, np.uint8)
    portrait = Portrait(
        picture, pose.apply(face), picture, np.eye(2, 3), pose.apply(face),
        np.ones((side, side), np.float32), pose, face, face,
    )  # fmt: skip
    renderer = MeshRenderer(portrait, space, size=side)
    frames = list(renderer.render(Motion(np.zeros((1, space.size), np.float32), space)))
    return f"{frames[0].shape[1]} x {frames[0].shape[0]}, {time.perf_counter() - started:.2f} s"


DOCTOR_CHECKS = {
    "versions": _versions,
    "devices": _devices,
    "model files": _model_files,
    "motion model": _motion_model,
    "published models": _published_models,
    "compiled kernels": _kernel_cache,
    "face models": _face_models,
    "rendered frame": _rendered_frame,
}
