"""The form that the answer of a program has to have: a JSON Schema, which it is told and its answer held against."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
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
    validator = _validator(schema, who)
    value = _read(output) if isinstance(output, str) else output
    if isinstance(output, str) and value is None and not list(validator.iter_errors(output)):
        return output  # a text was wanted
    if value is None and isinstance(output, str):
        raise ModelAnswerError(f"{who}: its answer was to be JSON, and is {output.strip()[:100]!r}")
    faults = sorted(validator.iter_errors(value), key=lambda fault: fault.json_path)
    if faults:
        told = "; ".join(f"{fault.json_path}: {fault.message:.200}" for fault in faults[:_MOST_FAULTS])
        raise ModelAnswerError(f"{who}: its answer does not fit the schema: {told}")
    return value


def _read(text: str) -> Any:
    """What a text means as JSON, alone or in a fence of Markdown; None where it is none."""
    fence = _FENCE.search(text)
    for candidate in (text, fence[1] if fence else ""):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return None


def _validator(schema: Mapping[str, Any], who: str) -> Any:
    try:
        from jsonschema import Draft202012Validator, SchemaError
        from referencing import Registry
    except ImportError as error:
        raise MissingExtraError(
            f"an answer of a given form needs a package that is missing: {error}",
            hint="install it with: pip install 'fanfold[llm]'",
        ) from error
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise AgentError(f"{who}: the schema of its answer is none: {error.message} (at {error.json_path})") from None
    return Draft202012Validator(schema, registry=Registry())  # an empty one: no schema is fetched from anywhere
