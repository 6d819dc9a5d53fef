"""Who reads whom in a debate, and what a reader sees: everything that was said, and nothing of who said it.

**Seats.** A debate has seats on two sides, `pro-1`, `con-1`, `pro-2` and so on. A reader never sees a seat's name, nor
that of its agent or model; models defer to names. Each seat has a letter instead, drawn by the seed, and what it said
has ids that start with this letter: `K.2` is its second claim, `K.r1.3` the third challenge that it made in round 1.
Names that members drop in what they write are replaced as well, except in quotes that were verified, which are not
their words. The order in which a reader sees the others is drawn anew for each reader and round. Both judges read each
side in the same order, so that nothing but the sides is swapped.

**Topologies.** What a seat reads in a round it has to wait for, so fewer readings cost less and wait less::

    full    everybody else
    ring    one opponent: first the next on the ring, then whoever has read it in the round before
    star    the opponents' first seat; the two first seats read all opponents

In each of them, whoever challenges is read in the next round by the one that was challenged, who can respond. That is
why the ring turns round after each round. Where the sides are as large as each other, everybody reads exactly one.

**Frames.** What members said stands in frames (`fanfold.framed`), as JSON. So neither a quote nor a claim can end the
place where it stands, and what it tells its reader to do stays something that was said.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from fanfold import framed
from fanfold.teams.debating.objects import (
    Challenge,
    Claim,
    Evidence,
    Form,
    Mark,
    Opening,
    Rebuttal,
    Response,
    Stance,
    Statement,
)

Topology: TypeAlias = Literal["full", "ring", "star"]
TOPOLOGIES: Final[tuple[Topology, ...]] = get_args(Topology)

_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # without I and O, which look like numbers
_Named = TypeVar("_Named", Challenge, Response)


def usual_topology(a_side: int) -> Topology:
    """Ring above two a side: it is as accurate, and its prompts are shorter."""
    return "ring" if a_side > 2 else "full"


@dataclass(frozen=True, slots=True)
class Table:
    """The seats of a debate, and who reads whom."""

    advocates: int
    challengers: int
    topology: Topology = "full"
    seats: tuple[str, ...] = field(init=False)
    """All of them, around the ring: the sides take turns as long as both have seats left."""

    def __post_init__(self) -> None:
        if self.advocates < 1 or self.challengers < 1:
            raise ValueError(f"a debate needs a seat on either side, not {self.advocates} and {self.challengers}")
        if self.topology not in TOPOLOGIES:
            raise ValueError(f"topology {self.topology!r} is none of {', '.join(TOPOLOGIES)}")
        sides = {"pro": self.advocates, "con": self.challengers}
        numbers = range(1, max(sides.values()) + 1)
        seats = tuple(f"{side}-{number}" for number in numbers for side, count in sides.items() if number <= count)
        object.__setattr__(self, "seats", seats)

    def opponents(self, seat: str) -> tuple[str, ...]:
        """The seats of the other side."""
        return tuple(other for other in self.seats if stance_of(other) != stance_of(seat))

    def reads(self, seat: str, round: int) -> tuple[str, ...]:
        """Whom `seat` reads in this round, up to what they said in the round before. In round 0, nobody."""
        if round == 0:
            return ()
        if self.topology == "full":
            return tuple(other for other in self.seats if other != seat)
        if self.topology == "ring":
            return self._on_the_ring(round)[seat]
        opponents = self.opponents(seat)
        speaks = seat == self.opponents(opponents[0])[0]
        return opponents if speaks else opponents[:1]

    def _on_the_ring(self, round: int) -> dict[str, tuple[str, ...]]:
        reads: dict[str, tuple[str, ...]] = {seat: (self._next(seat),) for seat in self.seats}
        for _ in range(1, round):
            read_by = {seat: tuple(other for other in self.seats if seat in reads[other]) for seat in self.seats}
            # On the larger side, there may be some whom nobody has read.
            reads = {seat: readers or (self._next(seat),) for seat, readers in read_by.items()}
        return reads

    def _next(self, seat: str) -> str:
        """The next opponent on the ring."""
        at = self.seats.index(seat)
        return next(other for other in self.seats[at:] + self.seats[:at] if stance_of(other) != stance_of(seat))


def stance_of(seat: str) -> Stance:
    """The side of a seat."""
    return "pro" if seat.startswith("pro-") else "con"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the members of one debate let each other read.

    `names` are what no member may read: for each, of agents and of models, the seats that it stands for. The same seed
    gives the same letters and the same order, whatever was said first.
    """

    table: Table
    seed: int = 0
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    letters: Mapping[str, str] = field(init=False)
    """The letter of each seat."""
    _pattern: re.Pattern[str] = field(init=False, repr=False)
    _pseudonyms: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        letters = _drawn(len(self.table.seats), random.Random(f"{self.seed} letters"))  # noqa: S311 - it is no secret
        known = {**{seat: (seat,) for seat in self.table.seats}, **self.names}
        object.__setattr__(self, "letters", dict(zip(self.table.seats, letters, strict=True)))
        object.__setattr__(self, "_pattern", _any_of(known))
        object.__setattr__(self, "_pseudonyms", {_folded(name): self._pseudonym(who) for name, who in known.items()})

    def _pseudonym(self, seats: Sequence[str]) -> str:
        return f"participant {self.letters[seats[0]]}" if len(seats) == 1 else "a participant"

    # What was said, as it is kept.

    def admitted(
        self, seat: str, round: int, said: Opening | Rebuttal, shown: Iterable[Statement] = ()
    ) -> tuple[Statement, tuple[Mark, ...]]:
        """What was said, with ids that are nobody else's, and what had to be left out of it.

        `shown` is what the member had read. A challenge of a claim that was not in it, or a response to a challenge
        that was not, is left out and marked: nobody could tell what it is about.
        """
        if isinstance(said, Opening):
            claims = [claim.model_copy(update={"id": self.claim_id(seat, at)}) for at, claim in enumerate(said.claims)]
            return Statement(seat=seat, round=round, said=said.model_copy(update={"claims": tuple(claims)})), ()
        shown = tuple(shown)
        challenges, odd = _known(said.challenges, "claim", (claim.id for claim in claims_of(shown)))
        responses, odder = _known(said.responses, "challenge", self.challenges_of(shown))
        kept = {name: getattr(said, name) for name in Rebuttal.model_fields}
        rebuttal = Rebuttal(**{**kept, "challenges": challenges, "responses": responses})
        marks = tuple(Mark(kind="unknown id", who=seat, text=text) for text in odd + odder)
        return Statement(seat=seat, round=round, said=rebuttal), marks

    def claim_id(self, seat: str, at: int) -> str:
        """The id of a seat's claim, counted from 0."""
        return f"{self.letters[seat]}.{at + 1}"

    def challenge_id(self, seat: str, round: int, at: int) -> str:
        """The id of a challenge that a seat made in a round, counted from 0."""
        return f"{self.letters[seat]}.r{round}.{at + 1}"

    def challenges_of(self, statements: Iterable[Statement]) -> dict[str, Challenge]:
        """All challenges in the statements, by their ids."""
        return {
            self.challenge_id(statement.seat, statement.round, at): challenge
            for statement in statements
            if isinstance(statement.said, Rebuttal)
            for at, challenge in enumerate(statement.said.challenges)
        }

    # What a reader sees of it.

    def shown(self, seat: str, round: int, statements: Iterable[Statement]) -> tuple[Statement, ...]:
        """The statements that `seat` reads in this round: those of others, shuffled, each one's in their order.

        Of what it may read it gets what was said before this round, whatever else is there already: so the same comes
        of it however fast the others are.
        """
        others = list(self.table.reads(seat, round))
        random.Random(f"{self.seed} {seat} {round}").shuffle(others)  # noqa: S311 - it is no secret
        earlier = [statement for statement in statements if statement.round < round]
        by_round = sorted(earlier, key=lambda statement: statement.round)
        return tuple(statement for other in others for statement in by_round if statement.seat == other)

    def drawn(self, reader: str, statements: Iterable[Statement]) -> list[Statement]:
        """The statements as somebody reads them who has no seat: round by round, in each in an order that is drawn."""
        seats = list(self.table.seats)
        random.Random(f"{self.seed} {reader}").shuffle(seats)  # noqa: S311 - it is no secret
        return sorted(statements, key=lambda statement: (statement.round, seats.index(statement.seat)))

    def written(self, statements: Iterable[Statement]) -> str:
        """Statements of others as they may stand in a member's prompt: each in a frame, without a name."""
        return "\n\n".join(
            framed(self._as_json(statement), source=f"participant {self.letters[statement.seat]}")
            for statement in statements
        )

    def own(self, seat: str, statements: Iterable[Statement]) -> str:
        """What a seat said itself, for its own prompt, with the ids that others know it by."""
        return self.written(statement for statement in statements if statement.seat == seat)

    def unnamed(self, text: str) -> str:
        """The text, with every name that no member may read replaced."""
        return self._pattern.sub(lambda match: self._pseudonyms[_folded(match[0])], text)

    def _as_json(self, statement: Statement) -> str:
        said: dict[str, Any] = {"round": statement.round, **self._plain(statement.said)}
        for at, challenge in enumerate(said.get("challenges", ())):
            challenge["id"] = self.challenge_id(statement.seat, statement.round, at)
        return json.dumps(said, ensure_ascii=False, indent=1)

    def _plain(self, said: Any) -> Any:
        """An object as plain data without names, in which every piece of evidence and every claim says what it is."""
        if isinstance(said, Evidence):
            # Verified words are the source's own, and a name in them is nobody's signature.
            source, quote = map(str if said.verified else self.unnamed, (said.source, said.quote))
            return {"source": source, "quote": quote, "check": FOUND if said.verified else NOT_FOUND}
        if isinstance(said, Form):
            plain = {name: self._field(name, getattr(said, name)) for name in type(said).model_fields}
            return {**plain, "check": _checked(said.evidence)} if hasattr(said, "evidence") else plain
        return [self._plain(inner) for inner in said] if isinstance(said, tuple) else said

    def _field(self, name: str, value: Any) -> Any:
        if name == "text":
            return self.unnamed(value)
        return list(map(self.unnamed, value)) if name == "agrees" else self._plain(value)


