"""Metrics that need networks of others: what is here is measured, what is not says what gets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from moda.errors import CheckpointError, MissingExtraError
from moda.evaluation.metrics import RunningGaussian, frechet_distance
from moda.evaluation.videos.metrics import METRICS
from moda.evaluation.videos.networks import i3d, identity, syncnet
from moda.evaluation.videos.networks.face_embedding import (
    FaceEmbedder,
    embed_chips,
    embed_faces,
    face_chip,
    load_face_embedder,
)
from moda.evaluation.videos.networks.weights import find_weights, load_network
from moda.evaluation.videos.protocol import ROW_NAMES
from moda.evaluation.videos.references import Reference, resized
from moda.structures import Picture
from moda.structures.landmarks import Array
from moda.weights.catalogue import ARCFACE, I3D, METRIC_NETWORKS, SFACE, SYNCNET

REAL = ROW_NAMES[0]
INSTALL = "pip install '.[evaluate]'"
IDENTITY_EVERY = 5
"""Frames between those whose face is recognised; neighbours say the same."""
BATCH = 16
INCEPTION_SIZE = 2048
"""Features of a frame for FID. Below one frame more a covariance cannot have full rank."""
MIN_FACES = 256
"""Frames, beside those that became portraits, from which a covariance of face embeddings is worth
taking: twice the numbers of an embedding."""


class Scorer:
    """Looks at the frames of one video after the other."""

    def start(self, row: str, reference: Reference, landmarks: Array) -> None:
        """A video begins; its landmarks (T, 478, 3) lie on the frames that follow."""

    def see(self, index: int, picture: Picture, real: Picture | None) -> None:
        """A frame, and the real one where they may be compared."""

    def finish(self) -> dict[str, float]:
        """Figures of the video."""
        return {}

    def of_rows(self) -> dict[str, dict[str, float]]:
        """Figures of all videos of each row together."""
        return {}

    def left_out(self) -> list[Absent]:
        """What could not be measured of the videos that were seen."""
        return []


class Absent(NamedTuple):
    """Metrics that are left out."""

    metrics: str
    reason: str
    command: str = ""
    """what gets them; empty: nothing to be typed does"""


class SyncScorer(Scorer):
    """Sync-C and Sync-D."""

    def __init__(self, network: syncnet.SyncNet) -> None:
        self._network = network

    def start(self, row: str, reference: Reference, landmarks: Array) -> None:
        self._samples = reference.samples
        self._centres, self._halves = syncnet.face_square(landmarks)
        self._lips = syncnet.LipEmbedder(self._network)

    def see(self, index: int, picture: Picture, real: Picture | None) -> None:
        if index < len(self._centres):
            place = self._centres[index], float(self._halves[index])
            self._lips.see(syncnet.crop_face(picture, *place))

    def finish(self) -> dict[str, float]:
        lips = self._lips.finish()
        speech = syncnet.embed_speech(self._network, self._samples, len(lips))
        count = min(len(lips), len(speech))
        if count == 0:
            return {}
        score = syncnet.sync_score(lips[:count], speech[:count])
        return {"sync_confidence": score.confidence, "sync_distance": score.distance}


class IdentityScorer(Scorer):
    """CSIM against the portrait, mean over the frames but the one that became the portrait."""

    def __init__(self, key: str, embed: identity.Embed) -> None:
        self._key, self._embed = key, embed

    def start(self, row: str, reference: Reference, landmarks: Array) -> None:
        face = identity.align_face(reference.portrait, reference.portrait_landmarks)
        self._portrait, self._landmarks = self._embed(face), landmarks
        self._source_index = reference.source_index
        self._cosines: list[float] = []

    def see(self, index: int, picture: Picture, real: Picture | None) -> None:
        if index == self._source_index or index >= len(self._landmarks):
            return
        if index % IDENTITY_EVERY == 0:
            face = identity.align_face(picture, self._landmarks[index])
            self._cosines.append(identity.cosine(self._portrait, self._embed(face)))

    def finish(self) -> dict[str, float]:
        return {self._key: float(np.mean(self._cosines))} if self._cosines else {}


Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class PerceptualScorer(Scorer):
    """LPIPS against the real frames, mean over the frames."""

    def __init__(self, distance: Distance) -> None:
        self._distance = distance

    def start(self, row: str, reference: Reference, landmarks: Array) -> None:
        self._values: list[float] = []

    @torch.inference_mode()
    def see(self, index: int, picture: Picture, real: Picture | None) -> None:
        if real is not None:
            pair = [
                torch.from_numpy(frame.astype(np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None]
                for frame in (picture, real)
            ]
            self._values.append(float(self._distance(*pair)))

    def finish(self) -> dict[str, float]:
        return {"lpips": float(np.mean(self._values))} if self._values else {}


Features = Callable[[NDArray[np.uint8]], Array]
"""Pictures or pieces of video to features (N, n)."""


class FrechetScorer(Scorer):
    """FID or FVD of a row against the real videos: features of pieces of ``piece`` frames.

    The square in the middle is taken of frames that are none, in the size the network sees. The
    frame that became the portrait counts in no row, and no piece reaches across it.

    Args:
        least: pieces of a row from which its covariance is worth taking.
    """

    def __init__(
        self, key: str, features: Features, *, piece: int, size_px: int, least: int
    ) -> None:
        self._key, self._features = key, features
        self._piece, self._size_px, self._least = piece, size_px, least
        self._gaussians: dict[str, RunningGaussian] = {}

    def start(self, row: str, reference: Reference, landmarks: Array) -> None:
        self._row, self._has_real = row, reference.real is not None
        self._source_index = reference.source_index
        self._pending: list[Picture] = []
        self._gaussians.setdefault(row, RunningGaussian())

    def see(self, index: int, picture: Picture, real: Picture | None) -> None:
        if not self._has_real:
            return
        if index == self._source_index:
            if self._piece > 1:
                self._pending = []
            return
        self._pending.append(middle_square(picture, self._size_px))
        if len(self._pending) == max(self._piece, BATCH):
            self._flush()

    def finish(self) -> dict[str, float]:
        if self._pending and self._piece == 1:
            self._flush()
        return {}

    def of_rows(self) -> dict[str, dict[str, float]]:
        return distances_from_real(self._key, self._gaussians, self._least)

    def left_out(self) -> list[Absent]:
        what = "frames" if self._piece == 1 else f"pieces of {self._piece} frames"
        return too_few(self._key, self._gaussians, self._least, what)

    def _flush(self) -> None:
        frames = np.stack(self._pending)
        self._pending = []
        self._gaussians[self._row].add(self._features(frames))


def middle_square(picture: Picture, size_px: int) -> Picture:
    """(size, size, 3) the largest square in the middle."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(picture[top : top + side, left : left + side], (size_px, size_px))


