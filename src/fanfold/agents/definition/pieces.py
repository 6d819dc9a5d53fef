"""The second reading: a front matter that is no YAML, piece by piece."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Any, Final

from fanfold.agents.definition.keys import KEYS, NAMES, PROSE, TEXT, is_text
from fanfold.agents.definition.page import Page
from fanfold.agents.definition.plain import data
from fanfold.errors import AgentFileError

_KEY_LINE: Final = re.compile(r"([A-Za-z][\w-]*)[ \t]*:(?:[ \t]+(.*))?$")
_BLOCK_MARK: Final = re.compile(r"\A[|>][-+0-9]{0,2}[ \t]*\n")


@dataclass(slots=True)
class _Piece:
    """A key line and the lines below it that belong to it. `line` counts from the start of the file."""

    key: str
    line: int
    rest: str
    rows: list[str]

    def value(self) -> Any:
        """The value as YAML has it. Raises YAMLError when it has none, or when other keys stand below."""
        import yaml

        values, _, _ = data("\n".join(self.rows))
        if list(values) != [self.key]:
            raise yaml.YAMLError("lines below it look like keys")
        return values[self.key]

    def text(self) -> str:
        """The value as the text that stands there, without the marks that YAML would have taken away."""
        below = textwrap.dedent("\n".join(self.rows[1:]))
        text = _BLOCK_MARK.sub("", f"{self.rest}\n{below}".strip(), count=1).strip()
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
        return text[1:-1].strip() if quoted else text


def read_pieces(page: Page, head: str, first: int, whole: Exception) -> None:
    """Read a front matter that is no YAML: each piece as YAML of its own, or as text where a key holds text."""
    import yaml

    for piece in _pieces(page, head, first, whole):
        page.lines[piece.key] = piece.line
        try:
            page.values[piece.key] = piece.value()
        except yaml.YAMLError as error:
            kind = KEYS.get(piece.key, TEXT)
            long = any(row.strip() for row in piece.rows[1:])
            if not (is_text(kind) or kind is NAMES) or (long and piece.key in KEYS and piece.key not in PROSE):
                raise _bad_yaml(page, first, whole) from None
            page.values[piece.key] = piece.text()
            page.notices.append(
                f"line {piece.line}: `{piece.key}` is no valid YAML ({_cause(error)}) and was read as plain text;"
                " put it in quotes"
            )


def _pieces(page: Page, head: str, first: int, whole: Exception) -> list[_Piece]:
    """Cut the front matter at its key lines.

    A key that we know always begins a piece. Another word with a colon does not when it stands further down in a
    text of several lines: there it is part of an example, such as `user: ...`, that was not indented.
    """
    pieces: list[_Piece] = []
    for number, row in enumerate(head.split("\n"), first):
        match = _KEY_LINE.match(row)
        prose = bool(pieces) and pieces[-1].key in PROSE and len(pieces[-1].rows) > 1
        if match and (match[1] in KEYS or not prose):
            pieces.append(_Piece(match[1], number, match[2] or "", [row]))
        elif pieces:
            pieces[-1].rows.append(row)
        elif row.strip() and not row.startswith("#"):
            raise _bad_yaml(page, first, whole)
    return pieces


def _bad_yaml(page: Page, first: int, error: Exception) -> AgentFileError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    hint = "quote a value that has a colon, a quote mark or a bracket in it"
    line = mark.line + first if mark else first
    return page.error(f"the front matter is no valid YAML: {_cause(error)}", line=line, hint=hint)


def _cause(error: Exception) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
