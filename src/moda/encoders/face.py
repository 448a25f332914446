"""Find faces and their 478 landmarks, follow one through a video, and mask the person.

The networks are MediaPipe's short-range face detector, attention face mesh and selfie
segmentation (Apache-2.0), converted by ``scripts/convert_face_models.py`` and run by onnxruntime
on one thread. The steps around them follow MediaPipe 0.10.21, where they can: letterbox, weighted
suppression of overlapping boxes, rotated square around the face, box of the landmarks as the next
frame's square. Two things are added: large pictures are averaged down rather than subsampled, and
faces that are small in the picture are searched for in overlapping tiles.

Coordinates are pixels of the picture, whole numbers being pixel centres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from moda.encoders.regions import FaceRegion, resize, sample_region, shrink_to, turn_points
from moda.structures import Floats, Picture
from moda.structures.landmarks import FACE_OVAL, OUTER_EYE_CORNERS, Array

DETECTOR_SIZE_PX = 128
MESH_SIZE_PX = 192
MASK_SIZE_PX = (256, 144)
"""(width, height): the network takes the whole picture, stretched."""

DETECTION_THRESHOLD = 0.5
TILE_DETECTION_THRESHOLD = 0.75
"""Stricter than in the whole picture: among hundreds of tiles one or another looks like a face."""
PRESENCE_THRESHOLD, SURE_PRESENCE = 0.5, 0.97
"""Less sure faces, such as one seen in a crumpled cloth, only count where there is no sure one."""
OVERLAP_THRESHOLD = 0.3
"""Boxes that overlap more (intersection over union) are the same face."""
SAME_FACE_DISTANCE = 0.35
"""Faces whose centres are nearer, in units of the larger one's side, are the same face."""

REGION_MARGIN = 1.5
"""Side of the square that the mesh network sees over the long side of the face."""

LARGEST_MOVEMENT = 0.02
"""Mean distance of the landmarks of two looks at a face, over its side; 0.002 to 0.012 is usual."""
LARGEST_DISAGREEMENT = 0.18
"""Largest distance of the detector's points from the landmarks, over the side; 0.02 to 0.16."""
DETECTOR_LANDMARKS = (468, 473, 1, 13)
"""Landmarks that are the first four points of the detector."""

SEARCH_LEVELS = (1.0, 0.5, 2.0, 4.0, 8.0)
"""Parts of the picture that one look of the detector covers: its long side over these. Half a
level is the picture with a margin, for faces that fill it. Tiles are never enlarged."""
TILE_STRIDE_PX = DETECTOR_SIZE_PX // 2
TILES_PER_RUN = 16

REGION_FOLLOWING = 0.5
"""How much of the way to its new place the tracker's region moves per frame. All the way, as in
MediaPipe, region and landmarks keep disturbing each other: 1 % of the face on a still picture."""
NEIGHBOURHOOD = 2.5
"""Side of the part in which the tracker first looks for a lost face, in sides of its region."""
TRACKER_SEARCH_INTERVAL = 25
"""While there is no face, the tracker looks for small ones only every so many frames."""

Search = Literal["whole", "first", "all"]
"""How far to look: the whole picture only; ever smaller parts until one has a face; all parts."""


Look = tuple[float, float, float, float]
"""A face's region moved by (x, y) sides, scaled, and turned by degrees."""


class FaceDetection(NamedTuple):
    """What the detector says of one face."""

    score: float
    """0..1"""
    box: Floats
    """(4,) left, top, right, bottom, from the brows to the chin"""
    points: Floats
    """(6, 2) right eye, left eye, nose tip, mouth, right and left ear; the person's own sides"""

    @property
    def region(self) -> FaceRegion:
        """Where the mesh network should look."""
        right_eye, left_eye = self.points[:2].astype(np.float64)
        return _region(self.box.tolist(), right_eye, left_eye)


