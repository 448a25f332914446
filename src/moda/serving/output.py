"""Both sides of a live session: where its frames go, and what a client does with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from moda.serving.protocol import Control

if TYPE_CHECKING:
    from moda.live import LiveFrame
    from moda.structures import Floats


class Output(Protocol):
    """Where the frames of a session go."""

    def show(self, frame: LiveFrame) -> None: ...

    def tell(self, event: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Session(Protocol):
    """What a client's sound and messages reach."""

    def push(self, samples: Floats) -> None: ...

    def control(self, message: Control) -> None: ...

    def end(self, reason: str) -> None: ...
