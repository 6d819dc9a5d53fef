"""YAML, as plain data and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_DEEPEST: Final = 32

_WORDS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL: Final = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)


def _plain(text: str) -> Any:
    """What an unquoted word of YAML stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is still open. A mapping's keys and values stand in one row, in turns."""

    mapping: bool
    items: list[Any] = field(default_factory=list)

    def wants_key(self) -> bool:
        return self.mapping and len(self.items) % 2 == 0

    def value(self) -> list[Any] | dict[str, Any]:
        return dict(zip(self.items[::2], self.items[1::2], strict=True)) if self.mapping else self.items


def data(text: str) -> tuple[dict[str, Any], dict[str, int], list[str]]:
    """The mapping that `text` is, the line (from 0) of each of its keys, and what is odd about it.

    Built from the parser's events: they come one by one, so a hostile file costs no more than its length, and it is
    about twice as fast as `yaml.load`. Raises YAMLError for a text that is no mapping of plain data.
    """
    import yaml

    top = _Frame(mapping=False)
    frames, lines, notices = [top], dict[str, int](), list[str]()
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        frame, line = frames[-1], event.start_mark.line if event.start_mark else 0
        if isinstance(event, yaml.ScalarEvent) and frame.wants_key():
            if len(frames) == 2 and lines.setdefault(event.value, line) != line:
                notices.append(f"key {event.value!r} stands twice; the last one counts")
                lines[event.value] = line
            frame.items.append(event.value)
        elif isinstance(event, yaml.ScalarEvent):
            _refuse(event, "a tag" if event.tag else None)
            frame.items.append(_plain(event.value) if event.implicit[0] else event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            odd = "a tag" if event.tag else "a list or mapping as a key" if frame.wants_key() else None
            _refuse(event, odd if len(frames) < _DEEPEST else "nesting this deep")
            frames.append(_Frame(isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.CollectionEndEvent):
            frames.pop()
            frames[-1].items.append(frame.value())
        elif isinstance(event, yaml.AliasEvent):
            _refuse(event, "an alias")
    if len(top.items) == 1 and isinstance(top.items[0], dict):
        return top.items[0], lines, notices
    if top.items and top.items != [None]:
        raise yaml.YAMLError("not a list of `key: value` lines")
    return {}, lines, notices


def _refuse(event: Any, what: str | None) -> None:
    """Raise the parser's own kind of error for something that YAML knows and an agent file has no use for."""
    import yaml

    if what:
        raise yaml.MarkedYAMLError(problem=f"{what} is not read here", problem_mark=event.start_mark)
