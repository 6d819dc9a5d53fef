"""`fanfold debate`, as people run it: by rehearsal over a folder, killed and gone on with, exported and replayed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanfold.teams.debate import replay
from tests.e2e.conftest import Command, kill, until

ASKED = "Should this project retry after its timeout?"


def test_a_debate_by_rehearsal_overlaps_and_quotes_what_stands_there(fanfold: Command, project: Path) -> None:
    done = fanfold("debate", ASKED, "--source", ".", "--rehearse", "--export", "all.json", "--quiet")
    assert done.returncode == 0, done.stderr
    for said in ("## Dissent", "## Open questions", "## Against less effort", "vote of the openings", "PARALLEL"):
        assert said in done.stdout, said
    assert "for these a language model is needed" in done.stdout
    outcome = replay(json.loads((project / "all.json").read_text()))
    pieces = [piece for claim in outcome.transcript.claims for piece in claim.evidence]
    assert pieces
    assert all(piece.verified and piece.quote in (project / piece.source).read_text() for piece in pieces)
    assert outcome.verdict.dissent
    assert outcome.verdict.open_questions


def test_openings_overlap_in_the_receipt(fanfold: Command, project: Path) -> None:
    told = fanfold.json("debate", ASKED, "--rehearse", "--json", "--samples", "0")
    lives = [task for task in told["receipt"]["tasks"] if task["role"] == "agent"]
    openings = sorted(lives, key=lambda life: life["started"])[:5]
    assert {life["name"] for life in openings} == {"serm-questioner", "serm-advocate", "serm-challenger"}
    assert max(life["started"] for life in openings) < min(life["ended"] for life in openings)


def test_a_debate_that_is_killed_is_gone_on_with(fanfold: Command, project: Path) -> None:
    process = fanfold.start("debate", ASKED, "--rehearse", "--plain")
    until(lambda: "serm-challenger" in fanfold.kept(agents=True), process)
    kill(process)
    run = fanfold.newest()
    done = fanfold("resume", run, "--quiet", "--on-busy", "wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"# {ASKED}")
    shown = fanfold("runs", "show", run, "--result")
    assert shown.stdout.startswith(f"# {ASKED}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--source", "nowhere"], "--source"),
        (["--role", "juge=openai:x"], "did you mean 'judge'"),
        (["--stop", "unanimty"], "unanimty"),
        (["--rounds", "7"], "from 0 to 4"),
    ],
)
def test_what_cannot_be_held_is_said_and_nothing_is_run(fanfold: Command, words: list[str], said: str) -> None:
    done = fanfold("debate", ASKED, "--rehearse", *words)
    assert done.returncode == 2
    assert said in done.stderr
