"""A double of ``comfy_api.latest`` as far as the node pack uses it.

It knows the arguments of ComfyUI's own classes and no others, and checks a schema as ComfyUI does
when it asks a node what it takes: names are unique among inputs and outputs, and both methods of a
node are class methods.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

COMMON = {"display_name", "optional", "tooltip", "lazy", "raw_link", "advanced", "extra_dict"}
WIDGET = COMMON | {"default", "socketless", "force_input"}
NUMBER = WIDGET | {"min", "max", "step", "display_mode"}
KNOWN = {
    "BOOLEAN": WIDGET | {"label_on", "label_off"},
    "INT": NUMBER | {"control_after_generate"},
    "FLOAT": NUMBER | {"round"},
    "STRING": WIDGET | {"multiline", "placeholder", "dynamic_prompts"},
    "COMBO": (WIDGET | {"options", "control_after_generate", "upload"}) - {"force_input"},
}


class Part:
    """An input or an output of a node."""

    io_type: str

    def __init__(self, id: str | None = None, **settings: Any) -> None:  # noqa: A002
        self.id, self.settings = id, settings

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["settings"].get(name)


def type_of(kind: str) -> Any:
    """``io.Int`` and the like, with Input and Output."""

    class Input(Part):
        io_type = kind

        def __init__(self, id: str, **settings: Any) -> None:  # noqa: A002
            wrong = set(settings) - KNOWN.get(kind, COMMON)
            assert not wrong, f"{kind} has no {wrong}"
            super().__init__(id, **settings)

    class Output(Part):
        io_type = kind

        def __init__(
            self,
            id: str | None = None,  # noqa: A002
            display_name: str | None = None,
            tooltip: str | None = None,
            is_output_list: bool = False,
        ) -> None:
            super().__init__(id, display_name=display_name, tooltip=tooltip)

    return SimpleNamespace(Input=Input, Output=Output)


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    description: str = ""


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui


class ComfyNode:
    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        """As ComfyUI asks for it, checks included."""
        for name in ("define_schema", "execute"):
            assert inspect.ismethod(getattr(cls, name)), f"{name} is no class method"
        schema: Schema = cls.define_schema()  # type: ignore[attr-defined]
        for index, output in enumerate(schema.outputs):
            output.id = output.id or f"_{index}_{output.io_type}_"
        names = [part.id for part in (*schema.inputs, *schema.outputs)]
        assert len(set(names)) == len(names), names
        return schema


class ComfyExtension:
    async def on_load(self) -> None:
        pass


def modules() -> dict[str, ModuleType]:
    """What goes into ``sys.modules``."""
    package, latest = ModuleType("comfy_api"), ModuleType("comfy_api.latest")
    kinds = {"Boolean": "BOOLEAN", "Int": "INT", "Float": "FLOAT", "String": "STRING"}
    kinds |= {"Combo": "COMBO", "Image": "IMAGE", "Audio": "AUDIO"}
    latest.io = SimpleNamespace(  # type: ignore[attr-defined]
        **{name: type_of(kind) for name, kind in kinds.items()},
        Custom=type_of,
        ComfyNode=ComfyNode,
        Schema=Schema,
        NodeOutput=NodeOutput,
        Input=Part,
    )
    latest.ComfyExtension = ComfyExtension  # type: ignore[attr-defined]
    package.latest = latest  # type: ignore[attr-defined]
    return {"comfy_api": package, "comfy_api.latest": latest}
