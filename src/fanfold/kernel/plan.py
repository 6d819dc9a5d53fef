"""The frozen plan: everything the ledger needs to know of a graph, in the form in which it asks.

A plan is made once, by `Builder.plan()`, after validation; nothing in it changes afterwards, so that any number of
runs can share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fanfold.errors import InvalidUpdateError, UnmappedAnswerError, did_you_mean
from fanfold.kernel.channels import Channel
from fanfold.kernel.schema import Schema
from fanfold.types import END, CachePolicy, RetryPolicy, Send, TimeoutPolicy

if TYPE_CHECKING:
    from fanfold.kernel.reach import Reach


@dataclass(frozen=True, slots=True)
class Action:
    """Code of the user's, and how it wants to be called.

    `function` takes the input first, then what `asks` names. `graph` is set instead of a function when the node is
    itself a graph of ours. `declared` says whether it names its schema itself, rather than seeing the whole state.
    `executor` is where it is to run: "loop", "thread", "process", an executor of the user's, or None: then async code
    runs on the loop, and other code in a thread, unless what it is given is of the class for which it is `quick`: then
    it is called where its task is.
    """

    function: Callable[..., Any]
    is_async: bool
    schema: Schema
    asks: Mapping[str, str]
    graph: Any = None
    declared: bool = False
    executor: Any = None
    quick: type | None = None
    only_looks: bool = False
    """Whether it is quick and changes nothing of what it is given, so that it needs no copy."""

    @property
    def on_loop(self) -> bool:
        """Whether it runs on the event loop, where all that it does between two awaits holds up the others."""
        return self.is_async if self.executor is None else self.executor == "loop"

    @property
    def stoppable(self) -> bool:
        """Whether it can be cancelled. What has begun in a thread or a process cannot: it is let finish."""
        return not isinstance(self.executor, str) if self.executor is not None else self.is_async


@dataclass(frozen=True, slots=True)
class Route:
    """A conditional edge: `path` is the user's function, `targets` what its answers stand for, if it is limited."""

    name: str
    path: Action
    targets: Mapping[Hashable, str] | None


@dataclass(frozen=True, slots=True)
class Handler:
    """What is to be done about an error of a node, under the name by which streams call it."""

    name: str
    action: Action


@dataclass(frozen=True, slots=True)
class Node:
    """A node with all that leaves it. START is one, too: it has no action. `ends` is whether an edge leads to END.

    `destinations` is where it says that its Commands may lead, by name, with a label for drawings. `reads` and `writes`
    are the keys that it is declared to see and to write, None where nothing is declared.
    """

    name: str
    action: Action | None
    targets: tuple[str, ...]
    joins: tuple[int, ...]
    routes: tuple[Route, ...]
    order: int
    defer: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    retry: tuple[RetryPolicy, ...] = ()
    cache: CachePolicy | None = None
    handler: Handler | None = None
    timeout: TimeoutPolicy | None = None
    destinations: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False
    reads: tuple[str, ...] | None = None
    writes: tuple[str, ...] | None = None
    returns: tuple[str, ...] | None = None
    """The keys of the type that its return annotation names, of which those that the state has are its writes."""

    governed: bool = field(init=False)
    """Whether its code is called under policies of its own; a node without an action has none to call."""
    in_process: bool = field(init=False)

    def __post_init__(self) -> None:
        policies = (self.retry, self.cache, self.handler)
        object.__setattr__(self, "governed", self.action is None or any(policies))
        object.__setattr__(self, "in_process", self.action is not None and self.action.executor == "process")


@dataclass(frozen=True, slots=True)
class Join:
    """An edge from several nodes at once: it fires when all `members` have run since `target` last did."""

    members: frozenset[str]
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A validated graph."""

    name: str
    state: Schema
    input: Schema
    output: Schema
    channels: Mapping[str, Channel]
    nodes: Mapping[str, Node]
    joins: tuple[Join, ...]
    context: Any = None
    reach: Reach | None = None
    """What its nodes reach by what they declare; None when no declaration could let any start earlier."""

    @property
    def keys(self) -> str | tuple[str, ...]:
        """What streams and snapshots show of the state: all of its keys, or the one that is the whole of it."""
        return self.state.single or tuple(self.channels)

    @property
    def answers(self) -> str | tuple[str, ...]:
        """What the output of a run is made of, in the same form."""
        return self.output.single or tuple(self.output.channels)

    def kept(self, arg: Any) -> Any:
        """What is stored of what a Send gives its node: nothing that it holds under a key that is never stored."""
        untracked = {key for key, channel in self.channels.items() if not channel.tracked}
        if not isinstance(arg, dict) or untracked.isdisjoint(arg):
            return arg
        return {key: value for key, value in arg.items() if key not in untracked}

    def digest(self) -> str:
        """Identifies the graph's shape: names, edges, joins and keys, but not the code of its nodes."""
        shape = {
            "keys": sorted(self.channels),
            "nodes": {
                node.name: [sorted(node.targets), sorted(route.name for route in node.routes)]
                for node in self.nodes.values()
            },
            "joins": sorted([sorted(join.members), join.target] for join in self.joins),
        }
        return hashlib.blake2b(json.dumps(shape, sort_keys=True).encode(), digest_size=16).hexdigest()

    def destinations(self, route: Route, answer: Any) -> tuple[str | Send, ...]:
        """What a conditional edge's `answer` triggers, END left out. Raises `InvalidUpdateError` for a bad one."""
        answers = answer if isinstance(answer, list | tuple) else [answer]
        named = [item if isinstance(item, Send) else self._named(route, item) for item in answers]
        return self.goals(named, f"conditional edge {route.name!r}")

    def goals(self, goto: Any, by: str) -> tuple[str | Send, ...]:
        """The nodes and Sends that `goto` names, END left out. `by` says in an error who named them."""
        if type(goto) is str:
            return () if goto == END else (self._checked(by, goto),)
        items = [goto] if isinstance(goto, str | Send) else list(goto)
        return tuple(self._checked(by, item) for item in items if item != END)

    def _named(self, route: Route, item: Any) -> str:
        if route.targets is not None:
            try:
                return route.targets[item]
            except (KeyError, TypeError):
                listed = ", ".join(repr(key) for key in route.targets)
                raise UnmappedAnswerError(
                    f"conditional edge {route.name!r} answered {item!r}, which its path map lacks ({listed})"
                ) from None
        if isinstance(item, str):
            return item
        raise InvalidUpdateError(
            f"conditional edge {route.name!r} answered {item!r}; it must name a node, END, or be a Send"
        )

    def _checked(self, by: str, target: Any) -> str | Send:
        name = target.node if isinstance(target, Send) else target
        if name not in self.nodes or self.nodes[name].action is None:
            raise InvalidUpdateError(
                f"{by} leads to {name!r}, which is no node that can run"
                + did_you_mean(str(name), [node for node in self.nodes if node != name])
            )
        goal: str | Send = target
        return goal
