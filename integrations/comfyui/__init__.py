"""MoDA as nodes of ComfyUI. Copy or link this folder to ComfyUI/custom_nodes/moda.

Loading it runs nothing and installs nothing; MoDA itself has to be installed in the same Python.
"""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
