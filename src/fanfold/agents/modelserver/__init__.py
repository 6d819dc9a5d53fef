"""A scripted model server on the loopback address, and the rehearsal model that answers when there is no script.

Only `serving` needs more than the standard library, and it is imported when a server starts.
"""

from __future__ import annotations

from fanfold.agents.modelserver.journal import Call, read_journal
from fanfold.agents.modelserver.rehearsal import rehearse
from fanfold.agents.modelserver.rendezvous import Rendezvous
from fanfold.agents.modelserver.server import ModelServer
from fanfold.agents.modelserver.values import (
    Answer,
    CutStream,
    Fail,
    Request,
    Stall,
    Tool,
    ToolResult,
    ToolUse,
    Turn,
)

__all__ = [
    "Answer",
    "Call",
    "CutStream",
    "Fail",
    "ModelServer",
    "Rendezvous",
    "Request",
    "Stall",
    "Tool",
    "ToolResult",
    "ToolUse",
    "Turn",
    "read_journal",
    "rehearse",
]
