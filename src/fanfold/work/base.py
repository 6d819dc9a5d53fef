"""The seam between a run and the place where the code of its nodes is executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Executor(Protocol):
    """Runs a node's function somewhere and waits for it without holding up the event loop."""

    async def call(self, action: Callable[..., Any], *args: Any) -> Any:
        """What `action(*args)` returns. It sees the context variables of the caller. Raises what it raises."""

    def close(self, *, wait: bool) -> None:
        """Take no more work; with `wait`, return when what had begun has ended."""
