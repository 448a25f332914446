"""MoDA as an avatar of LiveKit Agents: the voice of an agent gets a face, on a CPU."""

from livekit.agents import Plugin

from .avatar import AvatarSession
from .face import Face
from .generator import VideoGenerator
from .log import logger
from .version import __version__

__all__ = ["AvatarSession", "Face", "VideoGenerator", "__version__"]


class MoDAPlugin(Plugin):
    """How the plugin is known to LiveKit Agents."""

    def __init__(self) -> None:
        super().__init__(__name__, __version__, __package__ or __name__, logger)


Plugin.register_plugin(MoDAPlugin())
