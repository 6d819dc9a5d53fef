"""How edges run in the space between two layers: straight down, or sideways on a track of their own.

Edges that leave a node in the same manner are one net, a bus that forks; so are unconditional edges from several
nodes which all lead to the same places, a bus that gathers. Whatever is above such a net leads to everything below
it, so nothing is said by sharing the line that is not true of each edge.

Two nets must not run down the same column. Where one begins in the column in which another ends, it has to turn off
first, so its track is the higher one; among tracks that are free to choose, the order is that with few crossings. Two
nets may each have to be the higher one. Then one of them turns twice, and passes the other in a column of its own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fanfold.kernel.draw.layers import Flow, Hop, Item


@dataclass(slots=True, eq=False)
class Run:
    """A stretch sideways, in row `y`, between the columns from which it comes and those to which it leads.

    A run that another one of its net goes on from leads to the one column `turn`.
    """

    tops: Sequence[int]
    ends: Sequence[int]
    turn: int | None = None
    track: int = 0
    y: int = 0

    @property
    def left(self) -> int:
        """The first column that it touches."""
        return min(self.tops[0], self.ends[0])

    @property
    def right(self) -> int:
        """The last column that it touches."""
        return max(self.tops[-1], self.ends[-1])


@dataclass(slots=True, eq=False)
class Net:
    """Hops that are drawn as one line, from the `exits` of the items above to the `entries` of those below.

    Both say where on its item the line ends, in cells from the item's left. A straight net has no `runs`.
    """

    flow: Flow
    exits: dict[Item, int] = field(default_factory=dict)
    entries: dict[Item, int] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def columns(self) -> tuple[list[int], list[int]]:
        """Where it begins and ends, from left to right, once its items have their places."""
        tops = sorted(item.x + offset for item, offset in self.exits.items())
        return tops, sorted(item.x + offset for item, offset in self.entries.items())


def nets_of(hops: Iterable[Hop]) -> dict[Hop, Net]:
    """The net of each hop of one channel."""
    forks: dict[tuple[Item, Flow], list[Hop]] = {}
    for hop in hops:
        forks.setdefault((hop.upper, hop.flow), []).append(hop)
    made: dict[Hashable, Net] = {}
    found = {}
    for (upper, flow), fork in forks.items():
        lowers = dict.fromkeys((hop.lower for hop in fork), 0)
        # Dashes of lines that meet would fill each other's gaps, so conditional edges fork and never gather.
        key: Hashable = (upper, flow) if flow.kind == "conditional" else (frozenset(lowers), flow)
        net = made.setdefault(key, Net(flow, entries=lowers))
        net.exits[upper] = 0
        found.update(dict.fromkeys(fork, net))
    return found


def lay_tracks(nets: Iterable[Net]) -> int:
    """Give each net the runs that it needs, with their tracks counted from the top; returns how many those are."""
    queue = _Queue()
    for net in nets:
        tops, ends = net.columns()
        queue.used.update(tops, ends)
        if tops[0] != ends[-1] or ends[0] != tops[-1]:
            net.runs.append(Run(tops, ends))
            queue.add(net.runs[-1], net)
    laid: list[Run] = []
    for run in queue.in_order():
        run.track = max((other.track + 1 for other in laid if _touch(run, other)), default=0)
        laid.append(run)
    return max((run.track + 1 for run in laid), default=0)


class _Queue:
    """Runs that wait for a track. `used` are the columns in which lines begin or end."""

    def __init__(self) -> None:
        self.used: set[int] = set()
        self._runs: list[tuple[Run, Net]] = []
        self._rest: dict[int, None] = {}
        self._waits: list[set[int]] = []
        self._costs: list[dict[int, int]] = []
        self._scores: list[int] = []

    def add(self, run: Run, net: Net) -> None:
        """Let a run wait, for what must be above it as well as for what had better be."""
        new = len(self._runs)
        self._runs.append((run, net))
        self._waits.append(set())
        self._costs.append({})
        self._scores.append(0)
        for index in self._rest:
            other = self._runs[index][0]
            if _touch(run, other):
                self._weigh(new, index, _crossings(run, other) - _crossings(other, run))
                if not set(other.tops).isdisjoint(run.ends):
                    self._waits[new].add(index)
                if not set(run.tops).isdisjoint(other.ends):
                    self._waits[index].add(new)
        self._rest[new] = None

    def _weigh(self, one: int, other: int, cost: int) -> None:
        """Note how many more crossings there are with `one` above `other` than the other way round."""
        self._costs[one][other], self._costs[other][one] = cost, -cost
        self._scores[one] += cost
        self._scores[other] -= cost

    def in_order(self) -> Iterator[Run]:
        """The runs from the top down."""
        while self._rest:
            chosen = min(self._rest, key=lambda index: (len(self._waits[index]), self._scores[index], index))
            if self._waits[chosen]:
                self._split(chosen)
            del self._rest[chosen]
            for other, cost in self._costs[chosen].items():
                self._scores[other] += cost
                self._waits[other].discard(chosen)
            yield self._runs[chosen][0]

    def _split(self, index: int) -> None:
        """Lead the run to a free column first, so that only what goes on from there has to wait."""
        run, net = self._runs[index]
        middle = (run.left + run.right) // 2
        free = (column for column in range(max(self.used) + 2) if column not in self.used)
        run.turn = min(free, key=lambda column: abs(column - middle))
        self.used.add(run.turn)
        net.runs.append(Run([run.turn], run.ends))
        run.ends = [run.turn]
        self._waits[index].clear()
        self.add(net.runs[-1], net)
        self._waits[-1].add(index)


def _touch(run: Run, other: Run) -> bool:
    return run.left <= other.right + 1 and other.left <= run.right + 1


def _crossings(run: Run, other: Run) -> int:
    """How often they cross when `run` is above `other`."""
    return _between(other.tops, run) + _between(run.ends, other)


def _between(columns: Sequence[int], run: Run) -> int:
    return bisect_left(columns, run.right) - bisect_right(columns, run.left)
