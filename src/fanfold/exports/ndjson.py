"""A run's events as lines of JSON: one an event, as it is stored, and read back as the same event."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fanfold.errors import UsageError
from fanfold.events import Event, from_record


def lines(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each record that `to_record` made, or that a store keeps.

    All of it is ASCII: what an agent said may hold half of a character, which no file could hold.
    """
    for record in records:
        yield json.dumps(record, separators=(",", ":")) + "\n"


def read(text: Iterable[str]) -> Iterator[Event]:
    """The events of such lines. Raises `UsageError`, with the number of the line, for one that is none."""
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            yield from_record(json.loads(line))
        except (ValueError, AttributeError) as error:
            raise UsageError(f"line {number} is not an event: {error}") from None
