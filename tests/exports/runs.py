"""Runs told by hand for the exports: a small one with everything in it, and one of any size."""

from __future__ import annotations

import random

from fanfold.events import (
    Event,
    LimitReported,
    LoopHeld,
    ModelAnswered,
    ModelAsked,
    ModelRetried,
    Noticed,
    RunFinished,
    RunStarted,
    StepFinished,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskHeldUp,
    TaskPaused,
    TaskQueued,
    TaskStarted,
    TaskWaited,
    TaskWaiting,
    ToolCalled,
)

HOSTILE = "</script><img src=x onerror=alert(1)><!--{{data}}\u202e\ud800\x1b[31m&amp;"
"""What an agent might say that wants to be more than text."""

BEGAN = 1_790_000_000.25


def everything(said: str = HOSTILE) -> list[Event]:
    """A run of two steps: a node calls two agents, of which one fails for what is `said`; every state is in it."""
    return [
        RunStarted(100.0, "r1", "t1", "team", BEGAN, 2),
        TaskQueued(100.0, "plan", "plan", 1, "node"),
        TaskQueued(100.0, "side", "side", 1, "node"),
        TaskStarted(100.0, "plan"),
        TaskStarted(100.1, "side"),
        TaskQueued(100.2, "a", "writer", 1, "agent", (), "plan", "the first"),
        TaskPaused(100.2, "plan"),
        TaskQueued(100.2, "b", "critic", 1, "agent", (), "plan", said),
        TaskStarted(100.2, "a"),
        LoopHeld(100.6, "side", 0.4),
        TaskHeldUp(100.6, "a", 0.3),
        TaskFinished(100.7, "side", ("x",)),
        TaskStarted(100.7, "b", waited_for="limit 2"),
        ModelAsked(100.8, "a", "openai:gpt-x"),
        ModelRetried(100.9, "a", "openai:gpt-x", "429 Too Many Requests", 0.2),
        TaskWaiting(100.9, "a", "the rate of openai:gpt-x"),
        TaskWaited(101.1, "a", "the rate of openai:gpt-x", 0.2),
        ModelAsked(101.1, "a", "openai:gpt-x"),
        ModelAnswered(101.5, "a", "openai:gpt-x", 400, 50, 0.01),
        ToolCalled(101.5, "a", "read_file", "secret.txt"),
        ModelAsked(101.6, "a", "openai:gpt-x"),
        ModelAnswered(101.9, "a", "openai:gpt-x", 500, 60, 0.02),
        TaskFinished(102.0, "a"),
        TaskFailed(102.1, "b", f"ValueError: {said}"),
        TaskContinued(102.1, "plan"),
        TaskFinished(102.2, "plan", ("x",)),
        StepFinished(102.2, 1),
        TaskQueued(102.2, "end", "end", 2, "node", ("plan", "side")),
        TaskStarted(102.2, "end"),
        Noticed(102.3, "a key that nobody knows"),
        TaskFinished(102.5, "end"),
        StepFinished(102.5, 2),
        LimitReported(102.5, "tasks at once", 2, 2, 1, 0.5, ("critic",), (0.5,)),
        RunFinished(102.5, "done", peak=2),
    ]


def crowd(number: int, *, at_once: int = 40, seed: int = 7) -> list[Event]:
    """A run of so many tasks in steps of a hundred, of which only some run at once; a few block, wait or fail."""
    chance = random.Random(seed)
    events: list[Event] = [RunStarted(0.0, "crowd", "t", "crowd", BEGAN, at_once)]
    now, before = 0.0, ()
    for first in range(0, number, 100):
        names = [f"task-{index}" for index in range(first, min(first + 100, number))]
        events += [TaskQueued(now, name, name, first // 100 + 1, "node", before) for name in names]
        free = [now] * at_once
        for index, name in enumerate(names):
            began = min(free)
            ended = began + chance.uniform(0.05, 0.4)
            free[free.index(began)] = ended
            events.append(TaskStarted(began, name, waited_for=f"limit {at_once}" if began > now else ""))
            if index % 17 == 3:
                events.append(LoopHeld(began + 0.04, name, 0.03))
            if index % 11 == 5:
                events.append(TaskWaiting(began + 0.01, name, "the rate of openai:gpt-x"))
                events.append(TaskWaited(began + 0.03, name, "the rate of openai:gpt-x", 0.02))
            if index % 5 == 0:
                events.append(ModelAsked(began + 0.03, name, "openai:gpt-x"))
                events.append(ModelAnswered(ended - 0.01, name, "openai:gpt-x", 300, 40, 0.001))
            failed = index % 97 == 50
            events.append(TaskFailed(ended, name, "ValueError: no") if failed else TaskFinished(ended, name))
        now, before = max(free), (names[-1],)
        events.append(StepFinished(now, first // 100 + 1))
    events.append(RunFinished(now, "done", peak=at_once))
    return sorted(events, key=lambda event: event.at)