FOUND: Final = "verified: the quote stands in the source"
NOT_FOUND: Final = "UNVERIFIED: the quote was not found in the source"
SUPPORTED: Final = "verified: a quote for it stands in its source"
UNSUPPORTED: Final = "UNVERIFIED: no quote for it was found in a source"


def _checked(evidence: Iterable[Evidence]) -> str:
    return SUPPORTED if any(piece.verified for piece in evidence) else UNSUPPORTED


def claims_of(statements: Iterable[Statement]) -> list[Claim]:
    """All claims in the statements."""
    return [claim for statement in statements if isinstance(statement.said, Opening) for claim in statement.said.claims]


def _known(said: Iterable[_Named], naming: str, ids: Iterable[str]) -> tuple[tuple[_Named, ...], list[str]]:
    """Those whose `naming` is an id that there is, with the id as it is written; and what is wrong with the others."""
    there = {_bare(known): known for known in ids}
    kept: list[_Named] = []
    odd: list[str] = []
    for part in said:
        named = getattr(part, naming)
        if _bare(named) in there:
            kept.append(part.model_copy(update={naming: there[_bare(named)]}))
        else:
            odd.append(f"a {type(part).__name__.lower()} to {naming} {named!r}, which it had not read, was left out")
    return tuple(kept), odd


def _drawn(count: int, chance: random.Random) -> list[str]:
    """So many different labels of letters, as short as possible."""
    labels = list(_LETTERS)
    while len(labels) < count:
        labels = [label + letter for label in labels for letter in _LETTERS]
    return chance.sample(labels, count)


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    """What finds any of the names, however its words are joined; longer names first."""
    ordered = sorted({name.strip() for name in names if name.strip()}, key=len, reverse=True)
    spelt = [r"[\s_-]*".join(map(re.escape, re.split(r"[\s_-]+", name))) for name in ordered]
    return re.compile(rf"(?<!\w)(?:{'|'.join(spelt)})(?!\w)", re.IGNORECASE)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _bare(id: str) -> str:
    """An id without what models put around it."""
    return id.strip(" []()<>'\"`#.:").casefold()