@dataclass(frozen=True)
class FaceLandmarks:
    """The mesh of one face."""

    points: Array  # (478, 3)
    presence: float
    """0..1, how sure the network is that it sees a face"""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of all points."""
        left, top = self.points[:, :2].min(0)
        right, bottom = self.points[:, :2].max(0)
        return float(left), float(top), float(right), float(bottom)

    @property
    def height(self) -> float:
        """Distance from the top to the bottom of the face oval in the picture."""
        return float(np.ptp(self.points[list(FACE_OVAL), 1]))

    @property
    def region(self) -> FaceRegion:
        """Where to look for this face again, in the same picture or the next frame."""
        right_eye, left_eye = self.points[list(OUTER_EYE_CORNERS), :2]
        return _region(self.box, right_eye, left_eye)


def _region(box: Sequence[float], right_eye: Array, left_eye: Array) -> FaceRegion:
    left, top, right, bottom = (float(edge) for edge in box)
    across = left_eye - right_eye
    side = REGION_MARGIN * max(right - left, bottom - top)
    roll = float(np.arctan2(across[1], across[0]))
    return FaceRegion(0.5 * (left + right), 0.5 * (top + bottom), side, roll)


class FaceModels:
    """The three networks. Loading takes about 0.3 s; calls are safe from several threads.

    Args:
        device: ``cpu``, or ``cuda`` or ``mps`` where the installed onnxruntime supports it; it
            falls back to the CPU.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._detector = _load_network("face_detector.onnx", device)
        self._mesh = _load_network("face_mesh.onnx", device)
        self._person = _load_network("person_mask.onnx", device)
        self._anchors = _detector_anchors()

    def landmarks(self, image: Picture, region: FaceRegion) -> FaceLandmarks | None:
        """Landmarks of the face in a region; None if the network sees no face there."""
        crop = sample_region(image, region, MESH_SIZE_PX, border=cv2.BORDER_REPLICATE)
        points, presence = self._mesh.run(("points", "presence"), {"images": crop[None]})
        presence = float(_sigmoid(presence[0]))
        if not presence >= PRESENCE_THRESHOLD:
            return None
        local = points[0].astype(np.float64) / MESH_SIZE_PX * region.side
        offset = local[:, :2] - 0.5 * region.side
        cosine, sine = np.cos(region.roll), np.sin(region.roll)
        planar = offset @ np.array([[cosine, sine], [-sine, cosine]]) + (region.x, region.y)
        return FaceLandmarks(np.column_stack([planar, local[:, 2]]), presence)

    def look_again(
        self, image: Picture, landmarks: Array, looks: Sequence[Look]
    ) -> list[FaceLandmarks]:
        """What the mesh network sees in several looks at the face with landmarks (478, 3) px.

        Looks in which it sees no face are left out.
        """
        region = FaceLandmarks(landmarks, 1.0).region
        seen = []
        for right, down, scale, degrees in looks:
            look = FaceRegion(
                region.x + right * region.side,
                region.y + down * region.side,
                region.side * scale,
                region.roll + np.radians(degrees),
            )
            face = self.landmarks(image, look)
            if face is not None:
                seen.append(face)
        return seen

    def find_faces(self, image: Picture, *, search: Search = "first") -> list[FaceLandmarks]:
        """Detected faces (H, W, 3) that the mesh network confirms, sure ones, the largest first.

        The landmarks are refined once: taken a second time in the region of the first ones.
        """
        faces: list[FaceLandmarks] = []
        for detections in self._search(image, search):
            for detection in detections:
                face = self._confirm(image, detection)
                if face and not any(_is_same_face(face, other) for other in faces):
                    faces.append(face)
            if faces and search == "first":
                break
        sure = [face for face in faces if face.presence >= SURE_PRESENCE]
        return sorted(sure or faces, key=lambda face: -face.region.side)

    def _confirm(self, image: Picture, detection: FaceDetection) -> FaceLandmarks | None:
        """Landmarks of a detection, None where it is no face.

        On what is not a face the network often claims one all the same; but then a second look
        moves the landmarks, or they are not where the detector saw eyes, nose and mouth.
        """
        first = self.landmarks(image, detection.region)
        face = first and self.landmarks(image, first.region)
        if first is None or face is None:
            return None
        side = face.region.side / REGION_MARGIN
        movement = np.linalg.norm(face.points[:, :2] - first.points[:, :2], axis=1).mean()
        seen = face.points[list(DETECTOR_LANDMARKS), :2]
        disagreement = np.linalg.norm(seen - detection.points[:4], axis=1).max()
        is_sure = movement < LARGEST_MOVEMENT * side and disagreement < LARGEST_DISAGREEMENT * side
        return face if is_sure else None

    def person_mask(self, image: Picture) -> Floats:
        """Where the person is: (H, W) in 0..1 for a picture (H, W, 3)."""
        height, width = image.shape[:2]
        images = resize(image, MASK_SIZE_PX)[None]
        mask: Floats = self._person.run(("mask",), {"images": images})[0][0]
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        return np.clip(mask, 0.0, 1.0)

    def _search(self, image: Picture, search: Search) -> Iterator[list[FaceDetection]]:
        """Detections of one level after the other, in pixels of the picture."""
        base = shrink_to(image, round(DETECTOR_SIZE_PX * max(SEARCH_LEVELS)))
        ratio = max(image.shape[:2]) / max(base.shape[:2])
        for level in SEARCH_LEVELS[:1] if search == "whole" else SEARCH_LEVELS:
            if level > 1:
                if DETECTOR_SIZE_PX * level > max(base.shape[:2]):
                    return
                found = self._detect_in_tiles(base, level)
            else:
                found = self._detect_in_whole(base, level)
            yield [
                FaceDetection(score, (box + 0.5) * ratio - 0.5, (points + 0.5) * ratio - 0.5)
                for score, box, points in found
            ]

    def _detect_in_whole(self, image: Picture, level: float) -> list[FaceDetection]:
        height, width = image.shape[:2]
        region = FaceRegion(width / 2, height / 2, max(height, width) / level, 0.0)
        tile = sample_region(image, region, DETECTOR_SIZE_PX, border=cv2.BORDER_CONSTANT)
        corner = np.array([region.x, region.y], np.float32) - region.side / 2
        return self._detect_in_batch(tile[None], corner[None], region.side / DETECTOR_SIZE_PX)

    def _detect_in_tiles(self, image: Picture, level: float) -> list[FaceDetection]:
        scale = DETECTOR_SIZE_PX * level / max(image.shape[:2])
        width, height = (max(1, round(length * scale)) for length in image.shape[1::-1])
        canvas = np.zeros(
            (max(height, DETECTOR_SIZE_PX), max(width, DETECTOR_SIZE_PX), 3), np.uint8
        )
        canvas[:height, :width] = resize(image, (width, height))
        corners = np.array(
            [
                (left, top)
                for top in _tile_starts(canvas.shape[0])
                for left in _tile_starts(canvas.shape[1])
            ]
        )
        found: list[FaceDetection] = []
        for start in range(0, len(corners), TILES_PER_RUN):
            part = corners[start : start + TILES_PER_RUN]
            tiles = np.stack(
                [
                    canvas[top : top + DETECTOR_SIZE_PX, left : left + DETECTOR_SIZE_PX]
                    for left, top in part
                ]
            )
            found += self._detect_in_batch(tiles, part.astype(np.float32) / scale, 1 / scale)
        return [detection for detection in found if detection.score >= TILE_DETECTION_THRESHOLD]

    def _detect_in_batch(
        self, tiles: Picture, corners: Floats, scale: float
    ) -> list[FaceDetection]:
        """Run the detector on tiles (N, 128, 128, 3) whose left top corners lie at (N, 2) px."""
        boxes, logits = self._detector.run(("boxes", "scores"), {"images": tiles})
        found: list[FaceDetection] = []
        for tile_boxes, tile_scores, corner in zip(boxes, _sigmoid(logits), corners, strict=True):
            likely = tile_scores >= DETECTION_THRESHOLD
            if not likely.any():
                continue
            anchors = self._anchors[likely]
            places = tile_boxes[likely].reshape(-1, 8, 2)  # centre, size, six points
            centre, half_size = places[:, 0] + anchors, 0.5 * places[:, 1]
            points = np.concatenate(
                [
                    np.stack([centre - half_size, centre + half_size], axis=1),
                    places[:, 2:] + anchors[:, None],
                ],
                axis=1,
            )
            points = points * np.float32(scale) + corner
            found += _merge_overlapping(points, tile_scores[likely])
        return found


