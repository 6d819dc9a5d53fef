"""First light: what `fanfold demo` promises, shown by running it."""

from __future__ import annotations

import json
import signal
from itertools import combinations
from pathlib import Path

import pytest

from fanfold.testing import ModelServer, Stall, rehearse
from tests.e2e.conftest import PATIENCE, Command, kill, until

AGENTS = {"sydney-research", "sydney-coder", "sydney-validator", "sydney-monitor"}


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_four_agents_overlap_and_every_quote_stands_in_the_file_it_names(fanfold: Command, project: Path) -> None:
    told = fanfold.json("demo", "--json", "--no-seed")
    agents = told["agents"]
    assert {agent["name"] for agent in agents} == AGENTS
    assert all(a["started"] < b["ended"] and b["started"] < a["ended"] for a, b in combinations(agents, 2))
    assert told["peak"] == 4
    assert told["verdict"] == "PARALLEL"
    assert told["rendezvous"] == {"wanted": 4, "met": True, "most": 4}
    assert {quote["agent"] for quote in told["quotes"]} == AGENTS
    for quote in told["quotes"]:
        lines = (project / quote["file"]).read_text().splitlines()
        assert squeezed(quote["quote"]) in squeezed(lines[quote["line"] - 1])
        assert f"> {quote['quote']}" in told["report"]
        assert f"`{quote['file']}:{quote['line']}`" in told["report"]
    assert told["report"].count("\n  > ") == len(told["quotes"])


def test_the_agents_really_look_at_the_folder(fanfold: Command, project: Path) -> None:
    told = fanfold.json("demo", "--json", "--no-seed", "--question", "Which purpose does Ferry have?")
    assert all(agent["tools"] >= 2 for agent in told["agents"])
    assert "its purpose is to never lose one" in told["report"]


def test_with_one_at_a_time_the_rendezvous_fails_and_the_verdict_is_sequential(fanfold: Command, project: Path) -> None:
    told = fanfold.json("demo", "--json", "--no-seed", "--max-concurrency", "1")
    assert told["verdict"] == "SEQUENTIAL"
    assert told["peak"] == 1
    assert told["rendezvous"] == {"wanted": 4, "met": False, "most": 1}
    assert sum(agent["waited"] > 0 for agent in told["agents"]) >= 3
    assert any("limit 1" in culprit for culprit in told["receipt"]["culprits"])


def test_after_kill_9_a_resume_asks_no_agent_twice(fanfold: Command, project: Path, server: ModelServer) -> None:
    server.script("sydney-monitor", [Stall(), *[rehearse] * 5])
    fanfold.env = {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "made-up"}
    process = fanfold.start("demo", "--no-seed", "--quiet", "--model", "openai:scripted")
    finished = AGENTS - {"sydney-monitor"}
    until(
        lambda: fanfold.kept(agents=True) == finished and any(c.agent == "sydney-monitor" for c in server.journal),
        process,
    )
    kill(process)
    before = len(server.journal)

    run = fanfold.json("runs", "ls", "--json")
    assert run["status"] == "interrupted"
    resumed = fanfold("resume", run["run_id"][:8])
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.startswith("# What does this project do")
    assert {call.agent for call in server.journal[before:]} == {"sydney-monitor"}
    assert '"status": "done"' in fanfold("runs", "show", run["run_id"], "--json").stdout
    receipt = fanfold.json("audit", run["run_id"], "--json")
    assert {task["name"] for task in receipt["tasks"] if task["status"] == "remembered"} >= finished


def test_the_seed_is_measured_and_told_as_time_saved_and_as_speed_up(fanfold: Command, project: Path) -> None:
    told = fanfold.json("demo", "--json")["seed"]
    assert told["verdict"] == "PARALLEL"
    assert told["one_by_one"] == 5.0
    assert told["saved"] == pytest.approx(5.0 - told["wall"])
    assert told["speedup"] == pytest.approx(5.0 / told["wall"])


