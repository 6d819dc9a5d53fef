"""Text of others, as it may be shown: names, errors and notes come from agents, which is to say from anybody."""

from __future__ import annotations

import html
import re
from typing import Final

_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor, screen
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # title, links, device strings
    r"|\x1b[ -/]*[0-~]"
)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")
_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` without what a terminal would obey: escapes, control bytes except newline and tab, bidi overrides.

    A lone surrogate, which no stream can encode, becomes the replacement character.
    """
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", _CONTROLS.sub("", _ESCAPES.sub("", text)))


def escaped(text: str) -> str:
    """`text`, clean, as it may stand in a page, between tags and in attributes."""
    return html.escape(clean(text))
