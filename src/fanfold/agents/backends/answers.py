"""The form that an agent's answer has to have: a JSON schema, which the model is told and its answer held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator, SchemaError
from pydantic_ai import ModelRetry, StructuredDict
from pydantic_ai.exceptions import UserError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from fanfold.errors import AgentError

_INSIDE: Final = "answer"
_MOST_FAULTS: Final = 5


class Form:
    """The form of one agent's answer; any text where `schema` is None."""

    def __init__(self, schema: Mapping[str, Any] | None) -> None:
        self.wanted: type[dict[str, Any]] | None = None
        self.misfit = ""
        self._wrapped = False
        if schema is None:
            return
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise AgentError(f"the schema of the answer is none: {error.message} (at {error.json_path})") from None
        _check_references(schema)
        self._check = Draft202012Validator(schema, registry=Registry())  # an empty one: nothing is fetched
        self._wrapped = schema.get("type") != "object"
        try:
            self.wanted = StructuredDict(_around(schema) if self._wrapped else dict(schema))
        except UserError as error:
            raise AgentError(f"the schema of the answer cannot be used: {error}") from error

    def checked(self, output: dict[str, Any]) -> dict[str, Any]:
        """The model's output. Raises `ModelRetry` that says what does not fit."""
        self.misfit = self._faults(output)
        if self.misfit:
            raise ModelRetry(f"this does not fit the schema: {self.misfit}")
        return output

    def _faults(self, output: dict[str, Any]) -> str:
        if self._wrapped and _INSIDE not in output:
            return f"{_INSIDE!r} is missing"
        faults = sorted(self._check.iter_errors(self.taken(output)), key=lambda fault: fault.json_path)
        return "; ".join(f"{fault.json_path}: {fault.message:.200}" for fault in faults[:_MOST_FAULTS])

    def taken(self, output: Any) -> Any:
        """The answer as its schema describes it."""
        return output[_INSIDE] if self._wrapped else output


def _check_references(schema: Mapping[str, Any]) -> None:
    """Raise `AgentError` for a schema that refers to something which is not in it."""
    resolver: Any = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except (Unresolvable, ValueError):
            raise AgentError(f"the schema of the answer refers to {reference!r}, which is not in it") from None


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _references(inner)


def _around(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object that holds the answer: a tool's input is one, whatever the answer is to be."""
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    outer: dict[str, Any] = {"type": "object", "properties": {_INSIDE: inner}, "required": [_INSIDE]}
    return {**outer, "$defs": schema["$defs"]} if "$defs" in schema else outer