def distances_from_real(
    key: str, gaussians: Mapping[str, RunningGaussian], least: int
) -> dict[str, dict[str, float]]:
    """Fréchet distances of the rows from the real videos; none of fewer features than ``least``."""
    real = gaussians.get(REAL, RunningGaussian())
    return {
        row: {key: frechet_distance(gaussian, real)}
        for row, gaussian in gaussians.items()
        if row != REAL and min(gaussian.count, real.count) >= least
    }


def too_few(
    key: str, gaussians: Mapping[str, RunningGaussian], least: int, what: str
) -> list[Absent]:
    """What the report says of a Fréchet distance whose rows have fewer features than ``least``."""
    few = [f"{row} has {found.count}" for row, found in gaussians.items() if found.count < least]
    reason = f"it takes {least} {what} beside the source frames, {', '.join(few)}"
    return [Absent(METRICS[key].label, reason)] if few else []


class FaceScorer(Scorer):
    """Stand-ins for CSIM and FID in the space of the package's own face embedding.

    Identity similarity is the cosine with the portrait, mean over the frames. The Fréchet distance
    is that of the faces of a row from those of the real videos. The frame that became the portrait
    counts in neither.
    """

    def __init__(self, network: FaceEmbedder, *, min_faces: int = MIN_FACES) -> None:
        self._network, self._min_faces = network, min_faces
        self._gaussians: dict[str, RunningGaussian] = {}

    def start(self, row: str, reference: Reference, landmarks: Array) -> None:
        self._landmarks, self._source_index = landmarks, reference.source_index
        (self._portrait,) = embed_faces(
            self._network, [reference.portrait], reference.portrait_landmarks[None]
        )
        self._gaussian = RunningGaussian()
        if reference.real is not None:
            self._gaussian = self._gaussians.setdefault(row, RunningGaussian())
        self._chips: list[Picture] = []
        self._cosines: list[float] = []

    def see(self, index: int, picture: Picture, real: Picture | None) -> None:
        if index >= len(self._landmarks) or index == self._source_index:
            return
        self._chips.append(face_chip(picture, self._landmarks[index]))
        if len(self._chips) == BATCH:
            self._flush()

    def finish(self) -> dict[str, float]:
        self._flush()
        return {"identity_similarity": float(np.mean(self._cosines))} if self._cosines else {}

    def of_rows(self) -> dict[str, dict[str, float]]:
        return distances_from_real("face_frechet", self._gaussians, self._min_faces)

    def left_out(self) -> list[Absent]:
        return too_few("face_frechet", self._gaussians, self._min_faces, "frames")

    def _flush(self) -> None:
        embeddings = embed_chips(self._network, self._chips)
        self._chips = []
        self._cosines += [identity.cosine(self._portrait, embedding) for embedding in embeddings]
        self._gaussian.add(embeddings.astype(np.float64))


