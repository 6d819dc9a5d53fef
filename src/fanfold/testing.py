"""What tests of agents need: a model server that says what the test wants, over real HTTP, on the loopback address."""

from __future__ import annotations

from fanfold.agents.modelserver import (
    Answer,
    Call,
    CutStream,
    Fail,
    ModelServer,
    Rendezvous,
    Request,
    Stall,
    ToolUse,
    read_journal,
    rehearse,
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
    "ToolUse",
    "read_journal",
    "rehearse",
]
