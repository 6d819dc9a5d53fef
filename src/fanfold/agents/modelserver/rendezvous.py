"""A gate that proves overlap without a clock.

N agents each wait until N are in flight. If they run one after another the first waits for a second that cannot
come, and the gate is not met, however fast the machine is; if they are met, they did run side by side.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TypeAlias

from fanfold.errors import UsageError

Runner: TypeAlias = tuple[str, str]
"""An agent that runs: its name, and its task where the call names one. Two tasks of one agent are two runners."""


class Rendezvous:
    """Holds calls back until `wanted` runners wait at once, or `timeout` seconds after the first one came.

    Either way it then stays open for good. `met` says which it was, `most` how many waited at once at best, and
    `agents` their names. It waits in the server's loop; any thread may read it.
    """

    def __init__(self, wanted: int, timeout: float) -> None:
        if wanted < 1:
            raise UsageError(f"a rendezvous of {wanted} agents cannot be held; it takes at least 1")
        if timeout <= 0:
            raise UsageError(f"a rendezvous cannot wait for {timeout} seconds; the timeout must be above 0")
        self.wanted = wanted
        self.timeout = timeout
        self.met = False
        self.most = 0
        self.agents: tuple[str, ...] = ()
        self._waiting: Counter[Runner] = Counter()
        self._opened = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Rendezvous of {self.wanted}: met={self.met} most={self.most} agents={list(self.agents)}>"

    async def wait(self, runner: Runner) -> None:
        """Return when the gate is open; a caller that is cancelled is counted no more."""
        if self._opened.is_set():
            return
        self._waiting[runner] += 1
        self._judge()
        try:
            await self._opened.wait()
        finally:
            self._waiting[runner] -= 1
            self._waiting += Counter()  # drops those who are at zero

    def open(self) -> None:
        """Let everybody pass from now on. To be called in the server's loop."""
        self._opened.set()
        if self._timer:
            self._timer.cancel()

    def _judge(self) -> None:
        if len(self._waiting) > self.most:
            self.most = len(self._waiting)
            self.agents = tuple(sorted(name for name, _ in self._waiting))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.timeout, self.open)
        if len(self._waiting) >= self.wanted:
            self.met = True
            self.open()
