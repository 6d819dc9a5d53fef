"""What code is called on the event loop although it is blocking code: what can be seen to wait for nothing."""

from __future__ import annotations

import functools
import operator
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fanfold
from fanfold import END, Command, Send
from fanfold.kernel.quick import only_looks, quick_for

LIMIT = 3
LOCK = threading.Lock()


class Client:
    def get(self, url: str) -> str:
        return url


CLIENT = Client()


def helper() -> None: ...


def chooses(state: Any) -> Any:
    last = state["messages"][-1]
    if isinstance(last, dict) and last["tool_calls"]:
        return "tools"
    return [item for item in state["items"] if len(item) > LIMIT] or END


def goes_over_what_is_there(state: Any) -> Any:
    total = 0
    for item in state["items"]:
        total += len(item)
    return {"total": total}


def sends(state: Any) -> Any:
    return [Send("worker", {"item": item}) for item in state["items"]]


def commands(state: Any) -> Any:
    return Command(update={"number": state["number"] + 1}, goto="again" if state["number"] < LIMIT else END)


def sorts(state: Any) -> Any:
    return {"best": sorted(state["items"], key=lambda item: item["score"]), "any": any(i for i in state["items"])}


def with_a_module() -> Callable[[Any], Any]:
    api = fanfold
    return lambda state: [api.END for item in state["items"] if item] or fanfold.START


def with_a_closure() -> Callable[[Any], Any]:
    key = "number"
    return lambda state: state[key]


@pytest.mark.parametrize(
    "code",
    [
        chooses,
        goes_over_what_is_there,
        sends,
        commands,
        sorts,
        with_a_closure(),
        with_a_module(),
        lambda state: {"number": state["number"] + 1},
        lambda state: f"{state.name:>10}" if state.name else ", ".join(state["names"]),
    ],
)
def test_code_that_looks_something_up_and_decides_is_quick(code: Callable[[Any], Any]) -> None:
    assert quick_for(code) is object


def looks_in_the_state(state: Any) -> Any:
    return "again" if state.get("number", 0) < LIMIT and "x" in state else END


def test_code_that_calls_methods_of_the_state_is_quick_if_that_is_a_dictionary() -> None:
    assert quick_for(looks_in_the_state) is dict
    assert only_looks(looks_in_the_state)


def asks_a_queue(state: Any) -> Any:
    return state["queue"].get()


def asks_what_it_held(state: Any) -> Any:
    state = state["queue"]
    return state.get()


def asks_what_it_unpacked(state: Any) -> Any:
    state, _ = state["queues"]
    return state.get()


def asks_the_store(state: Any, store: Any) -> Any:
    return store.get(("a",), "b")


def asks_a_class(state: Any) -> Any:
    return Client.get(state, "url")


def asks_a_default(state: Any, client: Any = CLIENT) -> Any:
    return client.get("url")


def sleeps(state: Any) -> None:
    time.sleep(1)


def asks_a_client(state: Any) -> Any:
    return CLIENT.get("url")


def makes_a_client(state: Any) -> Any:
    return Client().get("url")


def calls_what_it_was_given(state: Any) -> Any:
    call = state["call"]
    return call()


def imports(state: Any) -> Any:
    import socket

    return socket.gethostname()


def holds_a_lock(state: Any) -> Any:
    with state["lock"]:
        return {}


def counts(state: Any) -> Any:
    number = 0
    while number < state["number"]:
        number += 1
    return {"number": number}


def counts_far(state: Any) -> Any:
    number = 0
    for _ in range(10**9):
        number += 1
    return number


def defines_a_function(state: Any) -> Any:
    def inner() -> None:
        helper()

    return inner()


def yields(state: Any) -> Iterator[Any]:
    yield state


async def waits(state: Any) -> None: ...


def with_an_event() -> Callable[[Any], Any]:
    event = threading.Event()
    return lambda state: event.wait()


def with_a_cell_that_is_empty() -> Callable[[Any], Any]:
    def code(state: Any) -> Any:
        return later

    if LIMIT > LIMIT:
        later = 1
    return code


def long_code() -> Callable[[Any], Any]:
    names: dict[str, Any] = {}
    exec("def code(state):\n" + "    state = state['x']\n" * 500, names)
    code: Callable[[Any], Any] = names["code"]
    return code


@pytest.mark.parametrize(
    "code",
    [
        sleeps,
        asks_a_client,
        asks_a_queue,
        asks_what_it_held,
        asks_what_it_unpacked,
        asks_the_store,
        asks_a_class,
        asks_a_default,
        lambda state: sorted(state["names"], key=open),
        makes_a_client,
        calls_what_it_was_given,
        imports,
        holds_a_lock,
        counts,
        counts_far,
        defines_a_function,
        yields,
        waits,
        with_an_event(),
        with_a_cell_that_is_empty(),
        long_code(),
        lambda state: helper(),
        lambda state: state["agent"].invoke(1),
        lambda state: LOCK.acquire(),
        lambda state: os.environ,
        lambda state: sorted(state["items"], key=time.sleep),
        lambda state: sorted(state["items"], key=helper),
        lambda state: max(*state["items"]),
        lambda state: unknown(state),  # type: ignore[name-defined]  # noqa: F821 - there is none
        operator.itemgetter("number"),
        functools.partial(chooses),
        Client,
    ],
)
def test_code_that_could_wait_or_go_on_for_long_is_not_quick(code: Callable[[Any], Any]) -> None:
    assert not quick_for(code)


def test_a_builtin_that_somebody_has_replaced_is_not_taken_for_it() -> None:
    names: dict[str, Any] = {"len": lambda items: time.sleep(1)}
    exec("def code(state): return len(state)", names)
    assert not quick_for(names["code"])


def sets(state: Any) -> Any:
    state["number"] = 1


def removes(state: Any) -> Any:
    del state["items"][0]


def sets_an_attribute(state: Any) -> Any:
    state.number = 1


def adds_in_place(state: Any) -> Any:
    items = state["items"]
    items += [1]
    return items


@pytest.mark.parametrize("code", [sets, removes, sets_an_attribute, adds_in_place])
def test_quick_code_that_changes_what_it_is_given_is_told_from_code_that_only_looks(code: Callable[[Any], Any]) -> None:
    assert quick_for(code) is object
    assert not only_looks(code)


@pytest.mark.parametrize("code", [chooses, sends, commands, sorts, with_a_closure()])
def test_code_that_only_looks_is_known(code: Callable[[Any], Any]) -> None:
    assert only_looks(code)


def test_code_that_is_no_function_is_not_known_to_only_look() -> None:
    assert not only_looks(operator.itemgetter("number"))
