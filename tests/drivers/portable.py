"""Node functions of a module, which another process finds by their names. It imports little, as each process does."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any


def where(state: dict[str, Any]) -> dict[str, Any]:
    """Says in which process and thread it runs."""
    return {"log": [(os.getpid(), threading.get_ident())]}


async def where_async(state: dict[str, Any]) -> dict[str, Any]:
    """The same, as a coroutine."""
    return where(state)


def double(state: dict[str, Any]) -> dict[str, Any]:
    """Doubles the number."""
    return {"number": state["number"] * 2}


def spoil(state: dict[str, Any]) -> dict[str, Any]:
    """Changes what it was given."""
    state["log"].append("spoilt")
    return {"number": len(state["log"])}


def fail(state: dict[str, Any]) -> None:
    """Fails in its own words."""
    raise LookupError(f"no {state['number']}")


def secret(state: dict[str, Any]) -> Any:
    """Returns what no other process can be given."""
    return {"log": [threading.Lock()]}


def die_once(state: dict[str, Any]) -> dict[str, Any]:
    """Kills its process, unless a file says that it did so before."""
    path = state["log"][0]
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return {"number": 1}


def meet(state: dict[str, Any]) -> dict[str, Any]:
    """Waits until as many files as there are to be are in a folder; adds one. Without company it gives up."""
    folder, company = state["log"][0], state["number"]
    with open(os.path.join(folder, str(os.getpid())), "w"):
        pass
    deadline = threading.Event()
    for _ in range(2000):
        if len(os.listdir(folder)) >= company:
            return {"log": [os.getpid()]}
        deadline.wait(0.01)
    raise TimeoutError(f"{os.listdir(folder)} of {company} came")


def pause_for_ever(state: dict[str, Any]) -> None:
    """Says by a file that it has begun, and never ends."""
    with open(os.path.join(state["log"][0], str(os.getpid())), "w"):
        pass
    threading.Event().wait()


class Demanding(Exception):
    """An error that cannot be made again from its arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def fail_demanding(state: dict[str, Any]) -> None:
    """Raises one."""
    raise Demanding("this", "that")


def numbers(state: dict[str, Any]) -> Any:
    """Yields what it writes."""
    yield {"number": 1}
