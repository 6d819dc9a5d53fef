from __future__ import annotations

from fanfold.teams.debating.objects import Form, Stance


class Judged(Form):
    winner: Stance | None
    reason: str


def judged(first=None, second=None):
    a = None if first is None else {"first": "pro", "second": "con"}.get(first.winner)
    b = None if second is None else {"first": "con", "second": "pro"}.get(second.winner)
    return Judged(winner=a if a == b else None, reason=f"{a} {b}")
