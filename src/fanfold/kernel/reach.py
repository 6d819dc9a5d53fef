"""How far a node reaches: what may be written, and which nodes may run, because of it, and how many steps later.

`Reach` is made once for a graph, from what its nodes declare. For a channel (or a node) it gives, for each node *n*,
the fewest steps after a step of *n* in which the channel may be written (the node may run) because *n* ran: 0 when *n*
itself may write it, otherwise one more than the least of the nodes that *n* may lead to. A node for which there is no
number can have no part in it any more. These are the summaries of paths with which Naiad tells whether a notification
could still come ("could-result-in", Murray et al., SOSP 2013).

What a node may do is what it declares: it writes the keys of `writes=` or of its return annotation, and leads along its
edges, the `path_map`s of its conditional edges and its `destinations`. One that declares no writes may write everything
and lead anywhere. Joins are no part of this: when one fires depends on all of its members.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Final

from fanfold.errors import InvalidUpdateError
from fanfold.kernel.plan import Action, Node
from fanfold.types import START, Send

Distances = Mapping[str, int]
"""For each node the fewest steps; a node that is not in it, never."""


class Reach:
    """What the nodes of one graph declare, and what follows from it. `keys` are those of the state."""

    def __init__(self, nodes: Mapping[str, Node], keys: Collection[str]) -> None:
        self._nodes = nodes
        self._keys = frozenset(keys)
        self._leads = {name: _leads(node) for name, node in nodes.items()}
        self._anywhere = frozenset(name for name, leads in self._leads.items() if leads is None)
        self._into: dict[str, list[str]] = {}
        for name, leads in self._leads.items():
            for target in leads or ():
                self._into.setdefault(target, []).append(name)
        self.writing = cache(self._writing)
        self.running = cache(self._running)
        self.sending: Final = self._backwards(name for name, node in nodes.items() if self._may_send(node))

    @property
    def helps(self) -> bool:
        """Whether any node declares so much that another one could start before the step below it has ended."""
        return any(node.action is not None and self._written(node) != self._keys for node in self._nodes.values())

    def reads(self, name: str, *, given: bool) -> tuple[str, ...]:
        """The keys that a task of the node sees; one that was `given` its input sees some in its paths alone."""
        node = self._nodes[name]
        seen: dict[str, None] = {}
        for action in _actions(node, given=given):
            seen.update(dict.fromkeys(action.schema.channels))
        return tuple(seen)

    def check(self, name: str, goals: Iterable[str | Send]) -> None:
        """Raise `InvalidUpdateError` when a node leads where it has not declared that it may."""
        leads = self._leads[name]
        if leads is None:
            return
        told = _told(self._nodes[name])
        for goal in goals:
            target, allowed = (goal.node, told) if isinstance(goal, Send) else (goal, leads)
            if target not in allowed:
                listed = ", ".join(map(repr, sorted(allowed))) or "nowhere"
                what = "sends to" if isinstance(goal, Send) else "leads to"
                raise InvalidUpdateError(
                    f"node {name!r} {what} {target!r}, and what it declares {what}: {listed};"
                    f" name it in destinations= of add_node, or in the path_map of the conditional edge"
                )

    def _writing(self, key: str) -> Distances:
        """How soon the key may be written."""
        return self._backwards(name for name, node in self._nodes.items() if key in self._written(node))

    def _running(self, name: str) -> Distances:
        """How soon the node may run."""
        return self._backwards([name])

    def _written(self, node: Node) -> Collection[str]:
        return self._keys if node.action is None or node.writes is None else frozenset(node.writes)

    def _may_send(self, node: Node) -> bool:
        return self._leads[node.name] is None or bool(_told(node))

    def _backwards(self, names: Iterable[str]) -> Distances:
        """The distances to the nearest of these nodes, breadth first against the edges."""
        found = dict.fromkeys(names, 0)
        ring, distance = list(found), 0
        while ring:
            distance += 1
            before = (source for name in ring for source in self._into.get(name, ()))
            ring = [source for source in dict.fromkeys(before) if source not in found]
            if distance == 1:
                ring += [name for name in self._anywhere if name not in found and name not in ring]
            found.update(dict.fromkeys(ring, distance))
        return found


def _leads(node: Node) -> frozenset[str] | None:
    """The nodes that a node may trigger by itself; None for any."""
    if node.name == START or node.action is None or node.writes is None:
        return None
    if any(route.targets is None for route in node.routes):
        return None
    return frozenset({*node.targets, *_told(node)})


def _told(node: Node) -> set[str]:
    """Where a node's Commands and conditional edges may lead, by what is declared; only these can send, too."""
    return {*node.destinations, *(name for route in node.routes for name in (route.targets or {}).values())}


def _actions(node: Node, *, given: bool) -> Iterable[Action]:
    """The code of a node that looks at the state."""
    yield from (route.path for route in node.routes)
    if not given and node.action is not None:
        yield node.action
        if node.handler is not None:
            yield node.handler.action
