"""What code inside a node can ask for without being handed it: the run that it is in, by a context variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fanfold.errors import OutsideError
from fanfold.frame import Frame, current_frame

if TYPE_CHECKING:
    from fanfold.types import Runtime, StreamWriter


def interrupt(value: Any, *, response_schema: Any = None) -> Any:
    """Ask a person: the run pauses with `value` as the question, and this returns the answer when it is resumed.

    The node then runs from its start again; questions that were answered before return their answer at once, by the
    order in which they are asked. `response_schema` is told with the question: a JSON Schema, or a class to which the
    answer is then made to fit. Raises `GraphInterrupt`, which user code must let pass.
    """
    return _frame("interrupt").ask(value, response_schema)


def get_config() -> dict[str, Any]:
    """The config of the node that is running."""
    return _frame("get_config").config()


def get_runtime(context_schema: type | None = None) -> Runtime:
    """The runtime of the node that is running: its context, store, writer and more."""
    return _frame("get_runtime").runtime()


def get_store() -> Any:
    """The long-term store that the graph was compiled with."""
    return _frame("get_store").runner.family.memory


def get_stream_writer() -> StreamWriter:
    """A function whose argument is seen in the stream mode "custom"."""
    return _frame("get_stream_writer").writer()


def _frame(what: str) -> Frame:
    frame = current_frame()
    if frame is None:
        raise OutsideError(f"{what}() was called outside of a node", hint="call it from code that a graph runs")
    return frame


_PLACE: Final = frozenset({"thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"})


def metadata_of(config: Mapping[str, Any] | None, told: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself: `told`, and plain values that the caller's config adds."""
    more = {**configurable(config), **((config or {}).get("metadata") or {})}
    plain = {key: value for key, value in more.items() if isinstance(value, str | int | float)}
    asked = {key: v for key, v in plain.items() if key not in told and key not in _PLACE and not key.startswith("__")}
    return {**told, **asked}


def configurable(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The part of a config that names the thread and the checkpoint."""
    found: Mapping[str, Any] = (config or {}).get("configurable") or {}
    return found
