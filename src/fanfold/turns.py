"""Who takes turns on an event loop that never comes to rest.

Code that holds the loop for a moment only, and again and again, keeps others from going on as surely as code that does
so once. No slice of it is long enough to be told of; what is told is what they come to::

    a ▓▓▓   ▓▓▓   ▓▓▓        each of the two is at work half of the time, and waits for the other one as long:
    b    ▓▓▓   ▓▓▓   ▓▓▓     "a was held up for 30 ms", "a held the loop for 30 ms, in 10 pieces"

A loop serves those that can go on one after the other. So a task that goes on without the loop having rested before, in
the next millisecond or the next rounds, has waited for one turn of each of the others, as far as it has been suspended
for as long. Slices below `BRIEF` count for nothing: a thousand tasks that begin together are no crowd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from fanfold.rounds import Rounds

BRIEF: Final = 0.001
"""Seconds on the loop from which on a slice is somebody's turn."""

NEXT: Final = 0.001
"""Seconds within which the next slice begins when the loop does not come to rest between, or in its next rounds."""

TOLD_FROM: Final = 0.02
"""Seconds, in several pieces, that are worth telling."""

Seen: TypeAlias = tuple[str, int, str, tuple[str, ...]]
Tell: TypeAlias = Callable[[str, float, float, int, Seen], None]
"""Tells that a task has held the loop: until when, for how many seconds, in how many pieces, and mostly where."""


class _Turn(NamedTuple):
    seconds: float
    ended: float
    task: str
    place: Seen
    tell: Tell


class _Sum:
    """What the turns of one task come to, since that was last told."""

    __slots__ = ("ended", "pieces", "places", "seconds", "tell")

    def __init__(self) -> None:
        self.seconds = self.ended = 0.0
        self.pieces = 0
        self.places: dict[Seen, float] = {}

    def add(self, turn: _Turn) -> None:
        self.seconds += turn.seconds
        self.ended, self.tell = turn.ended, turn.tell
        self.pieces += 1
        if turn.place[0]:
            self.places[turn.place] = self.places.get(turn.place, 0.0) + turn.seconds

    def told(self, task: str) -> None:
        place = max(self.places, key=self.places.__getitem__, default=("", 0, "", ()))
        self.tell(task, self.ended, self.seconds, self.pieces, place)


class Turns:
    """The turns on one event loop. `until` is when the last one ended."""

    __slots__ = ("_late", "_longest", "_new", "_round", "_rounds", "_sums", "until")

    def __init__(self) -> None:
        self.until = float("-inf")
        self._rounds = Rounds()
        self._round: dict[str, float] = {}  # the last turn of each task since the loop came to rest, in seconds
        self._longest = 0.0  # these, added up
        self._new: list[_Turn] = []  # nobody has waited for them yet
        self._late: dict[str, float] = {}
        self._sums: dict[str, _Sum] = {}

    def follows(self, now: float) -> bool:
        """Whether what begins now does so without the loop having rested since the last turn."""
        return now - self.until <= NEXT or self._rounds.on

    def took(self, task: str, began: float, ended: float, place: Seen, tell: Tell) -> None:
        """A task has had its turn."""
        self._turn(task, began, ended)
        self._new.append(_Turn(ended - began, ended, task, place, tell))

    def held(self, task: str, began: float, ended: float) -> float:
        """It has, and that was so long that it is told of by itself. How long it had waited before, in all, which is
        to be told first: it is about the time before that."""
        self._turn(task, began, ended)
        return self._late.pop(task, 0.0)

    def late(self, task: str, suspended: float, now: float, told: float = 0.0) -> float:
        """A task that was suspended goes on. How many seconds it has waited for others in all, once that is worth
        telling, besides those that are `told` now: with those, whatever there is."""
        seconds = min(self.until - suspended, self._longest - self._round.get(task, 0.0)) - told
        if seconds <= 0 or not self.follows(now):
            return self._late.pop(task, 0.0) if told else 0.0
        self._charge(task)
        late = self._late.pop(task, 0.0) + seconds
        if told or late >= TOLD_FROM:
            return late
        self._late[task] = late
        return 0.0

    def forget(self, task: str) -> None:
        """A task has ended. What it has held the loop for is told, if it is not next to nothing."""
        self._late.pop(task, None)
        left = self._sums.pop(task, None)
        if left is not None and left.seconds >= TOLD_FROM / 4:
            left.told(task)

    def _turn(self, task: str, began: float, ended: float) -> None:
        """It takes others as long as it took the loop to come to it, too, if that has not rested."""
        between = began - self.until
        if not self.follows(began):
            self._round.clear()
            self._new.clear()
            self._longest = between = 0.0
        seconds = ended - began + (between if 0.0 < between < TOLD_FROM else 0.0)
        self._longest += seconds - self._round.get(task, 0.0)
        self._round[task] = seconds
        self.until = ended
        self._rounds.begin()

    def _charge(self, waited: str) -> None:
        """Somebody has waited for the turns since he was last on the loop, or since anybody last did."""
        for turn in self._new:
            if turn.task == waited:
                continue
            held = self._sums.setdefault(turn.task, _Sum())
            held.add(turn)
            if held.seconds >= TOLD_FROM:
                held.told(turn.task)
                del self._sums[turn.task]
        self._new = [turn for turn in self._new if turn.task == waited]
