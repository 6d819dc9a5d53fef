"""What a worker process does: it works on a thread, or raises counters, until it is done or something ends it."""

from __future__ import annotations

import contextlib
import operator
import os
import random
import time
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypedDict

from fanfold import END, START, StateGraph
from fanfold.errors import LeaseLostError, StoreError
from fanfold.store import owner
from fanfold.store.base import FINAL
from tests.crash import small, team
from tests.crash.log import Note
from tests.crash.watched import Fuse, Watched, watched

DONE, FAILED, FENCED = 0, 1, 3
"""How a worker ends by itself. FENCED: somebody else had its thread."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one worker is to do. `place` is a store; `fuse` counts the moments until it ends itself, 0 for never,
    or until it `freezes`.

    With `repeats`, it first hands in again what the store has already, as an attempt of its own. With `threads`, it
    adds to the counters of so many threads for `seconds`. With `small`, a durability, it runs the small team with it,
    which has such a graph `inside`, and does so `anew` where the thread has been run before.
    """

    place: str
    log: str
    thread: str
    seed: str
    ttl: float
    sync: bool = False
    limit: int = 0
    blocks: bool = False
    fuse: int = 0
    freezes: bool = False
    repeats: bool = False
    threads: int = 0
    seconds: float = 0.0
    small: str = ""
    inside: str = "plain"
    anew: bool = False


def work(order: Order, told: int) -> int:
    """Carry out an order. `told` is a pipe that hears of each line of the log, but those about counters: of so many,
    nobody reads them all, and a full pipe would stop the worker."""
    random.seed(order.seed)
    note = Note(order.log, None if order.threads else told)
    try:
        fuse = Fuse(order.fuse, note, freezes=order.freezes)
        with watched(order.place, note, ttl=order.ttl, fuse=fuse) as store:
            if order.small:
                small.run(store, order.thread, order.small, order.inside, anew=order.anew)
            else:
                (count if order.threads else sit)(order, store)
    except LeaseLostError:
        return FENCED
    return DONE


def sit(order: Order, store: Watched) -> None:
    """Begin the thread, or go on with it, and run it to its end."""
    graph, agents = team.team(store, blocks=order.blocks)
    begun = store.thread(order.thread) is not None
    if begun and order.repeats:
        repeat(order, store)
    graph.invoke(
        None if begun else team.START_INPUT,
        thread_id=order.thread,
        run_id=order.thread,
        durability="sync" if order.sync else "async",
        max_concurrency=order.limit or None,
        agents=agents,
    )
    store.note("told", epoch=store.epoch, name=order.thread)


def repeat(order: Order, store: Watched) -> None:
    """Hand in a result that the store has, under a good lease and with another id, as one who has not heard of it."""
    me = owner.me()
    lease = store.claim(order.thread, me, on_busy="take_over").result()
    kept = [result for result in store.results(order.thread) if result.kind in FINAL]
    if kept:
        ticket = store.submit(replace(random.choice(kept), attempt=os.urandom(8).hex()), lease)
        with contextlib.suppress(StoreError):  # it is to be refused; what came of it is in the log
            ticket.result()
    owner.leave(me)
    store.release(lease)


class Counter(TypedDict, total=False):
    by: int
    number: Annotated[int, operator.add]


def counter(store: Any) -> Any:
    """A graph whose runs add to a number."""
    graph = StateGraph(Counter).add_node("add", lambda state: {"number": state["by"]})
    return graph.add_edge(START, "add").add_edge("add", END).compile(store)


def count(order: Order, store: Watched) -> None:
    """Add to the counters of threads, chosen by chance, until the time is over."""
    graph = counter(store)
    end = time.monotonic() + order.seconds
    while time.monotonic() < end:
        thread, by = f"{order.thread}-{random.randrange(order.threads)}", random.randint(1, 9)
        graph.invoke({"by": by}, thread_id=thread, on_busy="wait")
        store.note("told", name=thread, id=str(by))
