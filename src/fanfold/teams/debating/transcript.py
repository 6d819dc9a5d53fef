"""What is kept of a debate: who was asked what, what came of it, and what it took.

A transcript is all that a verdict is made of, so the same transcript always gives the same verdict, on any machine and
without asking anybody. It is plain data: written as JSON, and read back with `recorded`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from fanfold.teams.debating.exchange import Topology
from fanfold.teams.debating.objects import (
    Challenge,
    Claim,
    Form,
    Judgement,
    Mark,
    Opening,
    Questions,
    Rebuttal,
    Statement,
    Validation,
    Verdict,
)
from fanfold.teams.debating.stopping import Spent, Stopped

Role: TypeAlias = Literal["questioner", "advocate", "challenger", "judge", "synthesizer", "validator", "sample"]
Protocol: TypeAlias = Literal["rounds", "cascade"]
VoteRule: TypeAlias = Literal["majority", "weighted"]

ORDERS: Final = ("judge-pro-first", "judge-con-first")
"""The two judges: which side each of them reads first."""


class Call(Form):
    """One agent, asked once: what it took. `seconds` are its own; `cost_usd` is None where no price is known."""

    who: str
    role: Role
    round: Annotated[int, Field(ge=0)] = 0
    agent: str
    model: str = ""
    task: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    tool_uses: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0
    status: Literal["answered", "failed"] = "answered"

    @property
    def unpriced(self) -> bool:
        """Whether models were asked, and nobody knows what that cost."""
        return self.cost_usd is None and self.requests > 0


class Record(Form):
    """What one node of the debate came to: what was said, if anything, and what has to be known about that."""

    who: str
    role: Role
    round: Annotated[int, Field(ge=0)] = 0
    said: Opening | Statement | Questions | Judgement | Verdict | Validation | None = None
    calls: tuple[Call, ...] = ()
    marks: tuple[Mark, ...] = ()

    @property
    def statement(self) -> Statement | None:
        """What a member of a side said."""
        return self.said if isinstance(self.said, Statement) else None


class Transcript(Form):
    """A whole debate, from its question to what its validator said."""

    question: str
    folder: str = "."
    protocol: Protocol = "rounds"
    advocates: int = 1
    challengers: int = 1
    topology: Topology = "full"
    rounds: int = 2
    vote: VoteRule = "majority"
    quorum: int | None = None
    judges: int = 2
    seed: int = 0
    ended: tuple[Stopped, ...] = ()
    records: tuple[Record, ...] = ()

    def by(self, role: Role) -> list[Record]:
        """The records of a role, in the order of the debate."""
        return [record for record in self.records if record.role == role]

    @property
    def calls(self) -> list[Call]:
        """Every time an agent was asked."""
        return [call for record in self.records for call in record.calls]

    @property
    def statements(self) -> list[Statement]:
        """All that the two sides have said, round by round."""
        said = [record.said for record in self.records if isinstance(record.said, Statement)]
        return sorted(said, key=lambda statement: statement.round)

    @property
    def claims(self) -> list[Claim]:
        """Every claim of either side."""
        openings = (each.said for each in self.statements if isinstance(each.said, Opening))
        return [claim for opening in openings for claim in opening.claims]

    def said_by(self, role: Role) -> list[Form]:
        """What came of a role's records, without those of which nothing came."""
        return [record.said for record in self.by(role) if record.said is not None]

    def spent(self, round: int | None = None) -> Spent:
        """What the debate has cost, without answers bought beside it; or what the two sides of one round have."""
        of_sides = ("advocate", "challenger")
        return spent(
            call
            for record in self.records
            for call in record.calls
            if (record.role != "sample" if round is None else record.role in of_sides and record.round == round)
        )


def spent(calls: Iterable[Call]) -> Spent:
    """What the calls have cost together."""
    listed = list(calls)
    return Spent(
        calls=len(listed),
        tokens=sum(call.input_tokens + call.output_tokens for call in listed),
        money=sum(call.cost_usd or 0.0 for call in listed),
    )


def last_said(statements: Iterable[Statement]) -> dict[str, Statement]:
    """The last statement of each seat."""
    return {each.seat: each for each in sorted(statements, key=lambda statement: statement.round)}


def challenges(statements: Iterable[Statement]) -> Iterator[tuple[Statement, int, Challenge]]:
    """Every challenge, with the statement that it is in, and which of it."""
    for statement in statements:
        if isinstance(statement.said, Rebuttal):
            for at, challenge in enumerate(statement.said.challenges):
                yield statement, at, challenge
