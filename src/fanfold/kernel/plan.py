"""The frozen plan: everything the ledger needs to know of a graph, in the form in which it asks.

A plan is made once, by `Builder.plan()`, after validation; nothing in it changes afterwards, so that any number of
runs can share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from fanfold.errors import InvalidUpdateError, did_you_mean
from fanfold.kernel.channels import Channel
from fanfold.kernel.schema import Schema
from fanfold.types import END, Send


@dataclass(frozen=True, slots=True)
class Route:
    """A conditional edge: `path` is the user's function, `targets` what its answers stand for, if it is limited."""

    name: str
    path: Callable[..., Any]
    targets: Mapping[Hashable, str] | None
    schema: Schema


@dataclass(frozen=True, slots=True)
class Node:
    """A node with all that leaves it. START is one, too: it has no action."""

    name: str
    action: Callable[..., Any] | None
    is_async: bool
    schema: Schema
    targets: tuple[str, ...]
    joins: tuple[int, ...]
    routes: tuple[Route, ...]
    order: int


@dataclass(frozen=True, slots=True)
class Join:
    """An edge from several nodes at once: it fires when all `members` have run since it last fired."""

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
        named = (item if isinstance(item, Send) else self._named(route, item) for item in answers)
        return tuple(self._checked(route, target) for target in named if target != END)

    def _named(self, route: Route, item: Any) -> str:
        if route.targets is not None:
            try:
                return route.targets[item]
            except (KeyError, TypeError):
                listed = ", ".join(repr(key) for key in route.targets)
                raise InvalidUpdateError(
                    f"conditional edge {route.name!r} answered {item!r}, which its path map lacks ({listed})"
                ) from None
        if isinstance(item, str):
            return item
        raise InvalidUpdateError(
            f"conditional edge {route.name!r} answered {item!r}; it must name a node, END, or be a Send"
        )

    def _checked(self, route: Route, target: str | Send) -> str | Send:
        name = target.node if isinstance(target, Send) else target
        if name not in self.nodes or self.nodes[name].action is None:
            raise InvalidUpdateError(
                f"conditional edge {route.name!r} leads to {name!r}, which is no node that can run"
                + did_you_mean(name, self.nodes)
            )
        return target
