"""From the text of a file to a definition."""

from __future__ import annotations

import re
from pathlib import Path

from fanfold.agents.definition.agent import AgentDefinition, folded
from fanfold.agents.definition.keys import HONOURED, KEYS, LOOSE, Kind
from fanfold.agents.definition.page import Page
from fanfold.agents.definition.pieces import read_pieces
from fanfold.agents.definition.plain import data
from fanfold.errors import did_you_mean


def parse(text: str, source: Path | None = None, *, origin: str = "run") -> AgentDefinition:
    """Read the text of an agent file. `source` is where it stands, for messages and for the definition.

    Raises AgentFileError, and nothing else, for a text that cannot be used.
    """
    page = Page(source)
    head, first = _cut(page, text)
    _read(page, head, first)
    _check(page)
    values = page.values
    model = values.get("model", "").strip()
    return AgentDefinition(
        name=values["name"],
        description=values["description"],
        prompt=page.prompt,
        tools=_tools(page),
        disallowed_tools=_names(values.get("disallowedTools", [])),
        model=None if model.casefold() in ("", "inherit") else model,
        max_turns=values.get("maxTurns"),
        backend=values.get("backend", "model"),
        output=values.get("output"),
        command=_command(values.get("command", [])),
        timeout=values.get("timeout"),
        budget_usd=values.get("budget_usd"),
        memory_mb=values.get("memory_mb"),
        max_concurrent=values.get("max_concurrent"),
        source=source,
        origin=origin,
        extra={key: value for key, value in values.items() if key in KEYS and key not in HONOURED},
        notices=tuple(page.notices),
    )


def _command(value: str | list[str]) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value)


def _cut(page: Page, text: str) -> tuple[str, int]:
    """Put the body on the page; give the front matter and the line on which it begins."""
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no character
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = next((at for at, line in enumerate(lines) if line.strip()), 0)
    if lines[start].rstrip() != "---":
        hint = "begin the file with `---`, `name: ...`, `description: ...`, `---`"
        raise page.error("no front matter", line=start + 1, hint=hint)
    end = next((at for at in range(start + 1, len(lines)) if lines[at].rstrip() == "---"), None)
    if end is None:
        raise page.error("the front matter has no closing `---`", line=start + 1)
    page.prompt = "\n".join(lines[end + 1 :]).strip()
    if not page.prompt:
        page.notices.append("no body: the agent has no system prompt")
    return "\n".join(lines[start + 1 : end]), start + 2


def _read(page: Page, head: str, first: int) -> None:
    """Put the keys on the page: as YAML, or piece by piece where the whole is no YAML."""
    import yaml

    try:
        page.values, lines, page_notices = data(head)
    except yaml.YAMLError as error:
        read_pieces(page, head, first, error)
    else:
        page.lines = {key: line + first for key, line in lines.items()}
        page.notices += page_notices


def _check(page: Page) -> None:
    """Raise for a value that cannot be used; make a notice of a key that nobody knows, or a value that is left out."""
    unknown = []
    for key, value in list(page.values.items()):
        kind = KEYS.get(key)
        if kind is None:
            unknown.append(key)
            page.notices.append(f"unknown key {key!r}{did_you_mean(key, KEYS)}")
        elif value is None and key != "tools":
            del page.values[key]  # `color:` with nothing behind it says nothing
        elif value is not None and not kind.fits(value):
            _judge(page, key, kind)
    for key in ("name", "description"):
        page.values[key] = page.values.get(key, "").strip()
        if not page.values[key]:
            hint = "found instead: " + ", ".join(map(repr, unknown[:5])) if unknown else None
            raise page.error(f"no `{key}`", line=page.lines.get(key), hint=hint)
    if not page.values["name"].isprintable() or not folded(page.values["name"]):
        raise page.wrong("name", "one line with a letter or a digit in it")


def _judge(page: Page, key: str, kind: Kind) -> None:
    """Raise for the wrong value of a key, or leave it out and say so."""
    close = did_you_mean(str(page.values[key]), kind.words)
    if key not in LOOSE:
        raise page.wrong(key, kind.wanted, hint=close.removeprefix("; ") or None)
    page.notices.append(f"line {page.lines[key]}: {page.mismatch(key, kind.wanted)}, and is left out{close}")
    del page.values[key]


def _tools(page: Page) -> tuple[str, ...] | None:
    """The tools that the file names: None for all, when it has no such key or says `*`."""
    if "tools" not in page.values:
        return None
    tools = _names(page.values["tools"] or [])
    if not tools and page.values["tools"] != []:
        page.notices.append("`tools` is empty, so the agent has none; leave the key out to give it all")
    return None if "*" in tools else tools


def _names(value: str | list[str]) -> tuple[str, ...]:
    """Names out of a list or a text; a comma in parentheses, as in `Agent(a, b)`, belongs to the name."""
    texts = [value] if isinstance(value, str) else value
    parts = [part.strip() for text in texts for part in re.findall(r"(?:[^,(]|\([^)]*\)?)+", text)]
    if isinstance(value, str) and len(parts) == 1 and "(" not in value:
        parts = parts[0].split()  # `Read Grep Glob`
    return tuple(dict.fromkeys(part for part in parts if part))
