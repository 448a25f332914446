"""MoDA: a portrait and a speech recording become a talking-head video."""

__version__ = "0.1.0"
