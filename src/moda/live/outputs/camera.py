"""Live pictures as a virtual camera, which any program that takes a webcam can use."""

from __future__ import annotations

from moda.errors import MissingExtraError, OutputError
from moda.live.head import LiveFrame
from moda.structures import FRAMES_PER_SECOND

INSTALL = "a virtual camera needs pyvirtualcam; install it with: pip install pyvirtualcam"


class CameraOutput:
    """Shows pictures in the camera of OBS (Windows, macOS) or of v4l2loopback (Linux).

    A camera has no sound: play that of the frames through a virtual sound device.

    Args:
        frame_size: (width, height)
        device: its name, where there are several; None takes the first.

    Raises:
        MissingExtraError: pyvirtualcam is not installed.
        OutputError: There is no virtual camera.
    """

    def __init__(self, frame_size: tuple[int, int], device: str | None = None) -> None:
        try:
            import pyvirtualcam
        except ImportError:
            raise MissingExtraError(INSTALL) from None
        width, height = frame_size
        try:
            self._camera = pyvirtualcam.Camera(
                width=width, height=height, fps=FRAMES_PER_SECOND, device=device
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0] if str(error) else "no reason given"
            raise OutputError(
                f"there is no virtual camera ({reason}); install OBS, or on Linux v4l2loopback"
            ) from None
        self.device = str(self._camera.device)
        """What other programs call it."""

    def show(self, frame: LiveFrame) -> None:
        """Show a frame; one without a picture leaves the last."""
        if frame.picture is not None:
            self._camera.send(frame.picture)

    def close(self) -> None:
        """Give the camera back."""
        self._camera.close()