class FaceTracker:
    """Follows one face through the frames of a shot.

    It starts with the largest face, or with one by its number, where that many are seen. Later
    frames are looked at where the face was; when it is not there, first the neighbourhood and then
    the frame is searched. Of several faces the one nearest to the last known place is taken, but
    none of those that were beside it at first. Faces may lie on their sides.
    """

    def __init__(self, models: FaceModels, number: int | None = None) -> None:
        self._models = models
        self._number = number
        self.reset()

    def reset(self) -> None:
        """Forget the face: the next frame is the first one of another shot."""
        self._region: FaceRegion | None = None
        self._num_missed = 0
        self._others: list[FaceRegion] = []

    @property
    def num_others(self) -> int:
        """Faces that were beside the followed one at first."""
        return len(self._others)

    def track(self, image: Picture) -> FaceLandmarks | None:
        """Landmarks of the face in the next frame (H, W, 3), None if it is not visible."""
        if self._region and not self._num_missed:
            face = self._models.landmarks(image, self._region)
            if face:
                self._region = _follow(self._region, face.region)
                return face
        face = self._find(image)
        self._num_missed = 0 if face else self._num_missed + 1
        self._region = face.region if face else self._region
        return face

    def _find(self, image: Picture) -> FaceLandmarks | None:
        if self._region:
            face = self._find_nearby(image, self._region)
            if face:
                return face
        thorough = self._num_missed % TRACKER_SEARCH_INTERVAL == 0
        reach: Search = "first" if thorough else "whole"
        if self._region:
            return self._ours(self._look(image, reach), self._region)
        if self._number is None:
            return self._first_of(self._look(image, reach))
        return self._first_of(self._look(image, "all")) if thorough else None

    def _look(self, image: Picture, search: Search) -> list[FaceLandmarks]:
        """Faces in a picture, on their sides too where none is upright and time is taken."""
        faces = self._models.find_faces(image, search=search)
        if search != "whole" and not any(face.presence >= SURE_PRESENCE for face in faces):
            faces = self._find_turned(image) or faces
        return faces

    def _first_of(self, faces: list[FaceLandmarks]) -> FaceLandmarks | None:
        """The face to follow of those in the first frame, the largest first."""
        if len(faces) < (self._number or 1):
            return None
        chosen = faces[0]
        if self._number is not None:
            chosen = sorted(faces, key=lambda face: face.region.x)[self._number - 1]
        self._others = [face.region for face in faces if face is not chosen]
        return chosen

    def _ours(self, faces: list[FaceLandmarks], region: FaceRegion) -> FaceLandmarks | None:
        """The face nearest to our region that is none of the others; those are followed along."""
        left = list(faces)
        for index, other in enumerate(self._others):
            claimed = _nearest(left, other)
            if claimed and _distance(claimed.region, other) < _distance(claimed.region, region):
                left = [face for face in left if face is not claimed]
                self._others[index] = claimed.region
        return _nearest(left, region)

    def _find_turned(self, image: Picture) -> list[FaceLandmarks]:
        """Faces of a picture turned onto its sides and its head."""
        for quarter_turns in (1, 3, 2):
            turned = np.ascontiguousarray(np.rot90(image, quarter_turns))
            faces = self._models.find_faces(turned, search="whole")
            if any(face.presence >= SURE_PRESENCE for face in faces):
                size = turned.shape[1], turned.shape[0]
                return [
                    FaceLandmarks(turn_points(face.points, size, -quarter_turns), face.presence)
                    for face in faces
                ]
        return []

    def _find_nearby(self, image: Picture, region: FaceRegion) -> FaceLandmarks | None:
        reach = 0.5 * NEIGHBOURHOOD * region.side
        left, top = max(0, round(region.x - reach)), max(0, round(region.y - reach))
        right, bottom = round(region.x + reach), round(region.y + reach)
        part = image[top : max(bottom, 0), left : max(right, 0)]
        if not part.size:
            return None
        offset = np.array([left, top, 0.0])
        found = self._models.find_faces(part, search="whole")
        faces = [FaceLandmarks(face.points + offset, face.presence) for face in found]
        return self._ours(faces, region)