def available_scorers() -> tuple[list[Scorer], list[Absent]]:
    """What can be measured on this machine, and what cannot, each with the command that helps."""
    scorers: list[Scorer] = [FaceScorer(load_face_embedder())]
    absent: list[Absent] = []
    attempts: tuple[tuple[str, str, Callable[[], Scorer]], ...] = (
        ("Sync-C, Sync-D", METRIC_NETWORKS[SYNCNET].command, _sync),
        ("CSIM (SFace)", METRIC_NETWORKS[SFACE].command, _sface),
        ("CSIM (ArcFace)", METRIC_NETWORKS[ARCFACE].command, _arcface),
        ("LPIPS", INSTALL, _perceptual),
        ("FID", INSTALL, _inception),
        ("FVD", METRIC_NETWORKS[I3D].command, _inflated),
    )
    for metrics, command, build in attempts:
        try:
            scorers.append(build())
        except (CheckpointError, MissingExtraError) as error:
            absent.append(Absent(metrics, str(error), command))
    return scorers, absent


def _weights(name: str) -> Any:
    path = find_weights(name)
    if path is None:
        raise CheckpointError(f"{METRIC_NETWORKS[name].what} is not here")
    return path


def _sync() -> Scorer:
    network = load_network(SYNCNET, _weights(SYNCNET))
    assert isinstance(network, syncnet.SyncNet)
    return SyncScorer(network)


def _sface() -> Scorer:
    return IdentityScorer("csim_sface", identity.sface(_weights(SFACE)))


def _arcface() -> Scorer:
    network = load_network(ARCFACE, _weights(ARCFACE))
    assert isinstance(network, identity.FaceNetwork)
    return IdentityScorer("csim_arcface", identity.arcface(network))


def _inflated() -> Scorer:
    network = load_network(I3D, _weights(I3D))

    @torch.inference_mode()
    def features(frames: NDArray[np.uint8]) -> Array:
        video = torch.from_numpy(frames.astype(np.float32) / 127.5 - 1.0)
        return network(video.permute(3, 0, 1, 2)[None]).double().numpy()

    return FrechetScorer(
        "fvd",
        features,
        piece=i3d.CLIP_FRAMES,
        size_px=i3d.INPUT_SIZE_PX,
        least=i3d.NUM_CLASSES + 1,
    )


def _perceptual() -> Scorer:
    try:
        import lpips  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise _missing("lpips", error) from error
    return PerceptualScorer(_fetched(lambda: lpips.LPIPS(net="alex", verbose=False)))


def _inception() -> Scorer:
    try:
        from torch_fidelity import (  # type: ignore[import-not-found,unused-ignore]
            FeatureExtractorInceptionV3,
        )
    except ImportError as error:
        raise _missing("torch-fidelity", error) from error
    network = _fetched(
        lambda: FeatureExtractorInceptionV3("inception-v3-compat", [str(INCEPTION_SIZE)]).eval()
    )

    @torch.inference_mode()
    def features(frames: NDArray[np.uint8]) -> Array:
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
        return network(pictures)[0].double().numpy()

    return FrechetScorer("fid", features, piece=1, size_px=299, least=INCEPTION_SIZE + 1)


def _missing(package: str, error: ImportError) -> MissingExtraError:
    return MissingExtraError(f"the package {package} is not installed, or not whole ({error})")


def _fetched(build: Callable[[], Any]) -> Any:
    """A network whose package downloads its weights the first time."""
    try:
        return build()
    except OSError as error:
        raise CheckpointError(f"its package could not download the weights ({error})") from error
