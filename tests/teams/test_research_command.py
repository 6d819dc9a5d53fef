"""`fanfold research`, as people run it: over a folder of two hundred documents, and killed in the middle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fanfold.testing import ModelServer, Stall, ToolUse, rehearse
from tests.e2e.conftest import Command, kill, until

REJECTED = {"result": "rejected", "feedback": "no evidence"}
TOPIC = "Should the ferry carry cars?"
PARTS = {
    "price": "The ferry has a price of {n} for cars, which no budget covers.",
    "deck": "The deck carries cars up to {n} tons, a limit that the class of the ferry sets.",
    "law": "The licence of the ferry, number {n}, names cars and no lorries.",
    "risk": "There is a risk of {n} in a thousand that a car slides; a test has shown that.",
    "users": "In a survey, {n} users of the ferry wanted to take their cars.",
    "engine": "The engine has a latency of {n} seconds, and a timeout after that.",
    "port": "The deploy of the ferry in port {n} needs a config for cars.",
}


@pytest.fixture
def fanfold(tmp_path: Path) -> Command:
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    return Command(folder, home)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """210 documents."""
    folder = tmp_path / "documents"
    for part, text in PARTS.items():
        for number in range(30):
            path = folder / part / f"note-{number}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {part}, note {number}\n\n{text.format(n=number)}\n")
    return folder


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def peak(stretches: Sequence[tuple[float, float]]) -> int:
    """The most at one moment."""
    return max(sum(start <= at < end for start, end in stretches) for at, _ in stretches)


def test_fifteen_specialists_research_two_hundred_documents_eight_at_once(fanfold: Command, documents: Path) -> None:
    assert len(list(documents.rglob("*.md"))) >= 200
    told = fanfold.json("research", TOPIC, "--source", str(documents), "--rehearse", "--json")
    assert told["phases"] == ["initialising", "debate", "validator gate", "research", "synthesis", "done"]
    assert (told["metrics"]["asked"], told["metrics"]["answered"]) == (15, 15)
    tasks = told["receipt"]["tasks"]
    specialists = {task["task"] for task in tasks if task["role"] == "node" and task["name"] == "specialist"}
    assert len(specialists) == 15
    assert peak([tuple(busy) for task in tasks if task["parent"] in specialists for busy in task["busy"]]) == 8
    (at_once,) = [use for use in told["receipt"]["limits"] if use["name"] == "tasks of graph 'research' at once"]
    assert (at_once["peak"], at_once["limit"]) == (8, 8)
    assert told["receipt"]["verdict"] == "PARALLEL"
    sources = [source for study in told["studies"] for found in study["found"] for source in found["sources"]]
    assert len(sources) >= 15
    for source in sources:
        line = (documents / source["path"]).read_text().splitlines()[source["line"] - 1]
        assert source["quote"] in line
        assert f"`{source['path']}:{source['line']}`" in told["report"]
        assert re.search(rf"^\d+\. `{re.escape(source['path'])}`, lines? ", told["report"], re.MULTILINE)
    assert "needs a language model" in told["report"]


def test_after_kill_9_a_resume_asks_no_specialist_twice(fanfold: Command, documents: Path, server: ModelServer) -> None:
    server.script("research-dissent", [Stall(), rehearse])
    fanfold.env = {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "made-up"}
    process = fanfold.start(
        "research", TOPIC, "--source", str(documents), "--model", "openai:scripted", "--quiet", "--specialists", "4"
    )
    until(
        lambda: (
            "research-agreement" in fanfold.kept(agents=True)
            and any(call.agent == "research-dissent" for call in server.journal)
        ),
        process,
    )
    kill(process)
    before = len(server.journal)
    resumed = fanfold("resume", fanfold.newest()[:8])
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith(f"# {TOPIC}")
    assert "## What stands against it" in resumed.stdout
    assert "- completion: 4 of 4 (100%), target > 85%: met" in resumed.stdout
    assert {call.agent for call in server.journal[before:]} == {"research-dissent"}


def test_the_report_ends_with_what_was_measured(fanfold: Command, documents: Path) -> None:
    done = fanfold(
        "research", TOPIC, "--source", str(documents), "--rehearse", "--quiet", "--specialists", "2", "-o", "report.md"
    )
    assert done.returncode == 0, done.stderr
    report = (fanfold.folder / "report.md").read_text()
    assert report.startswith(f"# {TOPIC}\n")
    assert "- completion: 2 of 2 (100%), target > 85%: met" in report
    assert "- parallel efficiency: " in report
    assert "- recovery: nothing has failed, target < 120 s: met" in report
    assert f"# {TOPIC}" not in done.stdout


def test_a_rejected_verdict_is_reported_and_is_no_success(fanfold: Command, documents: Path) -> None:
    file = fanfold.folder / ".claude" / "agents" / "serm-validator.md"
    file.parent.mkdir(parents=True)
    file.write_text("---\nname: serm-validator\ndescription: mine\ntools: []\n---\n`result` is `rejected`.\n")
    done = fanfold("research", TOPIC, "--source", str(documents), "--rehearse", "--quiet")
    assert done.returncode == 1
    assert "the research has failed: rejected: " in done.stderr
    assert "phases: initialising, debate, validator gate, failed" in done.stdout


def test_research_that_fails_when_it_is_gone_on_with_is_no_success_either(
    fanfold: Command, documents: Path, server: ModelServer
) -> None:
    server.script("serm-validator", [Stall(), lambda request: ToolUse(request.tools[-1].name, REJECTED)])
    fanfold.env = {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "made-up"}
    process = fanfold.start("research", TOPIC, "--source", str(documents), "--model", "openai:scripted", "--quiet")
    until(lambda: any(call.agent == "serm-validator" for call in server.journal), process)
    kill(process)
    resumed = fanfold("resume", fanfold.newest()[:8])
    assert resumed.returncode == 1
    assert "the research has failed: rejected: no evidence" in resumed.stderr
    assert "phases: initialising, debate, validator gate, failed" in resumed.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--source", "nowhere"), "does not exist"), (("--specialists", "16"), "16"), (("--quorum", "2"), "quorum")],
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(fanfold: Command, words: tuple[str, ...], said: str) -> None:
    done = fanfold("research", TOPIC, "--rehearse", *words)
    assert done.returncode == 2
    assert said in done.stderr