def test_the_report_is_told_before_the_measurement_and_ctrl_c_in_it_leaves_a_run_that_can_go_on(
    fanfold: Command, project: Path
) -> None:
    process = fanfold.start("demo")
    until(lambda: any(name.startswith("seed-") for name in fanfold.kept(agents=True)), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert out.startswith("# What does this project do")
    assert "\nseed: " not in out
    assert out.splitlines()[-1].startswith("look further:")
    seed = fanfold.newest()
    assert f"python -m fanfold resume {seed[:8]}" in err
    resumed = fanfold("resume", seed, "--json", "--quiet")
    assert resumed.returncode == 0, resumed.stderr
    assert "monitor took 1.5 s" in json.loads(resumed.stdout.splitlines()[-1])["output"]["compiled"]


def test_a_report_is_written_to_the_file_named_and_can_be_read_again_later(fanfold: Command, project: Path) -> None:
    done = fanfold("demo", "--no-seed", "-o", "report.md")
    assert done.returncode == 0, done.stderr
    report = (project / "report.md").read_text()
    assert report.startswith("# What does this project do")
    assert report not in done.stdout
    assert fanfold("runs", "show", fanfold.newest(), "--result").stdout == report


def test_the_last_lines_are_the_receipt_and_how_to_look_further(fanfold: Command, project: Path) -> None:
    done = fanfold("demo", "--no-seed")
    assert "Traceback" not in done.stderr
    *_, wall, peak, requests, verdict, further = done.stdout.splitlines()
    assert wall.startswith("wall ")
    assert peak.startswith("peak 4 · mean ")
    assert requests.startswith("requests to rehearsal at once: peak ")
    assert verdict.endswith("faster than one by one · PARALLEL")
    for suggestion in further.removeprefix("look further:").split("    "):
        program, _, look = suggestion.strip().partition("fanfold ")
        assert program == "python -m "
        assert fanfold(*look.split()).returncode == 0
    assert "rehearsal" in done.stderr.splitlines()[0]
    assert "--model" in done.stderr.splitlines()[0]


def test_a_key_in_the_environment_is_not_used_unless_a_model_is_named(
    fanfold: Command, project: Path, server: ModelServer
) -> None:
    keys = {
        "OPENAI_API_KEY": "made-up",
        "OPENAI_BASE_URL": server.openai_url,
        "ANTHROPIC_API_KEY": "made-up",
        "ANTHROPIC_BASE_URL": server.url,
    }
    told = fanfold.json("demo", "--json", "--no-seed", **keys)
    assert told["model"] == "rehearsal"
    assert server.journal == []


@pytest.mark.parametrize("model", ["openai:scripted", "anthropic:scripted"])
def test_a_named_model_is_the_one_that_answers(
    fanfold: Command, project: Path, server: ModelServer, model: str
) -> None:
    finding = "- The project says what it is for.\n  > Ferry moves files between two machines\n  — README.md:1\n"
    server.script("*", [finding] * 4)
    keys = {
        "OPENAI_API_KEY": "made-up",
        "OPENAI_BASE_URL": server.openai_url,
        "ANTHROPIC_API_KEY": "made-up",
        "ANTHROPIC_BASE_URL": server.url,
    }
    told = fanfold.json("demo", "--json", "--no-seed", **keys, FANFOLD_MODEL=model)
    assert told["model"] == model
    assert len(server.journal) == 4
    assert {quote["line"] for quote in told["quotes"]} == {3}  # where it stands, not where the model said


def test_a_quote_that_stands_nowhere_is_no_quote(fanfold: Command, project: Path, server: ModelServer) -> None:
    invented = "- It is fast.\n  > Ferry is the fastest of them all\n  — README.md:1\n"
    outside = "- It has users.\n  > root:x:0:0:root:/root:/bin/bash\n  — /etc/passwd:1\n"
    server.script("*", [invented, outside, invented, outside])
    keys = {"OPENAI_API_KEY": "made-up", "OPENAI_BASE_URL": server.openai_url}
    told = fanfold.json("demo", "--json", "--no-seed", "--model", "openai:scripted", **keys)
    assert told["quotes"] == []
    assert len(told["unverified"]) == 4
    assert "\n  > " not in told["report"]
    assert "## Not verified" in told["report"]
