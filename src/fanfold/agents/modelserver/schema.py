"""Filling a JSON schema without judging anything.

The rehearsal may be asked for structured output. It can say what it found as text, it can leave out what is optional
and leave a list empty. It cannot choose, count or decide: a required number, boolean or choice has no truthful value
here, and asking for one is an error that says so. Unless the agent is told what to say where nothing decides: "`answer`
is `undecided`" in its file or its prompt names a value for every property `answer`, which is then only repeated.

What was found also fills these::

    {"source", "quote"}     an object with both of these texts is evidence: a line, and where it stands
    [{..., [evidence]}]     a list of what brings evidence has an item for each of the first lines found
    id                      the number of the item
    "The id of ..."         a reference, as its description says: only one that the agent was told of
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fanfold.errors import UsageError

Schema = Mapping[str, Any]

_ITEMS: Final = 3
"""Most items of a list that brings evidence."""

_KINDS: Final[Mapping[Any, Callable[[str], Any]]] = {
    "integer": int,
    "number": float,
    "boolean": {"true": True, "false": False}.__getitem__,
}


class Said(NamedTuple):
    """A sentence, the line that bears it out, and the path of its file."""

    sentence: str
    quote: str
    source: str


def fill(schema: Schema, text: str, found: Sequence[Said] = (), told: Mapping[str, str] | None = None) -> Any:
    """The smallest value that fits: the first required string is `text`, every further one is its first line.

    `found` are for lists and evidence, in their order. `told` is what to say where nothing decides, by property.
    """
    first_line = text.partition("\n")[0]
    return _Filler(schema, iter((text,)), first_line, found, told or {}).value(schema, "")


class _Filler:
    def __init__(
        self, root: Schema, text: Iterator[str], rest: str, found: Sequence[Said], told: Mapping[str, str]
    ) -> None:
        self._root = root
        self._text = text
        self._rest = rest
        self._found = found
        self._told = told
        self._item: int | None = None
        """Which item of a list is being filled."""

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
            return self._told_one_of(schema["enum"], place)
        if kind == "object":
            return self._object(schema, place)
        if kind == "array":
            return self._array(schema, place)
        if kind == "string":
            return self._string(schema, place)
        if kind == "null":
            return None
        return self._told_number(schema, kind, place)

    def _told_one_of(self, choices: Sequence[Any], place: str) -> Any:
        told = self._told.get(_name(place))
        if told in choices:
            return told
        raise _cannot(place, f"a choice between {', '.join(map(repr, choices))}")

    def _told_number(self, schema: Schema, kind: Any, place: str) -> Any:
        try:
            number = _KINDS[kind](self._told[_name(place)])
        except (KeyError, ValueError):
            raise _cannot(place, f"a value of type {kind or 'unknown'}") from None
        if not schema.get("minimum", number) <= number <= schema.get("maximum", number):
            raise _cannot(place, "a number between other bounds than that of which it was told")
        return number

    def _object(self, schema: Schema, place: str) -> dict[str, Any]:
        known = schema.get("properties", {})
        if self._is_evidence(schema) and self._found:
            found = self._finding()
            said = {"source": found.source, "quote": found.quote}
            return {key: said.get(key) or self.value(known[key], f"{place}.{key}") for key in _required(schema, said)}
        required = schema.get("required", ())
        filled = {key: self.value(known.get(key, {}), f"{place}.{key}") for key in required}
        for key in [key for key in known if key not in required]:
            if self._brings_evidence(known[key]) and (items := self._offered(known[key], f"{place}.{key}")):
                filled[key] = items
        return filled

    def _array(self, schema: Schema, place: str) -> list[Any]:
        fewest, items = schema.get("minItems", 0), schema.get("items", {})
        if self._brings_evidence(schema):
            one = self._item is not None or self._is_evidence(self._plain(items))
            fewest = max(fewest, min(1 if one else _ITEMS, len(self._found), schema.get("maxItems", _ITEMS)))
        return [self._numbered(number, items, f"{place}[]") for number in range(fewest)]

    def _numbered(self, number: int, schema: Schema, place: str) -> Any:
        around, self._item = self._item, number if self._item is None else self._item
        try:
            return self.value(schema, place)
        finally:
            self._item = around

    def _offered(self, schema: Schema, place: str) -> list[Any]:
        """The items of a list that may be empty, as far as they can be filled."""
        try:
            return self._array(self._plain(schema), place)
        except UsageError:
            return []

    def _string(self, schema: Schema, place: str) -> str:
        if "pattern" in schema or "format" in schema:
            raise _cannot(place, "a string of a certain form")
        text = self._spoken(schema, place)[: schema.get("maxLength")]
        if len(text) < schema.get("minLength", 0):
            raise _cannot(place, f"at least {schema['minLength']} characters")
        return text

    def _spoken(self, schema: Schema, place: str) -> str:
        if str(schema.get("description", "")).startswith("The id of"):
            if _name(place) in self._told:
                return self._told[_name(place)]
            raise _cannot(place, "the id of something of which it was not told")
        if self._item is None:
            return next(self._text, self._rest)
        if _name(place) == "id":
            return str(self._item + 1)
        if not self._found:
            return next(self._text, self._rest)
        sentence = self._finding().sentence
        return f"{sentence} What follows from that?" if "question" in place.casefold() else sentence

    def _finding(self) -> Said:
        return self._found[(self._item or 0) % len(self._found)]

    def _brings_evidence(self, schema: Schema) -> bool:
        """Whether this is a list of evidence, or of what has such a list."""
        items = self._plain(self._plain(schema).get("items", {}))
        if self._plain(schema).get("type") != "array":
            return False
        return self._is_evidence(items) or any(
            self._is_evidence(self._plain(self._plain(part).get("items", {})))
            for part in items.get("properties", {}).values()
        )

    @staticmethod
    def _is_evidence(schema: Schema) -> bool:
        known: Schema = schema.get("properties", {})
        return {"source", "quote"} <= known.keys()

    def _plain(self, schema: Schema) -> Schema:
        return self._plain(self._referred(schema["$ref"], "")) if "$ref" in schema else schema

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


def _required(schema: Schema, said: Mapping[str, str]) -> list[str]:
    return [*said, *(key for key in schema.get("required", ()) if key not in said)]


def _name(place: str) -> str:
    """The property at that place."""
    return place.rpartition(".")[2].removesuffix("[]")


def _cannot(place: str, wanted: str) -> UsageError:
    where = place.lstrip(".") or "the answer"
    return UsageError(f"the rehearsal cannot fill {where}: it wants {wanted}, and no language model was asked")
