"""The neural renderer at a tiny size: its frames are the published formulas, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from device_double import DeviceDouble
from moda.encoders.face import FaceModels
from moda.encoders.neural.face_crop import crop_geometry, crop_picture, crop_points
from moda.encoders.portrait import choose_face
from moda.errors import InputError
from moda.rendering.neural import renderer as neural_renderer
from moda.rendering.neural.layers import RenderingConfig
from moda.rendering.neural.networks import RenderingNetworks
from moda.rendering.neural.optimising import optimise
from moda.rendering.neural.pasting import Paster
from moda.rendering.neural.renderer import NeuralRenderer
from moda.structures import ImplicitFace, Motion, MotionSpace, NeuralPortrait, Picture
from moda.structures.keypoints import driving_keypoints, place_keypoints
from moda.structures.landmarks import eye_openings, lip_opening
from published_weights import fill, noise

TINY = RenderingConfig(
    picture_channels=(4, 4, 4),
    volume_channels=4,
    volume_depth=2,
    num_residual_blocks=1,
    compressed_channels=1,
    hourglass_channels=(2, 2, 2),
    feature_channels=8,
    generator_channels=(8, 4, 4),
    spade_hidden=4,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The networks are tiny: on a busy machine more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made_networks(config: RenderingConfig) -> RenderingNetworks:
    networks = RenderingNetworks(config)
    shapes = {key: tuple(value.shape) for key, value in networks.state_dict().items()}
    networks.load_state_dict(fill("tiny", shapes))
    return networks.eval()


@pytest.fixture(scope="module")
def networks() -> RenderingNetworks:
    return made_networks(TINY)


@pytest.fixture(scope="module")
def neural_space() -> MotionSpace:
    zeros = np.zeros(70, np.float32)
    return MotionSpace("neural", (("expression", 63),), zeros, zeros + 1, "camera")


@pytest.fixture(scope="module")
def neural_portrait(photograph: Picture, models: FaceModels) -> NeuralPortrait:
    landmarks = choose_face(photograph, models, None).points
    geometry = crop_geometry(crop_points(landmarks))
    motion = (0.02 * noise("portrait", 70)).numpy()
    motion[63] = 1.3
    keypoints = (0.3 * noise("keypoints", 21, 3)).numpy()
    crop = crop_picture(photograph, geometry)
    return NeuralPortrait(
        photograph, landmarks, crop, geometry.crop_from_image, ImplicitFace(keypoints, motion)
    )


@pytest.fixture(scope="module")
def motion(neural_space: MotionSpace) -> Motion:
    """Three frames that turn, move and speak."""
    values = (0.05 * noise("motion", 3, 70)).numpy()
    values[:, 63] = 1.0 + 0.1 * np.arange(3)
    values[:, 67:] = 12 * noise("angles", 3, 3).numpy()
    return Motion(values, neural_space)


@torch.inference_mode()
def squares(
    networks: RenderingNetworks, portrait: NeuralPortrait, keypoints: np.ndarray
) -> Picture:
    """What the networks draw of key points (B, 21, 3), all at once: (B, 512, 512, 3)."""
    small = cv2.resize(portrait.crop_image, (256, 256), interpolation=cv2.INTER_AREA)
    appearance = networks.appearance(torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255)
    own = place_keypoints(portrait.face.canonical_keypoints, portrait.face.motion)[None]
    source = networks.warping.prepare(appearance, torch.from_numpy(own))
    pictures = networks.generator(networks.warping(source, torch.from_numpy(keypoints)).features)
    return (pictures.clip(0, 1).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)


def stitched(
    networks: RenderingNetworks, portrait: NeuralPortrait, keypoints: np.ndarray
) -> np.ndarray:
    """Stitching written out: 63 offsets, and a shift of all points in the plane."""
    own = place_keypoints(portrait.face.canonical_keypoints, portrait.face.motion)
    pairs = np.stack([np.concatenate([own.ravel(), row.ravel()]) for row in keypoints])
    with torch.inference_mode():
        correction = networks.stitching.mlp(torch.from_numpy(pairs)).numpy()
    result = keypoints + correction[:, :63].reshape(-1, 21, 3)
    result[:, :, :2] += correction[:, None, 63:]
    return result


@pytest.fixture(scope="module")
def expected(
    networks: RenderingNetworks, neural_portrait: NeuralPortrait, motion: Motion
) -> Picture:
    """The three squares of the published way."""
    driven = driving_keypoints(neural_portrait.face, motion.values)
    return squares(networks, neural_portrait, stitched(networks, neural_portrait, driven))


def differences(frames: Any, others: Any) -> np.ndarray:
    return np.abs(np.asarray(frames).astype(int) - np.asarray(others))


class TestFrames:
    def test_crop_is_what_the_networks_draw(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
        expected: Picture,
    ) -> None:
        renderer = NeuralRenderer(neural_portrait, networks, neural_space, full_frame=False)
        assert renderer.frame_size == (512, 512)
        assert renderer.space is neural_space
        frames = list(renderer.render(motion))
        assert len(frames) == 3
        assert differences(frames, expected).max() <= 1
        assert expected.std() > 10
        assert differences(frames[0], frames[1]).mean() > 1  # another motion, another picture

    def test_full_frame_is_the_square_in_the_photograph(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
        expected: Picture,
    ) -> None:
        renderer = NeuralRenderer(neural_portrait, networks, neural_space)
        assert renderer.frame_size == neural_portrait.image.shape[1::-1]
        back = cv2.invertAffineTransform(neural_portrait.crop_from_image)
        paster = Paster(neural_portrait.image, back)
        frame = next(renderer.render(motion))
        assert differences(frame, paster.paste(expected[0])).max() <= 1
        assert differences(frame, neural_portrait.image).max() > 50
        np.testing.assert_array_equal(frame[-20:], neural_portrait.image[-20:])

    def test_batches_do_not_matter(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
        expected: Picture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(neural_renderer, "CPU_BATCH_SIZE", 2)
        renderer = NeuralRenderer(neural_portrait, networks, neural_space, full_frame=False)
        frames = list(renderer.render(motion))
        assert len(frames) == 3
        assert differences(frames, expected).max() <= 1

    def test_frames_are_drawn_when_asked_for(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        renderer = NeuralRenderer(neural_portrait, networks, neural_space)
        drawn = []
        draw = networks.generator.forward
        monkeypatch.setattr(
            networks.generator, "forward", lambda features: drawn.append(1) or draw(features)
        )
        frames = renderer.render(motion)
        assert not drawn
        assert len(list(islice(frames, 2))) == 2
        assert len(drawn) == 2
        # the consumer's own tensors are not touched by the renderer's mode
        assert torch.zeros(1, requires_grad=True).exp().requires_grad

    def test_same_motion_same_bits(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
    ) -> None:
        renderer = NeuralRenderer(neural_portrait, networks, neural_space)
        before = motion.values.copy(), neural_portrait.face.motion.copy()
        first, second = next(renderer.render(motion)), next(renderer.render(motion))
        np.testing.assert_array_equal(first, second)
        first[:] = 0
        assert second.any()
        np.testing.assert_array_equal(motion.values, before[0])
        np.testing.assert_array_equal(neural_portrait.face.motion, before[1])


class TestSize:
    @pytest.mark.parametrize(
        ("size", "full_frame", "frame_size"),
        [
            (None, True, (300, 402)),
            (256, True, (192, 256)),
            (256, False, (256, 256)),
            (700, False, (700, 700)),
        ],
    )
    def test_frames(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
        size: int | None,
        full_frame: bool,
        frame_size: tuple[int, int],
    ) -> None:
        moved = neural_portrait.crop_from_image.copy()
        moved[:, 2] += 60 * moved[:, 0]
        upright = replace(
            neural_portrait, image=neural_portrait.image[:403, 60:361], crop_from_image=moved
        )
        renderer = NeuralRenderer(upright, networks, neural_space, size=size, full_frame=full_frame)
        assert renderer.frame_size == frame_size
        frame = next(renderer.render(motion))
        assert frame.shape == (*frame_size[::-1], 3)
        assert frame.dtype == np.uint8

    def test_size_moves_the_face_along(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
    ) -> None:
        large, small = (
            next(NeuralRenderer(neural_portrait, networks, neural_space, size=size).render(motion))
            for size in (512, 256)
        )
        reduced = cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA)
        assert differences(small, reduced).mean() < 2


class TestRetargeting:
    def test_offsets_come_before_stitching(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
    ) -> None:
        face, landmarks = neural_portrait.face, neural_portrait.landmarks
        own = torch.from_numpy(place_keypoints(face.canonical_keypoints, face.motion))
        right, left = eye_openings(landmarks)
        eyes = torch.tensor([*own.ravel(), right, left, 0.5], dtype=torch.float32)
        lips = torch.tensor([*own.ravel(), lip_opening(landmarks), 0.1], dtype=torch.float32)
        with torch.inference_mode():
            offset = networks.eye.mlp(eyes[None]) + networks.lip.mlp(lips[None])
        driven = driving_keypoints(face, motion.values[:2]) + offset.numpy().reshape(21, 3)
        expected = squares(networks, neural_portrait, stitched(networks, neural_portrait, driven))
        renderer = NeuralRenderer(
            neural_portrait, networks, neural_space, full_frame=False, eyes=0.5, lips=0.1
        )
        frames = list(islice(renderer.render(motion), 2))
        assert differences(frames, expected).max() <= 1

    def test_openings_of_a_real_face(self, neural_portrait: NeuralPortrait) -> None:
        """She smiles with open eyes; with lids and lips closed both are zero."""
        landmarks = neural_portrait.landmarks.copy()
        assert (np.abs(eye_openings(landmarks) - 0.3) < 0.15).all()
        landmarks[[159, 386, 13]] = landmarks[[145, 374, 14]]
        np.testing.assert_array_equal(eye_openings(landmarks), [0.0, 0.0])
        assert lip_opening(landmarks) == 0.0


class TestDevices:
    @pytest.mark.parametrize("folded", [False, True])
    def test_the_same_frames_on_another_device(
        self,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
        device: DeviceDouble,
        folded: bool,
    ) -> None:
        networks = made_networks(replace(TINY, generator_channels=(8, 6, 4)))
        moved = deepcopy(networks).to("mps")
        if folded:
            optimise(moved)
        renderer, plain = (
            NeuralRenderer(
                neural_portrait, drawing, neural_space, full_frame=False, eyes=0.3, lips=0.1
            )
            for drawing in (moved, networks)
        )
        device.copies.clear()
        frames = list(renderer.render(motion))
        assert device.copies == ["in", "out"]  # all key points at once, all squares of a batch
        assert differences(frames, list(plain.render(motion))).max() <= 1

    def test_memory_that_does_not_suffice_makes_batches_smaller(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
        expected: Picture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(neural_renderer, "CPU_BATCH_SIZE", 8)
        renderer = NeuralRenderer(neural_portrait, networks, neural_space, full_frame=False)
        sizes = with_memory_for(networks, 2, monkeypatch)
        frames = list(renderer.render(motion))
        assert sizes == [3, 3, 2, 1]  # 8 wanted, 4 wanted, then two at a time
        assert differences(frames, expected).max() <= 1
        sizes.clear()
        list(renderer.render(motion))
        assert sizes == [2, 1]  # nothing is tried again

    def test_memory_that_never_suffices(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        renderer = NeuralRenderer(neural_portrait, networks, neural_space, full_frame=False)
        with_memory_for(networks, 0, monkeypatch)
        with pytest.raises(InputError, match="memory of device cpu is too full to draw a frame"):
            list(renderer.render(motion))

    def test_other_errors_are_not_taken_for_it(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        motion: Motion,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        renderer = NeuralRenderer(neural_portrait, networks, neural_space, full_frame=False)
        with_memory_for(networks, 0, monkeypatch, RuntimeError("device-side assert"))
        with pytest.raises(RuntimeError, match="device-side assert"):
            list(renderer.render(motion))


def with_memory_for(
    networks: RenderingNetworks,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
    error: RuntimeError | None = None,
) -> list[int]:
    """Let the generator fail on more frames at once; how many it was given each time."""
    error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    sizes: list[int] = []
    draw = networks.generator.forward

    def forward(features: torch.Tensor) -> torch.Tensor:
        sizes.append(len(features))
        if len(features) > most:
            raise error
        return draw(features)

    monkeypatch.setattr(networks.generator, "forward", forward)
    return sizes


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 255}, "even number"),
            ({"precision": "int8"}, "unknown precision 'int8'"),
            ({"precision": "float16"}, "use float32 on a CPU"),
            ({"precision": "tf32"}, "tf32 is for NVIDIA's GPUs; use float32"),
        ],
    )
    def test_options(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        options: dict[str, Any],
        message: str,
    ) -> None:
        with pytest.raises(InputError, match=message):
            NeuralRenderer(neural_portrait, networks, neural_space, **options)

    def test_other_spaces(
        self,
        networks: RenderingNetworks,
        neural_portrait: NeuralPortrait,
        neural_space: MotionSpace,
        space: MotionSpace,
    ) -> None:
        with pytest.raises(InputError, match="needs the neural one"):
            NeuralRenderer(neural_portrait, networks, space)
        renderer = NeuralRenderer(neural_portrait, networks, neural_space)
        with pytest.raises(InputError, match="motion of the mesh space"):
            renderer.render(Motion(np.zeros((1, space.size), np.float32), space))
