"""Filling a JSON schema without judging anything.

The rehearsal may be asked for structured output. It can say what it found as text, it can leave out what is optional
and leave a list empty. It cannot choose, count or decide: a required number, boolean or choice has no truthful value
here, and asking for one is an error that says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanfold.errors import UsageError

Schema = Mapping[str, Any]


def fill(schema: Schema, text: str) -> Any:
    """The smallest value that fits: the first required string is `text`, every further one is its first line."""
    first_line = text.partition("\n")[0]
    return _Filler(schema, iter((text,)), first_line).value(schema, "")


class _Filler:
    def __init__(self, root: Schema, text: Iterator[str], rest: str) -> None:
        self._root = root
        self._text = text
        self._rest = rest

    def value(self, schema: Schema, place: str) -> Any:
        if "$ref" in schema:
            return self.value(self._referred(schema["$ref"], place), place)
        for fixed in ("const", "default"):
            if fixed in schema:
                return schema[fixed]
        if len(schema.get("enum", ())) == 1:
            return schema["enum"][0]
        if "anyOf" in schema or "oneOf" in schema:
            return self._any(schema.get("anyOf") or schema["oneOf"], place)
        return self._typed(schema, place)

    def _typed(self, schema: Schema, place: str) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else None)
        if "enum" in schema:
            raise _cannot(place, f"a choice between {', '.join(map(repr, schema['enum']))}")
        if kind == "object":
            return self._object(schema, place)
        if kind == "array":
            return [self.value(schema.get("items", {}), f"{place}[]") for _ in range(schema.get("minItems", 0))]
        if kind == "string":
            return self._string(schema, place)
        if kind == "null":
            return None
        raise _cannot(place, f"a value of type {kind or 'unknown'}")

    def _object(self, schema: Schema, place: str) -> dict[str, Any]:
        known = schema.get("properties", {})
        return {key: self.value(known.get(key, {}), f"{place}.{key}") for key in schema.get("required", ())}

    def _string(self, schema: Schema, place: str) -> str:
        if "pattern" in schema or "format" in schema:
            raise _cannot(place, "a string of a certain form")
        text = next(self._text, self._rest)[: schema.get("maxLength")]
        if len(text) < schema.get("minLength", 0):
            raise _cannot(place, f"at least {schema['minLength']} characters")
        return text

    def _any(self, options: list[Schema], place: str) -> Any:
        if any(option.get("type") == "null" for option in options):
            return None
        problems = []
        for option in options:
            try:
                return self.value(option, place)
            except UsageError as error:
                problems.append(str(error))
        raise UsageError(problems[0])

    def _referred(self, ref: str, place: str) -> Schema:
        found: Any = self._root
        for key in ref.removeprefix("#").strip("/").split("/"):
            if not isinstance(found, Mapping) or key not in found:
                raise _cannot(place, f"what {ref!r} stands for, which is not in the schema")
            found = found[key]
        return found  # type: ignore[no-any-return]  # the client's own JSON


def _cannot(place: str, wanted: str) -> UsageError:
    where = place.lstrip(".") or "the answer"
    return UsageError(f"the rehearsal cannot fill {where}: it wants {wanted}, and no language model was asked")
