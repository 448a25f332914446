"""MoDA as a video service of Pipecat: the voice of a bot gets a face, on a CPU."""

from pipecat_moda.video import MoDAVideoService

__all__ = ["MoDAVideoService"]
__version__ = "0.1.0"
