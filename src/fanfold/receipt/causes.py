"""What kept tasks from running at once: each class of cause with its evidence, its price and its remedy.

A class for which the events have no evidence is never named. The prices are the seconds that tasks waited, or, of what
was done one after the other, those by which it was longer than its longest part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from fanfold.events import COLLECTING, WITHOUT_A_CORE
from fanfold.receipt.book import Book
from fanfold.receipt.lives import Life
from fanfold.receipt.values import (
    BARRIER,
    BUDGET,
    GATE,
    GIL,
    HELD_UP,
    LIMIT,
    LOCK,
    MEMORY,
    NO_WAIT,
    PROVIDER,
    QUEUED,
    THREAD,
    Cause,
    Hold,
    TaskLife,
    Thresholds,
    peak_of,
)

Waits: TypeAlias = dict[tuple[str, str], dict[str, float]]
"""Seconds by the part of a life and by what was waited on, of each task."""

Use: TypeAlias = tuple[float, float, str]
"""From when to when a tool was in use, and which."""

ALIKE: Final = 0.7
"""The part of one length of time that another one has to be to pass for the same."""

ONE_BY_ONE: Final = "awaited one after another"
BLOCKS: Final = "blocks the event loop"
SYNC_TOOL: Final = "sync tool in an async agent"
LOCKED: Final = "lock held across awaits"
FEW_THREADS: Final = "thread pool too small"
TOOLS: Final = "tools one after another"
MCP: Final = "MCP tools serialised"
QUEUES: Final = "a provider that queues"
GIL_BOUND: Final = "GIL-bound"
GARBAGE: Final = COLLECTING
CORES: Final = "short of cores"
LATE: Final = "late for no known reason"

REMEDIES: Final[Mapping[str, str]] = {
    LIMIT: "raise it if what is behind it can take more: max_concurrency, Limits(agents=...) or Limits(models=...)",
    GATE: "the provider lets no more through: ask it for a higher rate, or spread the agents over several models",
    BUDGET: "raise it, or say more exactly what a request takes: what is reserved and not used keeps others waiting",
    MEMORY: "raise memory_mb, or lower that of agents that take less",
    BARRIER: "where it sees nothing that one writes, declare it (fanfold graph check says how)",
    ONE_BY_ONE: "use asyncio.gather where none needs another's answer",
    BLOCKS: "await an async call there, or run it in a thread: asyncio.to_thread, or executor='thread' for all of it",
    SYNC_TOOL: "make the tool async, or call what blocks in it by asyncio.to_thread",
    LOCKED: "hold it for what must not overlap only, not while something else is awaited; or allow for more at once",
    FEW_THREADS: "give the pool as many threads as there are calls that wait at once",
    TOOLS: "let the tools that one message asks for run side by side",
    MCP: "let the server take a call before it has answered the one before (async tools that do not block), and use a"
    " client that sends it then; or a connection for each",
    QUEUES: "let it serve more at once, or spread the agents over several",
    GIL_BOUND: "run it in processes: executor='process'",
    GARBAGE: "keep fewer objects alive, or gc.freeze() those that stay",
    CORES: "run less beside it, or give it more cores: other programs had them",
    LATE: "look for code that blocks the loop outside of the run's tasks, and whether the machine is short of cores",
}
"""What to do about each class of cause."""


def causes(tasks: Sequence[TaskLife], book: Book, lines: Thresholds, wall: float) -> tuple[Cause, ...]:
    """The causes, the most expensive first; what cost next to nothing is left out."""
    waits = _summed(tasks)
    found = [
        *_limits(waits),
        *_barriers(tasks),
        *rounds(tasks, lines),
        *_holders(tasks, book.holds),
        *_late(tasks, waits),
        *_locks(tasks, waits, book),
        *_tools(tasks, book.lives, book.holds),
        *_turns(tasks, waits, PROVIDER, QUEUES, "spent {seconds:.2f} s in all in the queue of their model's server"),
        *_turns(tasks, waits, GIL, GIL_BOUND, "waited {seconds:.2f} s in all, in threads, for each other's core"),
    ]
    return _telling(found, lines, wall)


def within_tasks(tasks: Sequence[TaskLife], book: Book, lines: Thresholds, wall: float) -> tuple[Cause, ...]:
    """The causes that have no part in a verdict: what did not overlap within one task."""
    return _telling(_tools(tasks, book.lives, book.holds), lines, wall)


def _telling(found: Iterable[Cause], lines: Thresholds, wall: float) -> tuple[Cause, ...]:
    telling = (cause for cause in found if cause.seconds > wall * lines.telling)
    return tuple(sorted(telling, key=lambda cause: -cause.seconds))


def _cause(kind: str, seconds: float, what: str, place: str = "") -> Cause:
    return Cause(kind, seconds, what, REMEDIES[kind], place)


def _summed(tasks: Iterable[TaskLife]) -> Waits:
    """The seconds of each task in the parts of its life in which it waited, by part and by what it waited on."""
    found: Waits = {}
    for task in tasks:
        for stretch in task.stretches:
            if stretch.part not in NO_WAIT:
                each = found.setdefault((stretch.part, stretch.on), {})
                each[task.task] = each.get(task.task, 0.0) + stretch.end - stretch.start
    return found


def _waiting(number: int, verb: str = "waited") -> str:
    return f"1 task {verb}" if number == 1 else f"{number} tasks {verb}"


def _limits(waits: Waits) -> Iterator[Cause]:
    for (part, on), each in waits.items():
        if part not in (LIMIT, GATE, BUDGET, MEMORY):
            continue
        seconds = sum(each.values())
        yield _cause(part, seconds, f"{_waiting(len(each))} {seconds:.2f} s in all for {on}")


def _barriers(tasks: Sequence[TaskLife]) -> Iterator[Cause]:
    """Nodes that could have begun, had they not waited for the end of a step in which they have no part."""
    names = {task.task: task.name for task in tasks}
    waits: dict[tuple[str, str], float] = {}
    for task in tasks:
        if task.barrier:
            pair = task.name, names.get(task.held_back_by, task.held_back_by)
            waits[pair] = waits.get(pair, 0.0) + task.barrier
    for (name, other), seconds in waits.items():
        what = f"node {name!r} waited {seconds:.2f} s for {other!r}, which it does not follow"
        yield _cause(BARRIER, seconds, what)


def rounds(tasks: Sequence[TaskLife], lines: Thresholds) -> Iterator[Cause]:
    """Nodes that awaited their agents one after another, or in several rounds.

    Agents that hold the event loop are left out: they run one after another however they are awaited.
    """
    names = {task.task: task.name for task in tasks}
    children: dict[str, list[TaskLife]] = {}
    for task in tasks:
        if task.role != "node" and task.parent in names and task.busy and task.held < lines.holding * task.work:
            children.setdefault(task.parent, []).append(task)
    for parent, called in children.items():
        often = _how_often(sorted(called, key=lambda task: task.queued))
        if often > 1:
            cost = sum(task.work for task in called) - max(task.work for task in called)
            alone = often == len(called)
            how = "one after another" if alone else f"in {often} rounds, each after the one before"
            yield _cause(ONE_BY_ONE, cost, f"node {names[parent]!r} awaited its {len(called)} agents {how}")


def _how_often(called: Sequence[TaskLife]) -> int:
    """How often an agent was called only when all that were called before it had ended."""
    rounds, end = 0, 0.0
    for task in called:
        if not rounds or task.queued >= end:
            rounds += 1
        end = max(end, task.ended if task.ended is not None else task.queued)
    return rounds


def _holders(tasks: Sequence[TaskLife], holds: Sequence[Hold]) -> Iterator[Cause]:
    """Code that held the event loop while others were there to use it: by its place, where that was seen."""
    names = {task.task: task.name for task in tasks}
    seconds: dict[tuple[str, str], float] = {}
    who: dict[tuple[str, str], dict[str, None]] = {}
    seen = {hold.task: hold.place for hold in sorted(holds, key=lambda hold: hold.end - hold.start) if hold.place}
    for hold in holds:
        name = names[hold.task]
        guess = seen.get(hold.task, "") if hold.pieces > 1 else ""  # short pieces are seen now and then only
        key = hold.tool, hold.place or guess or name
        seconds[key] = seconds.get(key, 0.0) + hold.end - hold.start
        who.setdefault(key, {})[name] = None
    for (tool, at), cost in seconds.items():
        people, place = list(who[tool, at]), at if at not in who[tool, at] else ""
        where = f", at {place}" if place else ""
        named = _listed(people)
        if place == GARBAGE:
            yield _cause(GARBAGE, cost, f"it held up {named} and all others for {cost:.2f} s in all")
        elif place == WITHOUT_A_CORE:
            yield _cause(CORES, cost, f"the event loop waited {cost:.2f} s in all for a core, in {named}")
        elif tool:
            yield _cause(
                SYNC_TOOL, cost, f"tool {tool!r} of {named} held the event loop for {cost:.2f} s in all{where}", place
            )
        else:
            yield _cause(BLOCKS, cost, f"{named} held the event loop for {cost:.2f} s in all{where}", place)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _late(tasks: Sequence[TaskLife], waits: Waits) -> Iterator[Cause]:
    """Tasks that could have begun or gone on, which no limit kept, while no task of the run held the loop."""
    begun = {task.task for task in tasks if task.started is not None}
    late = [waits.get((part, ""), {}) for part in (QUEUED, HELD_UP)]
    seconds = sum(cost for each in late for task, cost in each.items() if task in begun)
    if seconds:
        yield _cause(LATE, seconds, f"tasks that were ready began or went on {seconds:.2f} s late in all")


def _locks(tasks: Sequence[TaskLife], waits: Waits, book: Book) -> Iterator[Cause]:
    """What tasks waited for that other code of the process had: locks, semaphores, threads of a pool."""
    names = {task.task: task.name for task in tasks}
    places = {(event.place or event.on, event.on): event for event in book.blocks}
    for (part, on), each in waits.items():
        if part not in (LOCK, THREAD):
            continue
        seconds = sum(each.values())
        event = next((event for (place, _), event in places.items() if place == on), None)
        what, where, by = on, "", ""
        if event is not None:
            what = f"the {event.on}" + (f" {event.place}" if event.place else "")
            where = f"{event.file}:{event.line}" if event.file else ""
            by = f", which {names[event.holder]!r} had" if event.holder in names else ""
        text = f"{_waiting(len(each))} {seconds:.2f} s in all for {what}{by}" + (f", at {where}" if where else "")
        yield _cause(LOCKED if part == LOCK else FEW_THREADS, seconds, text, where)


def _tools(tasks: Sequence[TaskLife], lives: Mapping[str, Life], holds: Sequence[Hold]) -> Iterator[Cause]:
    """Tools that one message of a model has asked for, which ran one after the other although none held the loop."""
    names = {task.task: task.name for task in tasks}
    for id, life in lives.items():
        if not life.uses:
            continue
        rounds: dict[int, list[Use]] = {}
        for start, end, tool, message in life.uses:
            rounds.setdefault(message, []).append((start, end, tool))
        for kind, mine in ((MCP, _is_mcp), (TOOLS, lambda tool: not _is_mcp(tool))):
            cost, number = _one_by_one(rounds.values(), mine, [hold for hold in holds if hold.task == id])
            if number:
                text = f"{number} tools that one message of {names[id]!r} asked for ran one after the other"
                yield _cause(kind, cost, text)
        for tool, (cost, number) in _answered_in_turn(rounds.values()).items():
            text = (
                f"{number} calls of {tool!r} that {names[id]!r} made at once were answered one after the other, each"
                f" about as long after the one before as the first took"
            )
            yield _cause(MCP, cost, text)


def _is_mcp(tool: str) -> bool:
    return tool.startswith("mcp__")


def _one_by_one(
    rounds: Iterable[Sequence[Use]], mine: Callable[[str], bool], holds: Sequence[Hold]
) -> tuple[float, int]:
    """What it cost that tools did not overlap, and how many there were."""
    cost, number = 0.0, 0
    for used in rounds:
        uses = [(start, end) for start, end, tool in used if mine(tool)]
        held = sum(max(0.0, min(end, hold.end) - max(start, hold.start)) for start, end in uses for hold in holds)
        seconds = [end - start for start, end in uses]
        if len(uses) > 1 and peak_of(uses) == 1 and held < sum(seconds) / 2:
            cost += sum(seconds) - max(seconds)
            number += len(uses)
    return cost, number


def _answered_in_turn(rounds: Iterable[Sequence[Use]]) -> dict[str, tuple[float, int]]:
    """By tool of an MCP server, what it cost that calls which were made at once were answered like in a queue, and how
    many these were. Whose queue that is, the client's or the server's, is not to be seen from here.

    Two answers may come like that by chance. So each tool has to have had two or more that came a call's length after
    the one before, and next to none that did not.
    """
    found: dict[str, list[tuple[float, bool]]] = {}
    for used in rounds:
        for tool in {tool for _, _, tool in used if _is_mcp(tool)}:
            calls = sorted(((end, start) for start, end, one in used if one == tool))
            first = calls[0][0] - min(start for _, start in calls)
            if max(start for _, start in calls) < calls[0][0]:
                gaps = [after - before for (before, _), (after, _) in pairwise(calls)]
                found.setdefault(tool, []).extend((gap, first * ALIKE <= gap <= first / ALIKE) for gap in gaps)
    told: dict[str, tuple[float, int]] = {}
    for tool, all_gaps in found.items():
        alike = [gap for gap, is_alike in all_gaps if is_alike]
        if len(alike) >= 2 and len(alike) >= ALIKE * len(all_gaps):
            told[tool] = sum(alike), len(alike) + 1
    return told


def _turns(tasks: Sequence[TaskLife], waits: Waits, part: str, kind: str, what: str) -> Iterator[Cause]:
    """What tasks that were at work by the engine's account spent in waiting for each other's turn."""
    each: dict[str, float] = {}
    for (waited, _), seconds in waits.items():
        if waited == part:
            each = seconds
    if each:
        names = {task.task: task.name for task in tasks}
        who = _listed(list(dict.fromkeys(names[id] for id in each)))
        yield _cause(kind, sum(each.values()), f"{who} {what.format(seconds=sum(each.values()))}")
