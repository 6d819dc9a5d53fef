"""What tests of agents need: a model server that says what the test wants, over real HTTP, on the loopback address."""

from __future__ import annotations

from fanfold.agents.modelserver import Answer, CutStream, Fail, ModelServer, Stall, ToolUse

__all__ = ["Answer", "CutStream", "Fail", "ModelServer", "Stall", "ToolUse"]