def _load_network(name: str, device: str) -> Any:
    kind = device.partition(":")[0]
    preferred = {"cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}.get(kind, "")
    providers = ["CPUExecutionProvider"]
    if preferred in onnxruntime.get_available_providers():
        providers.insert(0, preferred)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    model = (resources.files("moda") / "assets" / name).read_bytes()
    return onnxruntime.InferenceSession(model, options, providers=providers)


def _detector_anchors() -> Floats:
    """(896, 2) px: two per cell of a 16 x 16 grid, then six per cell of an 8 x 8 grid."""
    grids = []
    for cells, anchors_per_cell in ((16, 2), (8, 6)):
        y, x = (np.mgrid[:cells, :cells] + 0.5) * (DETECTOR_SIZE_PX / cells)
        grids.append(np.stack([x, y], -1).reshape(-1, 2).repeat(anchors_per_cell, axis=0))
    return np.concatenate(grids).astype(np.float32)


def _tile_starts(length: int) -> list[int]:
    """Where tiles start so that they overlap by half or more and cover the whole length."""
    span = length - DETECTOR_SIZE_PX
    return [round(start) for start in np.linspace(0, span, -(-span // TILE_STRIDE_PX) + 1)]


def _merge_overlapping(points: Floats, scores: Floats) -> list[FaceDetection]:
    """Weighted non-maximum suppression: each face is the mean of its boxes, by their scores.

    Args:
        points: (N, 8, 2) left top, right bottom, six points.
        scores: (N,).
    """
    boxes = points[:, :2].reshape(-1, 4)
    left = np.argsort(-scores, kind="stable")
    found = []
    while len(left):
        best = left[0]
        same = _overlap(boxes[best], boxes[left]) > OVERLAP_THRESHOLD
        same[0] = True
        group, left = left[same], left[~same]
        mean = np.average(points[group], axis=0, weights=scores[group]).astype(np.float32)
        found.append(FaceDetection(float(scores[best]), mean[:2].reshape(4), mean[2:]))
    return found


def _overlap(box: Floats, others: Floats) -> Floats:
    """Intersection over union of a box (4,) with others (N, 4) -> (N,)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    union = areas + (box[2:] - box[:2]).prod() - shared
    return shared / np.maximum(union, np.float32(1e-6))


def _distance(region: FaceRegion, other: FaceRegion) -> float:
    return float(np.hypot(region.x - other.x, region.y - other.y))


def _is_same_face(face: FaceLandmarks, other: FaceLandmarks) -> bool:
    side = max(face.region.side, other.region.side) / REGION_MARGIN
    return _distance(face.region, other.region) < SAME_FACE_DISTANCE * side


def _nearest(faces: list[FaceLandmarks], region: FaceRegion) -> FaceLandmarks | None:
    return min(faces, key=lambda face: _distance(face.region, region), default=None)


def _follow(region: FaceRegion, target: FaceRegion) -> FaceRegion:
    """The region, moved towards a target; the roll takes the shorter way round."""
    turn = (target.roll - region.roll + np.pi) % (2 * np.pi) - np.pi
    step = np.array([target.x - region.x, target.y - region.y, target.side - region.side, turn])
    return FaceRegion(*(np.array(region) + REGION_FOLLOWING * step).tolist())


def _sigmoid(logits: NDArray[Any]) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
