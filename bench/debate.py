"""`python -m bench.debate`: how much of a debate's possible overlap is reached, where agents take unequally long.

A debate with k a side and R rounds is 3 + 2k + 2kR calls, which one after the other take as long as they take together.
If all took equally long, its 4 + R levels (questions, openings, R rounds, judge, synthesizer) would make it
(3 + 2k + 2kR) / (4 + R) times faster: the ideal. Agents do not take equally long. With a barrier after each level,
every level lasts as long as its slowest agent; in a ring a rebuttal needs only the one that it reads.

Agents here are functions that sleep, for times drawn from a log-normal distribution. Measured is the time that was
drawn for all of them, by the time on the wall, in which everything of ours is included, and whatever else the machine
does. Results go to `bench/results/debate.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fanfold import Debate, Limits, audit, python_agent
from fanfold.teams.debate import AGENTS

RESULTS: Final = Path(__file__).parent / "results" / "debate.json"
SIDES: Final = (1, 2, 3, 5)
ROUNDS: Final = 2
BARRIER: Final = {1: 1.35, 2: 1.96, 3: 2.59, 5: 3.82}
"""What a barrier was said to reach before anything of this was written."""
LEAST: Final = 0.9
"""What part of the ideal a ring without barriers has to reach."""

MODES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "barrier": ({"topology": "full", "questions": "first"}, "superstep"),
    "ring, questions first": ({"topology": "ring", "questions": "first"}, "watermark"),
    "ring": ({"topology": "ring"}, "watermark"),
}


@dataclass(frozen=True)
class Row:
    """One size of debate: its ideal, and the mean speed-up of each mode, with its standard error."""

    a_side: int
    calls: int
    ideal: float
    speedups: dict[str, float]
    errors: dict[str, float]
    one_by_one: float
    """The speed-up where one agent at a time is allowed: what is measured is measured right when this is 1."""

    @property
    def share(self) -> float:
        """What part of the ideal the ring reaches."""
        return self.speedups["ring"] / self.ideal


def main(words: Sequence[str]) -> int:
    """Measure and print; 1 where a ring stays below its part of the ideal."""
    asked = _parsed(words)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = [asyncio.run(_measured(a_side, asked, folder)) for a_side in SIDES]
    lines = [*_table(rows), f"{asked.debates} debates of each kind, sigma {asked.sigma:g}, agents of {asked.mean:g} s"]
    print("\n".join([*lines, f"measured in {time.perf_counter() - began:.0f} s"]))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"how": vars(asked), "rows": list(map(asdict, rows))}, indent=1) + "\n")
    missed = [row.a_side for row in rows if row.share < LEAST]
    if missed:
        print(f"below {LEAST:.0%} of the ideal with {missed} a side", file=sys.stderr)
    return 1 if missed else 0


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.debate", description="Measure how far debates overlap.")
    parser.add_argument("--debates", type=int, default=24, help="how many of each kind (24)")
    parser.add_argument("--at-once", type=int, default=6, help="how many of them at once (6)")
    parser.add_argument("--mean", type=float, default=0.5, help="seconds that an agent takes on average (0.5)")
    parser.add_argument("--sigma", type=float, default=0.4, help="of the logarithm of these seconds (0.4)")
    return parser.parse_args(words)


async def _measured(a_side: int, asked: argparse.Namespace, folder: str) -> Row:
    speedups, errors = {}, {}
    for mode in MODES:
        found = await _speedups(a_side, mode, asked, folder)
        speedups[mode], errors[mode] = statistics.mean(found), statistics.stdev(found) / math.sqrt(len(found))
    alone = await _held(a_side, "ring", 0, asked, folder, limits=Limits(max_concurrency=1))
    calls = 3 + 2 * a_side + 2 * a_side * ROUNDS
    return Row(a_side, calls, calls / (4 + ROUNDS), speedups, errors, alone)


async def _speedups(a_side: int, mode: str, asked: argparse.Namespace, folder: str) -> list[float]:
    place = asyncio.Semaphore(asked.at_once)

    async def one(seed: int) -> float:
        async with place:
            return await _held(a_side, mode, seed, asked, folder)

    return list(await asyncio.gather(*map(one, range(asked.debates))))


async def _held(a_side: int, mode: str, seed: int, asked: argparse.Namespace, folder: str, **options: Any) -> float:
    """How much faster than one by one a debate was: the calls that the ideal counts, one judge and no validator."""
    how, schedule = MODES[mode]
    shape = {"advocates": a_side, "challengers": a_side, "rounds": ROUNDS, "samples": 0, "judge": "once"}
    debate = Debate("Is it so?", sources=folder, **shape, **how, validator=False, seed=seed)
    compiled = debate.graph.compile(schedule=schedule)  # type: ignore[arg-type]  # one of the two
    drawn: list[float] = []
    receipt = audit(await compiled.ainvoke(debate.motion, agents=_agents(seed, asked, drawn), **options))
    assert len(drawn) == len(receipt.agents) == 3 + 2 * a_side + 2 * a_side * ROUNDS
    return sum(drawn) / receipt.wall


def _agents(seed: int, asked: argparse.Namespace, drawn: list[float]) -> list[Any]:
    """An agent for each role, which sleeps and says the same again and again."""
    chance = random.Random(f"{seed}")

    def agent(name: str, says: Any, later: Any) -> Any:
        @python_agent(name, name)
        async def speak(prompt: str) -> Any:
            drawn.append(asked.mean * chance.lognormvariate(-(asked.sigma**2) / 2, asked.sigma))
            await asyncio.sleep(drawn[-1])
            return later if "Give your rebuttal" in prompt else says

        return speak

    claim = {"id": "1", "text": "It is so.", "gap": "meta-gap", "confidence": 0.5}
    opening = {"stance": "pro", "answer": "innovate", "confidence": 0.5, "claims": [claim]}
    rebuttal = {"answer": "innovate", "confidence": 0.5, "agrees": ["It is."]}
    questions = [{"id": str(number), "text": f"Why {number}?", "gap": "meta-gap"} for number in range(15)]
    says: dict[str, tuple[Any, Any]] = {
        "questioner": ({"questions": questions}, None),
        "advocate": (opening, rebuttal),
        "challenger": (opening, rebuttal),
        "judge": ({"winner": "first", "reasons": "It is."}, None),
        "synthesizer": ({"decision": "innovate", "confidence": 0.5}, None),
    }
    return [agent(name, *says[role]) for role, name in AGENTS.items() if role in says]


def _table(rows: Sequence[Row]) -> list[str]:
    columns = ("a side", "calls", "ideal", *MODES, "ring, of the ideal", "barrier, as foretold", "one by one")
    lines = [f"| {' | '.join(columns)} |", "|---:" * len(columns) + "|"]
    for row in rows:
        speedups = " | ".join(f"{row.speedups[mode]:.2f} ± {row.errors[mode]:.2f}" for mode in MODES)
        rest = f"{row.share:.0%} | {BARRIER[row.a_side]:.2f} | {row.one_by_one:.2f}"
        lines.append(f"| {row.a_side} | {row.calls} | {row.ideal:.2f} | {speedups} | {rest} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
