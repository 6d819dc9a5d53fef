"""The journal: every call that reached the server, from its begin on.

The life of a call::

    open ─┬─▶ answered     the whole answer was made; recorded before its last byte is sent, so that
          │                a client that has the answer also finds it here
          ├─▶ failed       an error was sent; `code` is its HTTP status
          ├─▶ cut          the server broke the connection in the middle of the answer
          └─▶ left         the client, or the server itself, went before there was an answer

With a path each begin and each end is also a line of JSON in that file, a whole `Call` each; of two lines with the
same `no` the later one counts. `read_journal` does that.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from fanfold.agents.modelserver.rendezvous import Runner
from fanfold.agents.modelserver.values import Message, Request, ToolResult, ToolUse, Turn
from fanfold.errors import CorruptRecordError, UsageError


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the model. `started` and `ended` are `time.monotonic()`; `usage` is tokens (in, out).

    `served` is when it was taken up, by a server that takes up so many at once; until then it was in its queue.
    """

    no: int
    protocol: str
    agent: str
    task: str
    model: str
    system: str
    messages: tuple[Turn, ...]
    tools: tuple[str, ...]
    stream: bool
    started: float
    ended: float | None = None
    status: str = "open"
    code: int | None = None
    text: str = ""
    tool_uses: tuple[ToolUse, ...] = ()
    usage: tuple[int, int] = (0, 0)
    error: str = ""
    served: float | None = None


class Journal:
    """All calls of one server, and who is in flight. Written in the server's loop, read from any thread."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._flying: Counter[Runner] = Counter()
        self._peak = 0
        self._path = path
        self._file: TextIO | None = None

    def open(self) -> None:
        """Open the file, if there is to be one, and add to what it holds."""
        if self._path is None:
            return
        try:
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"the journal {str(self._path)!r} cannot be written: {error.strerror}") from error

    @property
    def calls(self) -> list[Call]:
        """A copy, in the order in which the calls began."""
        with self._lock:
            return list(self._calls)

    @property
    def in_flight(self) -> int:
        """How many agents wait for an answer now. An agent with two calls is one; two tasks of it are two."""
        with self._lock:
            return len(self._flying)

    @property
    def peak(self) -> int:
        """The most that `in_flight` has been."""
        with self._lock:
            return self._peak

    def begin(self, request: Request) -> Call:
        """Record a call as open and give it its number, from 1."""
        with self._lock:
            call = Call(
                no=len(self._calls) + 1,
                protocol=request.protocol,
                agent=request.agent,
                task=request.task,
                model=request.model,
                system=request.system,
                messages=request.turns,
                tools=tuple(tool.name for tool in request.tools),
                stream=request.stream,
                started=time.monotonic(),
            )
            self._calls.append(call)
            self._flying[call.agent, call.task] += 1
            self._peak = max(self._peak, len(self._flying))
            self._write(call)
        return call

    def taken_up(self, call: Call) -> None:
        """The call is out of the queue, and is being served."""
        with self._lock:
            self._calls[call.no - 1] = replace(self._calls[call.no - 1], served=time.monotonic())

    def answered(self, call: Call, said: Message) -> None:
        """The answer is complete; or, when the message is not, the connection is cut after its text."""
        status = "answered" if said.complete else "cut"
        self._end(call, status=status, code=200, text=said.text, tool_uses=said.tool_uses, usage=said.usage, error="")

    def failed(self, call: Call, code: int, error: str) -> None:
        """An error is sent instead of an answer."""
        self._end(call, status="failed", code=code, error=error)

    def left(self, call: Call) -> None:
        """Nobody waits for the answer any more. Changes nothing when the call has ended."""
        self._end(call, status="left")

    def close(self) -> None:
        """Close the file; the calls can still be read."""
        with self._lock:
            if self._file:
                self._file.close()

    def _end(self, call: Call, **how: object) -> None:
        with self._lock:
            if self._calls[call.no - 1].status != "open":
                return
            ended = replace(self._calls[call.no - 1], ended=time.monotonic(), **how)  # type: ignore[arg-type]  # the callers above
            self._calls[call.no - 1] = ended
            self._flying[call.agent, call.task] -= 1
            self._flying += Counter()  # drops those who are at zero
            self._write(ended)

    def _write(self, call: Call) -> None:
        if self._file:
            self._file.write(json.dumps(asdict(call), ensure_ascii=False, default=str) + "\n")
            self._file.flush()


def read_journal(path: Path) -> list[Call]:
    """The calls of a journal file, also while another process writes it, in the order in which they began."""
    calls: dict[int, Call] = {}
    with path.open(encoding="utf-8") as lines:
        for place, line in enumerate(lines, 1):
            if not line.endswith("\n"):  # the writer is in the middle of it
                break
            call = _call(line, f"{path}:{place}")
            calls[call.no] = call
    return [calls[no] for no in sorted(calls)]


def _call(line: str, place: str) -> Call:
    try:
        facts = json.loads(line)
        facts["messages"] = tuple(map(_turn, facts["messages"]))
        facts["tool_uses"] = tuple(ToolUse(**use) for use in facts["tool_uses"])
        facts["tools"], facts["usage"] = tuple(facts["tools"]), tuple(facts["usage"])
        return Call(**facts)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptRecordError(f"{place}: not a line of a model server's journal: {error}") from error


def _turn(facts: dict[str, object]) -> Turn:
    uses = tuple(ToolUse(**use) for use in facts.pop("tool_uses"))  # type: ignore[attr-defined]  # JSON of a Turn
    results = tuple(ToolResult(**result) for result in facts.pop("tool_results"))  # type: ignore[attr-defined]
    return Turn(tool_uses=uses, tool_results=results, **facts)  # type: ignore[arg-type]
