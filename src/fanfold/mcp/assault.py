"""Attacking a door: each attack in turn, and what came of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fanfold.errors import QueryError, QueryRefusedError, StoreError
from fanfold.mcp.attacks import Attack, Held
from fanfold.mcp.door import Caps, Door
from fanfold.mcp.victims import Victim

CAPS: Final = Caps(rows=200, bytes=1_000_000, seconds=0.6, at_once=2)
LATE: Final = 3.0
"""Seconds beyond the cap after which an answer is late; the machine may be busy."""
SETTLED: Final = 5.0
"""Seconds within which a statement that was ended has to be gone from the server."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attack: the wall that held, what was said, how long it took, and the harm that was done."""

    attack: Attack
    held: Held
    said: str
    ms: float
    harm: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether a wall that should hold did, and nothing came of it."""
        return not self.harm and self.held in self.attack.walls


@dataclass(frozen=True, slots=True)
class _Before:
    """How a victim was: the session of its door, if that is the same one after the attack, and its own state.

    `seconds` is how long it may take to be so again.
    """

    session: Any
    state: Mapping[str, str]
    seconds: float


async def assaulted(
    victim: Victim, attacks: Sequence[Attack], caps: Caps = CAPS, *, settled: float = SETTLED
) -> AsyncIterator[Outcome]:
    """The outcome of each attack. The victim is entered already, and has `settled` seconds to be as it was before."""
    async with victim.door(caps) as door:
        # The first session of a door is as it has to be found after each attack.
        session = await victim.session(door)
        state = victim.state()
        for attack in attacks:
            yield await _tried(victim, door, attack, _Before(session, state, settled))


async def _tried(victim: Victim, door: Door, attack: Attack, before: _Before) -> Outcome:
    if not attack.before:
        return await _judged(victim, door, attack, before)
    victim.say(attack.before.format_map(victim.words))
    try:
        async with victim.door(door.caps) as fresh:
            return await _judged(victim, fresh, attack, _Before(None, victim.state(), before.seconds))
    finally:
        victim.say(attack.after.format_map(victim.words))


async def _judged(victim: Victim, door: Door, attack: Attack, before: _Before) -> Outcome:
    begun = time.perf_counter()
    held, said, harm = await _attempted(victim, door, attack)
    seconds = time.perf_counter() - begun
    if seconds > door.caps.seconds + LATE:
        harm.append(f"it took {seconds:.1f} s")
    after, state = await _settled(victim, before), before.state
    changed = [what for what in sorted({*state, *after}) if state.get(what) != after.get(what)]
    harm += [f"{what}: {state.get(what)} became {after.get(what)}" for what in changed]
    if before.session is not None and (left := await victim.session(door)) != before.session:
        harm.append(f"the session is another one: {left}")
    return Outcome(attack, held, said, round(seconds * 1000, 1), tuple(harm))


async def _attempted(victim: Victim, door: Door, attack: Attack) -> tuple[Held, str, list[str]]:
    try:
        told = await door.query(attack.sql.format_map(victim.words))
    except QueryRefusedError as error:
        wall: Any = error.wall
        return wall, _line(error), []
    except (QueryError, StoreError) as error:
        return "nothing", _line(error), []
    text = json.dumps(told.rows)
    harm = []
    if victim.secret in text:
        harm.append("it was shown the secret")
    if len(told.rows) > door.caps.rows or len(text) > 2 * door.caps.bytes:
        harm.append(f"it got {len(told.rows):,} rows, {len(text):,} bytes")
    said = f"answered with {len(told.rows):,} rows" + (f", cut off at its {told.truncated}" if told.truncated else "")
    return ("cap" if told.truncated else "harmless"), said, harm


async def _settled(victim: Victim, before: _Before) -> Mapping[str, str]:
    """The victim's state as soon as it is the old one, or what it is when it does not come to be."""
    end = time.monotonic() + before.seconds
    while (now := victim.state()) != before.state and time.monotonic() < end:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.02)  # a statement that was cut off ends there a moment later
    return now


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
