"""What an agent and its model or program said to each other: bounded, kept, and told to people.

A transcript is a row of messages as plain data, in whatever form the backend has them. It is stored with the agent's
answer, so it has a bound (`MOST` bytes as JSON), however much an agent reads. What is too much is taken from where it
is missed least, and each place says how much is missing: first from the middle of long texts, then whole messages from
the middle of the conversation. The first messages, which say what was asked, and the last, which say what came of it,
stay.

An agent that failed, or was cut short, has no answer that its transcript could stand in. What a `Witness` knows of it
is kept as a record of its own then, which takes the place of an earlier one of the same call: what its backend tells
from (`tell_from`), or where that tells nothing, what was asked, said and called while everybody watched.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from fanfold.agents.backends.base import Answer, Said
from fanfold.agents.definition import AgentDefinition
from fanfold.agents.turns import turns
from fanfold.errors import StoreError
from fanfold.events import ToolCalled
from fanfold.family import brief
from fanfold.frame import Frame, current_frame
from fanfold.store.base import Store
from fanfold.store.serde import Codec

MOST: Final = 256 * 1024
"""Bytes of a transcript that are kept, as JSON."""

KIND: Final = "transcript"
"""What the record of an agent without an answer is, in the store."""

Messages = Sequence[Mapping[str, Any]]

_LONGEST: Final = (16_384, 4_096, 1_024, 256)
"""Characters of a text that are kept, more and more strictly while the whole is too much."""

_DEEPEST: Final = 50
_FIRST: Final = 3  # messages among which the question stands
_ROOM: Final = 200  # for the note that messages are missing


def of(prompt: str, answer: Answer) -> list[dict[str, Any]]:
    """The messages to keep of an agent that has answered; of one that keeps none, what it was asked and its answer."""
    return bounded(_begun(prompt, answer.transcript) if answer.transcript else asked(prompt, answer.output))


def _begun(prompt: str, messages: Messages) -> Messages:
    """The messages, before them what was asked, where they do not say it themselves, as programs do not."""
    said = any(turn.who == "user" for turn in turns(messages[:_FIRST]))
    return messages if said else ({"role": "user", "content": prompt}, *messages)


def asked(prompt: str, output: Any) -> Messages:
    """A conversation of which no more is known than how it began and ended."""
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, default=str)
    return ({"role": "user", "content": prompt}, {"role": "assistant", "content": text})


# Kept within bounds.


def bounded(messages: Iterable[Mapping[str, Any]], most: int = MOST) -> list[dict[str, Any]]:
    """The messages as plain data of at most `most` bytes as JSON; each place that was shortened says by how much."""
    plain = [_shortened(message, None) for message in messages]
    if _fits(plain, most):
        return plain
    for longest in _LONGEST:
        shorter = [_shortened(message, longest) for message in plain]
        if _fits(shorter, most):
            return shorter
    return _middle_dropped(shorter, most)


def _fits(messages: Messages, most: int) -> bool:
    return sum(map(_size, messages)) <= most


def _size(message: Any) -> int:
    """Bytes as JSON, with the comma behind it."""
    return len(json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")) + 2


def _shortened(value: Any, longest: int | None, depth: int = 0) -> Any:
    """The value as plain data, without the middle of texts that are longer."""
    if isinstance(value, str):
        return value if longest is None or len(value) <= longest else _without_middle(value, longest)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth > _DEEPEST:
        return "(nested deeper than is kept)"
    if isinstance(value, Mapping):
        return {str(key): _shortened(item, longest, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item, longest, depth + 1) for item in value]
    return _shortened(str(value), longest)


def _without_middle(text: str, longest: int) -> str:
    head, tail = longest * 2 // 3, longest // 3
    return f"{text[:head]} [... {len(text) - head - tail:,} characters left out ...] {text[-tail:]}"


def _middle_dropped(messages: Messages, most: int) -> list[dict[str, Any]]:
    """As many of the first and of the last messages as fit, a quarter of the room for the first ones."""
    sizes = list(map(_size, messages))
    first = _as_many(sizes, (most - _ROOM) // 4)
    last = _as_many(sizes[: first - 1 if first else None : -1], most - _ROOM - sum(sizes[:first]))
    dropped = len(messages) - first - last
    if not dropped:
        return [dict(message) for message in messages]
    note = {"left_out": f"{dropped:,} messages of {sum(sizes[first : len(sizes) - last]):,} bytes"}
    return [*map(dict, messages[:first]), note, *map(dict, messages[len(messages) - last :])]


def _as_many(sizes: Sequence[int], room: int) -> int:
    """How many of them, one after the other, have room."""
    for number, size in enumerate(sizes):
        room -= size
        if room < 0:
            return number
    return len(sizes)


# Of an agent that has no answer.


class Witness:
    """Knows what an agent has said so far: from its backend, or from what the backend let everybody see."""

    def __init__(self, prompt: str) -> None:
        self.source: Callable[[], Iterable[Mapping[str, Any]]] | None = None
        self._seen: list[dict[str, Any]] = [{"role": "user", "content": prompt}]

    def saw(self, event: object) -> None:
        """Take down a piece of what was said, or a tool that was called."""
        last = self._seen[-1]
        if isinstance(event, Said) and last["role"] == "assistant" and "tool_calls" not in last:
            last["content"] += event.text
        elif isinstance(event, Said):
            self._seen.append({"role": "assistant", "content": event.text})
        elif isinstance(event, ToolCalled):
            call = {"name": event.tool, "arguments": event.detail}
            self._seen.append({"role": "assistant", "content": "", "tool_calls": [call]})

    def messages(self) -> list[dict[str, Any]]:
        """What is known by now, within bounds."""
        if self.source is not None:
            with contextlib.suppress(Exception):  # what is told of an error must not take its place
                if told := tuple(self.source()):
                    return bounded(_begun(self._seen[0]["content"], told))
        return bounded(self._seen)


_present: ContextVar[Witness | None] = ContextVar("witness", default=None)


def tell_from(messages: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
    """For backends: where the conversation of the agent that runs here can be read while it goes on.

    It is asked only when the agent fails or is cut short. May be called in any task that the backend has started.
    """
    witness = _present.get()
    if witness is not None:
        witness.source = messages


def saw(event: object) -> None:
    """Let the witness of the agent that runs here know of something that its backend has told."""
    witness = _present.get()
    if witness is not None:
        witness.saw(event)


@contextmanager
def witnessed(prompt: str, definition: AgentDefinition) -> Iterator[None]:
    """Keep what the agent that runs in this block had said, should it be left without an answer."""
    witness = Witness(prompt)
    token = _present.set(witness)
    try:
        yield
    except BaseException as error:
        _keep(current_frame(), definition, error, witness.messages())
        raise
    finally:
        _present.reset(token)


def _keep(frame: Frame | None, definition: AgentDefinition, error: BaseException, messages: Messages) -> None:
    """As a record of the task that ran the agent. Nobody waits for the disk: it is for people, and no run needs it."""
    if frame is None:
        return
    record = {
        "agent_type": definition.name,
        "definition": definition.digest,
        "task_id": frame.task.id,
        "status": "failed" if isinstance(error, Exception) else "cancelled",
        "error": brief(error),
        "transcript": messages,
    }
    parent = None if frame.caller is None else frame.caller.task.id
    with contextlib.suppress(StoreError):  # nor may this take the place of what happened
        frame.runner.journal.keep(frame.task, KIND, record, parent=parent, patient=True)


# Read back.


def stored(store: Store, run_id: str, codec: Codec) -> Iterator[Mapping[str, Any]]:
    """What each agent of a run came to, in the order in which it was kept: answers, and records of those without one.

    Each has `agent_type`, `task_id`, `status` and `transcript`; an answer has all that a `TaskResult` has.
    """
    reader = codec.bound(store)
    for kept in store.results(run_id):
        if kept.kind not in ("child", KIND):
            continue
        data = reader.decode(kept.data, f"the {kept.kind} of {kept.name!r}, run {run_id!r}")
        answer: Any = data.get("answer") if kept.kind == "child" and isinstance(data, dict) else data
        if isinstance(answer, dict) and "transcript" in answer:  # a `@task` is a child, too, and none of these
            yield answer
