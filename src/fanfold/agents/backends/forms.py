"""The form that the answer of a program has to have: a JSON Schema, which it is told and its answer held against."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from fanfold.errors import AgentError, MissingExtraError, ModelAnswerError

_FENCE: Final = re.compile(r"```(?:json)?\s*\n(.*?)\n\s*```", re.DOTALL)
_MOST_FAULTS: Final = 5


def wish(schema: Mapping[str, Any]) -> str:
    """What a program is told that has no other way to learn of the form."""
    return (
        "Answer with JSON that fits this JSON Schema, and with nothing else: no words before it or after it.\n"
        + json.dumps(schema, ensure_ascii=False)
    )


def fitted(output: Any, schema: Mapping[str, Any] | None, who: str) -> Any:
    """The answer as its schema describes it; a text that is JSON is read. Raises `ModelAnswerError` where it is not."""
    if schema is None:
        return output
    faults = _checker(schema, who)
    if isinstance(output, str):
        try:
            output = _read(output)
        except ValueError:
            if not faults(output):
                return output  # a text was wanted
            raise ModelAnswerError(f"{who}: its answer was to be JSON, and is {output.strip()[:100]!r}") from None
    if found := faults(output):
        raise ModelAnswerError(f"{who}: its answer does not fit the schema: {'; '.join(found[:_MOST_FAULTS])}")
    return output


def _read(text: str) -> Any:
    """What a text means as JSON, alone or in a fence of Markdown. Raises `ValueError` where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        fence = _FENCE.search(text)
        if fence is None:
            raise
        return json.loads(fence[1])


def _checker(schema: Mapping[str, Any], who: str) -> Callable[[Any], list[str]]:
    """What finds the places at which a value does not fit the schema."""
    try:
        from jsonschema import Draft202012Validator, SchemaError
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError as error:
        raise MissingExtraError(
            f"an answer of a given form needs a package that is missing: {error}",
            hint="install it with: pip install 'fanfold[llm]'",
        ) from error
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise AgentError(f"{who}: the schema of its answer is none: {error.message} (at {error.json_path})") from None
    validator = Draft202012Validator(schema, registry=Registry())  # an empty one: no schema is fetched from anywhere

    def faults(value: Any) -> list[str]:
        try:
            found = sorted(validator.iter_errors(value), key=lambda fault: fault.json_path)
        except Unresolvable as error:
            raise AgentError(f"{who}: the schema of its answer cannot be used: {error}") from None
        return [f"{fault.json_path}: {fault.message:.200}" for fault in found]

    return faults
