"""A debate that is killed in the middle of a round goes on, and asks nobody twice; and five debates at once."""

from __future__ import annotations

import asyncio
import operator
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import START, Debate, Limits, StateGraph, audit
from fanfold.agents.modelserver import Answer, Request, rehearse
from fanfold.store.opening import open_store
from fanfold.teams.debate import replay
from fanfold.testing import ModelServer
from tests.teams.scripted import QUOTE, USUAL, folder, is_opening, members, opening, rebuttal

LONGEST = 60.0


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    return folder(tmp_path / "docs")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store outside of what agents read: SQLite's locks do not survive that its process opens and closes its file."""
    return f"sqlite:///{tmp_path / 'runs.db'}"


class Gate:
    """Lets the model answer, but for the advocates' rebuttals of round 2: with it shut, that round is half over."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def speak(self, request: Request) -> Any:
        held = '"round": 1' in request.prompt and "Give your rebuttal" in request.prompt
        if held and "`stance` is `pro`" in request.prompt:
            await self.open.wait()
        said = rehearse(request)
        assert isinstance(said, Answer)
        return said


@contextmanager
def started(sources: Path, store: str, server: ModelServer) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the debate. It is killed at the end of the block, if it is not over by then."""
    words = [sys.executable, "-m", "tests.teams.killed", store, str(sources), server.url]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=LONGEST)


def kept(url: str) -> set[str]:
    """The tasks of the agents whose answers are on disk."""
    with open_store(url) as store:
        return {each.task_id for run in store.runs() for each in store.results(run.run_id) if each.kind == "child"}


def test_after_kill_9_in_the_middle_of_a_round_no_agent_is_asked_twice(sources: Path, url: str) -> None:
    gate = Gate()
    with ModelServer() as server:
        server.script("*", gate.speak)
        with started(sources, url, server) as process:
            deadline = time.monotonic() + LONGEST
            while not (Path(url.removeprefix("sqlite:///")).exists() and len(kept(url)) == 1 + 6 + 6 + 3):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.05)  # between two looks, not instead of one
        before, asked = kept(url), len(server.journal)
        gate.open.set()
        with started(sources, url, server) as process:
            said, errors = process.communicate(timeout=LONGEST)
        again = [call.agent for call in server.journal[asked:] if call.task in before]
    assert process.returncode == 0, errors
    assert said.strip() == "stand pat"
    assert again == []
    assert len(kept(url)) == 1 + 6 * 3 + 2 + 1 + 1
    finished = Counter(call.task for call in server.journal if brings_an_answer(call))
    assert set(finished.values()) == {1}


def brings_an_answer(call: Any) -> bool:
    """Whether a call brought an agent's answer, and not only the use of a tool on the way there."""
    return call.status == "answered" and any(use.name.startswith("final_result") for use in call.tool_uses)


class Five(TypedDict):
    decisions: Annotated[list[str], operator.add]


def test_five_debates_of_fifteen_agents_run_at_once_within_one_limit(sources: Path) -> None:
    at_work = most = 0

    async def counted(prompt: str, say: Any) -> Any:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)  # the others get their turn while this one is at work
        at_work -= 1
        return say(prompt) if callable(say) else say

    says = {role: (lambda prompt, say=say: counted(prompt, say)) for role, say in USUAL.items()}
    who = members(**says)
    graph = StateGraph(Five)
    for number in range(5):
        debate = Debate(
            f"Should we pin number {number}?", sources=sources, advocates=5, challengers=5, samples=0
        )  # and five others

        async def hold(state: Five, debate: Debate = debate) -> Any:
            done = await debate.graph.compile().ainvoke(debate.motion)
            return {"decisions": [done["verdict"]["decision"]]}

        graph.add_node(f"debate-{number}", hold).add_edge(START, f"debate-{number}")
    done = graph.compile().invoke({"decisions": []}, agents=who.agents, limits=Limits(max_concurrency=8))
    receipt = audit(done)
    assert done["decisions"] == ["innovate"] * 5
    assert (most, receipt.peak, receipt.limit) == (8, 8, 8), "it binds, and is never exceeded"
    assert len(receipt.agents) == 5 * (1 + 10 * 3 + 2 + 1 + 1)


def test_a_stored_debate_replays_to_the_same_verdict(sources: Path, url: str) -> None:
    debate = Debate("Should we pin?", sources=sources)
    outcome = debate.invoke(url, thread_id="t", agents=members().agents)
    kept = debate.graph.compile(url, name="debate").get_state({"configurable": {"thread_id": "t"}}).values
    assert replay(kept["transcript"]).verdict == outcome.verdict
    assert any(
        piece.quote == QUOTE and piece.verified
        for claim in replay(kept["transcript"]).transcript.claims
        for piece in claim.evidence
    )


def test_another_debate_in_a_thread_has_nothing_of_the_one_before(sources: Path, url: str) -> None:
    debate = Debate("Should we pin?", sources=sources, stop="unanimity", samples=0)
    again = members(validator={"result": "revision", "feedback": "Say less."})
    assert len(debate.invoke(url, thread_id="t", agents=again.agents).transcript.records) == 1 + 4 * 3 + 2 + 2 + 2
    agreed = members(
        challenger=lambda prompt: opening("innovate") if is_opening(prompt) else rebuttal("innovate"),
        validator={"result": "revision", "feedback": "Say more."},
    )
    outcome = debate.invoke(url, thread_id="t", agents=agreed.agents)
    assert [mark.text for mark in outcome.marked("stopped")] == [
        "all 4 say 'innovate' in round 1, and none raised anything new"
    ]
    assert {record.round for record in outcome.transcript.records if record.statement} == {0, 1}
    first, second = agreed.of("synthesizer")
    assert "Say" not in first
    assert "Say more." in second, "it is sent back once in this debate, too"
