"""Values that users and the engine hand each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

START: Final = "__start__"
"""The virtual node before the first: edges from it say where a run begins."""

END: Final = "__end__"
"""The virtual node after the last: an edge to it ends that branch."""


@dataclass(frozen=True, slots=True)
class Send:
    """Run `node` in the next step with `arg` as its input, beside whatever else triggers that node.

    Returned by a conditional edge, as often as wanted; each one is a task of its own.
    """

    node: str
    arg: Any
