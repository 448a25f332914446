"""The neural renderer: LivePortrait's networks draw the face, the photograph stays around it.

    picture -> appearance --.
    own key points ---------+-> prepared once per portrait
                            |
    motion -> driven key points -> [eyes, lips] -> stitching -> warping -> generator -> paste

Source of the composition: LivePortrait (arXiv 2407.03168, section 3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from moda.config import Precision
from moda.devices import computing_in, free_memory, lacks_memory
from moda.errors import InputError
from moda.rendering.neural.networks import RenderingNetworks
from moda.rendering.neural.pasting import CROP_SIZE_PX, Paster, limited_picture
from moda.rendering.neural.warping import WarpSource
from moda.rendering.placing import check_frame_size, compose_affine, invert_affine, scaled_picture
from moda.structures import Motion, MotionSpace, NeuralPortrait, Picture
from moda.structures.keypoints import MOTION_SIZE, driving_keypoints, place_keypoints
from moda.structures.landmarks import Array, eye_openings, lip_opening

APPEARANCE_SIZE_PX = 256
CPU_BATCH_SIZE, ACCELERATOR_BATCH_SIZE = 1, 8


class DrawnBatch(NamedTuple):
    """Squares on their way to the host."""

    squares: Tensor  # (B, 512, 512, 3) uint8, on the host
    copied: torch.cuda.Event | None
    """Reached when the squares are there; None if they are there already"""


class NeuralRenderer:
    """Renders one portrait; see :class:`moda.structures.Renderer`.

    Appearance and all that frames share are computed once, on the device that the networks are on.
    Frame i depends on row i of the motion alone, up to the rounding of another batch.

    Args:
        portrait: the face and the picture it is pasted into.
        networks: with their weights, on the device to compute on.
        space: the neural motion space.
        size: longer side of the frame in pixels, even. None is the picture's own size, at most
            1920 px, or 512 px for the crop.
        full_frame: the whole picture; otherwise only the square around the face.
        eyes: wanted openness of the portrait's own eyes, lid distance over eye width; the motion
            comes on top. None leaves them as they are. The retargeting networks were trained up to
            0.8 (arXiv 2407.03168, section 3.3).
        lips: the same for the lips, inner gap over mouth width.
        precision: of the numbers inside the networks; key points and sampling stay float32.

    Raises:
        InputError: an option is outside its limits, or the space is not the neural one.
    """

    def __init__(
        self,
        portrait: NeuralPortrait,
        networks: RenderingNetworks,
        space: MotionSpace,
        *,
        size: int | None = None,
        full_frame: bool = True,
        eyes: float | None = None,
        lips: float | None = None,
        precision: Precision = "float32",
    ) -> None:
        _check_space(space)
        self._space = space
        self._face = portrait.face
        self._precision = precision
        self._networks = networks.eval()
        self._device = next(networks.parameters()).device
        _check_precision(precision, self._device)
        is_cpu = self._device.type == "cpu"
        self._batch_size = CPU_BATCH_SIZE if is_cpu else ACCELERATOR_BATCH_SIZE
        self._paster: Paster | None = None
        self._frame_size = self._lay_out(portrait, size, full_frame)
        self._source = self._prepare(portrait.crop_image)
        self._offset = self._retarget(portrait.landmarks, eyes, lips)

    @property
    def space(self) -> MotionSpace:
        return self._space

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height) of the frames, both even."""
        return self._frame_size

    @property
    def moving(self) -> None:
        """Not known here."""

    def render(self, motion: Motion) -> Iterator[Picture]:
        """Yield one new frame (H, W, 3) per row of ``motion``, in order, as it is asked for."""
        motion.require_space(self._space)
        return self._frames(motion)

    def _frames(self, motion: Motion) -> Iterator[Picture]:
        driven = driving_keypoints(self._face, motion.values)
        keypoints = torch.from_numpy(driven).to(self._device)
        # On a GPU the next batch is drawn while this one is copied, pasted and encoded.
        num_ahead = 1 if self._device.type == "cuda" else 0
        waiting: deque[DrawnBatch] = deque()
        begin = 0
        while begin < len(keypoints):
            waiting.append(self._draw_what_fits(keypoints[begin:]))
            begin += len(waiting[-1].squares)
            if len(waiting) > num_ahead:
                yield from self._finish(waiting.popleft())
        while waiting:
            yield from self._finish(waiting.popleft())

    def _draw_what_fits(self, keypoints: Tensor) -> DrawnBatch:
        """The first of some frames, half as many from here on whenever memory does not suffice.

        Raises:
            InputError: There is not enough memory for a single frame.
        """
        while True:
            try:
                return self._draw(keypoints[: self._batch_size])
            except RuntimeError as error:
                if not lacks_memory(error):
                    raise
                if self._batch_size == 1:
                    raise InputError(
                        f"the memory of device {self._device} is too full to draw a frame; free "
                        "some, or choose another --device"
                    ) from error
            self._batch_size //= 2
            free_memory(self._device)  # here, where the error holds nothing any more

    @torch.inference_mode()
    def _draw(self, keypoints: Tensor) -> DrawnBatch:
        """Squares of driven key points (B, 21, 3), without waiting for them."""
        networks = self._networks
        keypoints = networks.stitch(self._source.keypoints, keypoints + self._offset)
        with computing_in(self._precision, self._device):
            pictures = networks.generator(networks.warping(self._source, keypoints).features)
        levels = (pictures.float().clamp(0, 1) * 255).to(torch.uint8)
        return _start_copy(levels.movedim(1, -1).contiguous())

    def _finish(self, batch: DrawnBatch) -> Iterator[Picture]:
        if batch.copied is not None:
            batch.copied.synchronize()
        for square in batch.squares.numpy():
            yield self._finish_frame(square)

    def _finish_frame(self, square: Picture) -> Picture:
        if self._paster is not None:
            return self._paster.paste(square)
        size = self._frame_size
        if size[0] == len(square):
            return square.copy()
        method = cv2.INTER_AREA if size[0] < len(square) else cv2.INTER_CUBIC
        return cv2.resize(square, size, interpolation=method).astype(np.uint8, copy=False)

    def _lay_out(
        self, portrait: NeuralPortrait, size: int | None, full_frame: bool
    ) -> tuple[int, int]:
        """Prepare the plate, if there is one; (width, height) of the frames."""
        if size is not None:
            check_frame_size(size)
        if not full_frame:
            return (CROP_SIZE_PX, CROP_SIZE_PX) if size is None else (size, size)
        if size is None:
            plate, plate_from_image = limited_picture(portrait.image)
        else:
            plate, plate_from_image = scaled_picture(portrait.image, size)
        plate_from_crop = compose_affine(plate_from_image, invert_affine(portrait.crop_from_image))
        self._paster = Paster(plate, plate_from_crop)
        return self._paster.frame_size

    @torch.inference_mode()
    def _prepare(self, crop: Picture) -> WarpSource:
        """What all frames share: the appearance, and the portrait's own key points."""
        size = (APPEARANCE_SIZE_PX, APPEARANCE_SIZE_PX)
        small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        picture = torch.from_numpy(small).to(self._device) / 255
        own = place_keypoints(self._face.canonical_keypoints, self._face.motion)
        keypoints = torch.from_numpy(own[None]).to(self._device)
        appearance = self._networks.appearance(picture.movedim(-1, 0)[None])
        return self._networks.warping.prepare(appearance, keypoints)

    @torch.inference_mode()
    def _retarget(self, landmarks: Array, eyes: float | None, lips: float | None) -> Tensor:
        """Offset (1, 21, 3) of the key points that opens or closes the portrait's eyes and lips."""
        own = self._source.keypoints
        offset = torch.zeros_like(own)
        if eyes is not None:
            ratios = self._ratios(*eye_openings(landmarks), eyes)
            offset = offset + self._networks.eye_offset(own, ratios)
        if lips is not None:
            ratios = self._ratios(float(lip_opening(landmarks)), lips)
            offset = offset + self._networks.lip_offset(own, ratios)
        return offset

    def _ratios(self, *values: float) -> Tensor:
        return torch.tensor([values], dtype=torch.float32, device=self._device)


def _check_space(space: MotionSpace) -> None:
    if space.name != "neural" or space.size != MOTION_SIZE:
        raise InputError(
            f"the {space.name} motion space has {space.size} parameters; "
            f"the neural renderer needs the neural one with {MOTION_SIZE}"
        )


def _check_precision(precision: str, device: torch.device) -> None:
    if precision not in get_args(Precision):
        raise InputError(
            f"unknown precision {precision!r}; choose one of {', '.join(get_args(Precision))}"
        )
    if precision == "float16" and device.type == "cpu":
        raise InputError("precision float16 is for GPUs; use float32 on a CPU")
    if precision == "tf32" and device.type != "cuda":
        raise InputError("precision tf32 is for NVIDIA's GPUs; use float32")


def _start_copy(squares: Tensor) -> DrawnBatch:
    """Begin to copy pictures (B, H, W, 3) to the host."""
    if squares.device.type != "cuda":
        return DrawnBatch(squares.cpu(), None)
    on_host = torch.empty(squares.shape, dtype=squares.dtype, pin_memory=True)
    on_host.copy_(squares, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return DrawnBatch(on_host, copied)
