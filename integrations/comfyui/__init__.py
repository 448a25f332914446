"""MoDA as nodes of ComfyUI. Copy or link this folder to ComfyUI/custom_nodes/moda.

Loading it runs nothing and installs nothing; MoDA itself has to be installed in the same Python.
"""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
