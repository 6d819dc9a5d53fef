"""Which nodes wait for which at a barrier, and what the nodes would have to declare for that to end.

Of two nodes that may run at the same time, neither of which leads to the other, one may be due a step later. Then it
waits for the other one, unless what they declare says that it sees nothing that the other may write, neither by itself
nor by what it leads to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from fanfold.kernel.plan import Node, Plan
from fanfold.kernel.reach import Reach
from fanfold.types import START


@dataclass(frozen=True, slots=True)
class Waiting:
    """A node that waits for another one, on the other side of a barrier.

    `keys` are those that it sees and the other, or what that leads to, is declared to write: for these it has to wait.
    Without any, `writers` would have to declare what they write, and the node itself, if `reads`, what it reads.
    """

    node: str
    other: str
    keys: tuple[str, ...]
    writers: tuple[str, ...]
    reads: bool

    @property
    def needed(self) -> bool:
        """Whether it has to wait, by what is declared."""
        return bool(self.keys)


def waits(plan: Plan) -> Iterator[Waiting]:
    """All waiting that a run of the graph may come to, by its edges: node by node, in the order of their names."""
    leads = {name: _led(plan, node) for name, node in plan.nodes.items()}
    ways = {name: _ways(name, leads) for name in leads}
    steps = _steps(leads)
    reach = plan.reach or Reach(plan.nodes, plan.channels)
    working = sorted(name for name in plan.nodes if name != START and steps[name])
    for name in working:
        seen = reach.reads(name, given=False)
        for other in working:
            if other == name or name in ways[other] or other in ways[name]:
                continue  # one follows from the other, and has to wait anyway
            lag = max(steps[name]) - min(steps[other])
            writers = [plan.nodes[writer] for writer, way in sorted(ways[other].items()) if way < lag]
            vague = tuple(writer.name for writer in writers if writer.writes is None)
            keys = dict.fromkeys(key for writer in writers for key in writer.writes or () if key in seen)
            if keys or vague:
                yield Waiting(name, other, tuple(keys), vague, len(seen) == len(plan.channels))


def _led(plan: Plan, node: Node) -> frozenset[str]:
    """The nodes that the edges of a node lead to, and those that it says its Commands may lead to."""
    found = {*node.targets, *node.destinations, *(plan.joins[index].target for index in node.joins)}
    for route in node.routes:
        found.update(plan.nodes.keys() - {START} if route.targets is None else route.targets.values())
    return frozenset(found & plan.nodes.keys())


def _ways(name: str, leads: Mapping[str, Collection[str]]) -> dict[str, int]:
    """The nodes that may run because of this one, itself the first, and how many steps later at the least."""
    found = {name: 0}
    ring = [name]
    while ring:
        later = dict.fromkeys(target for source in ring for target in leads[source] if target not in found)
        found.update(dict.fromkeys(later, found[ring[0]] + 1))
        ring = list(later)
    return found


def _steps(leads: Mapping[str, Collection[str]]) -> dict[str, set[int]]:
    """The steps in which each node may run, as far as twice through the whole graph: loops have no end."""
    found: dict[str, set[int]] = {name: set() for name in leads}
    ring = {START}
    for step in range(2 * len(leads) + 1):
        for name in ring:
            found[name].add(step)
        ring = {target for name in ring for target in leads[name]}
    return found
