"""What a compiled graph tells of itself: its channels, and its schemas as pydantic models and as JSON Schema.

The names are LangGraph's. Schemas need pydantic, which is imported only when somebody asks for one.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, NotRequired, Required, get_type_hints

from fanfold.errors import MissingExtraError
from fanfold.kernel.channels import Channel
from fanfold.kernel.plan import Plan
from fanfold.kernel.schema import Schema
from fanfold.types import START


class Described:
    """The part of a compiled graph that tells what it is made of."""

    plan: Plan

    @property
    def context_schema(self) -> Any:
        """The type of the context that a run is given, if the graph declares one."""
        return self.plan.context

    @property
    def channels(self) -> Mapping[str, Channel]:
        """How each key of the state folds."""
        return self.plan.channels

    @property
    def input_channels(self) -> str:
        """What an input is handed to."""
        return START

    @property
    def output_channels(self) -> str | list[str]:
        """The keys of an output, or the one that is the whole of it."""
        return _listed(self.plan.answers)

    @property
    def stream_channels(self) -> str | list[str]:
        """The keys that streams show, or the one that is the whole of the state."""
        return _listed(self.plan.keys)

    @property
    def stream_channels_asis(self) -> str | list[str]:
        """The same."""
        return self.stream_channels

    @property
    def stream_channels_list(self) -> list[str]:
        """The same, as a list in any case."""
        keys = self.stream_channels
        return [keys] if isinstance(keys, str) else keys

    def get_input_schema(self, config: Any = None) -> Any:
        """A pydantic model of the graph's input. Raises `MissingExtraError` where pydantic is not installed."""
        declared: Any = self.plan.input.type
        return declared if _is_model(declared) else _root(_readable(declared), self._named("input"))

    def get_output_schema(self, config: Any = None) -> Any:
        """A pydantic model of the graph's output, any key of which may be missing. Raises as above."""
        output, name = self.plan.output, self._named("output")
        if output.single is not None:
            return _root(output.type, name)
        return _made(name, {key: (_type(channel), None) for key, channel in output.channels.items()})

    def get_input_jsonschema(self, config: Any = None) -> Any:
        """What an input has to look like, as JSON Schema. Raises as above."""
        return self._told(self.plan.input, "input")

    def get_output_jsonschema(self, config: Any = None) -> Any:
        """What an output looks like, as JSON Schema. Raises as above."""
        return self._told(self.plan.output, "output")

    def get_context_jsonschema(self) -> Any:
        """What a context has to look like, as JSON Schema; None where the graph declares none.

        Raises `ValueError` where it is declared as a type without fields, `MissingExtraError` as above.
        """
        declared = self.plan.context
        if declared is None:
            return None
        if not (_is_model(declared) or _is_typed_dict(declared) or dataclasses.is_dataclass(declared)):
            raise ValueError(f"the context is a {declared!r}, which is no model, TypedDict or dataclass")
        return _json(declared)

    def _told(self, schema: Schema, use: str) -> Any:
        if _is_model(schema.type) or _is_typed_dict(schema.type):
            return _json(schema.type)
        name = self._named(use)
        if schema.single is not None:
            return _root(schema.type, name, root=(schema.type, None)).model_json_schema()
        defaults = _defaults(schema.type)
        fields = {key: (_type(channel), defaults.get(key, ...)) for key, channel in schema.channels.items()}
        return _made(name, fields).model_json_schema()

    def _named(self, use: str) -> str:
        name = self.plan.name
        return name + use.title() if name[:1].isupper() else f"{name}_{use}"


def _listed(keys: str | tuple[str, ...]) -> str | list[str]:
    return keys if isinstance(keys, str) else list(keys)


def _type(channel: Any) -> Any:
    return channel.ValueType


def _is_model(declared: Any) -> bool:
    return isinstance(declared, type) and hasattr(declared, "model_fields")


def _is_typed_dict(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, dict) and hasattr(declared, "__total__")


def _defaults(declared: Any) -> dict[str, Any]:
    """The defaults of a dataclass's fields, as pydantic takes them."""
    if not dataclasses.is_dataclass(declared):
        return {}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(declared):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = _pydantic().Field(default_factory=field.default_factory)
    return found


def _readable(declared: Any) -> Any:
    """The type as pydantic can read it: before Python 3.12 it refuses the standard library's TypedDict."""
    if not _is_typed_dict(declared) or sys.version_info >= (3, 12) or declared.__class__.__module__ != "typing":
        return declared
    from typing_extensions import TypedDict  # pydantic brings it along

    hints = get_type_hints(declared, include_extras=True)
    needed = declared.__required_keys__
    marked = {key: (Required if key in needed else NotRequired)[hint] for key, hint in hints.items()}
    return TypedDict(declared.__name__, marked)  # type: ignore[operator]  # made while running


def _json(declared: Any) -> Any:
    return _pydantic().TypeAdapter(_readable(declared)).json_schema()


def _root(declared: Any, name: str, **fields: Any) -> Any:
    """A model of one value, called `name`."""
    pydantic = _pydantic()
    return pydantic.create_model(name, __base__=pydantic.RootModel[declared], **fields)


def _made(name: str, fields: Mapping[str, tuple[Any, Any]]) -> Any:
    """A model of these fields. What a model cannot have as an attribute has its name as an alias."""
    pydantic = _pydantic()
    made = {}
    for key, (hint, default) in fields.items():
        if key.startswith("_") or hasattr(pydantic.BaseModel, key):
            made[f"private_{key}"] = (hint, pydantic.Field(default, alias=key, title=key.strip("_").title()))
        else:
            made[key] = (hint, default)
    config = pydantic.ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
    return pydantic.create_model(name, __config__=config, **made)


def _pydantic() -> Any:
    try:
        import pydantic
    except ImportError:
        raise MissingExtraError(
            "the schemas of a graph are told by pydantic, which is not installed",
            hint="pip install 'fanfold[llm]', or pydantic by itself",
        ) from None
    return pydantic
