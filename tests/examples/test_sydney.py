"""The team of agent files in `examples/sydney`: run as a reader would run it, in a project of theirs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fanfold.agents.definition import Catalogue
from fanfold.agents.heeded import unheeded
from fanfold.testing import ModelServer

ROOT = Path(__file__).parents[2]
TEAM = ROOT / "examples" / "sydney"
FOUR = ["sydney-coder", "sydney-monitor", "sydney-research", "sydney-validator"]
FIFTH = "sydney-synthesizer"
QUESTION = "How does the ferry move files, and how is that tested?"

PROJECT = {
    "README.md": "# Ferry\n\nFerry moves files between two machines; its purpose is to lose none.\n\n",
    "docs/usage.md": "The usage is simple: run `ferry a b`. A decision of version 2: copy first, delete later.\n",
    "ferry/main.py": "import sys\n\n\ndef main() -> None:\n    timeout = 30  # until a retry\n    print(sys.argv)\n",
    "ferry/move.py": "class Move:\n    limit = 4\n\n    def files(self) -> None:\n        raise ValueError('error')\n",
    "tests/test_main.py": "from ferry.main import main\n\n\ndef test_main() -> None:\n    assert main() is None\n",
    "setup.cfg": "[tool]\nlog_level = warning\nconfig = here\nenv = FERRY\n",
}

QUOTE = re.compile(r"^  > (.+)\n  — (.+):(\d+)$", re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        path = tmp_path / "ferry" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "ferry"


def run(project: Path, *words: str, **env: str) -> str:
    """What a Python program prints that is run in the project, in an environment of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(project.parent), "LANG": "C.UTF-8", **env}
    if "PYTHONPATH" in os.environ:  # relative parts of it are meant from here, and it runs elsewhere
        parts = os.environ["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(part).resolve()) for part in parts)
    done = subprocess.run(
        [sys.executable, *words], cwd=project, env=environment, capture_output=True, encoding="utf-8", timeout=90
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def team(project: Path, *words: str, **env: str) -> dict[str, Any]:
    """The last line that the command prints about the team's run: its result, as data."""
    graph = ("-m", "fanfold", "run", f"{TEAM}/graph.py:graph", "-i", f"question={QUESTION}", "--json", *words)
    result: dict[str, Any] = json.loads(run(project, *graph, **env).splitlines()[-1])
    return result


def quotes(project: Path, text: str) -> int:
    """How many quotes a text holds, each of which stands in the file and in the line that it names."""
    found = QUOTE.findall(text)
    for quote, path, line in found:
        assert quote.removesuffix(" ...") in (project / path).read_text().splitlines()[int(line) - 1], (quote, path)
    return len(found)


def said_by(project: Path, run_id: str, agent: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        run(project, "-m", "fanfold", "runs", "show", run_id, "--agent", agent, "--json")
    )
    return answer


def test_by_rehearsal_four_agents_work_in_parallel_and_a_fifth_reads_what_they_said_in_frames(project: Path) -> None:
    result = team(project, "--rehearse")
    receipt = result["receipt"]
    assert receipt["verdict"] == "PARALLEL"
    assert receipt["peak"] == 4
    assert quotes(project, result["output"]["report"]) > 0

    fifth = said_by(project, result["run_id"], FIFTH)
    (asked,) = [part for part in fifth["transcript"][0]["parts"] if part["part_kind"] == "user-prompt"]
    prompt = asked["content"]
    assert re.findall(r'^<agent-output \w+ agent="(.+?)"', prompt, re.MULTILINE) == FOUR
    assert len(re.findall(r"^</agent-output \w+>$", prompt, re.MULTILINE)) == 4
    assert quotes(project, prompt) >= 8
    coder = said_by(project, result["run_id"], "Sydney Coder")
    assert coder["output"] in prompt


def test_each_file_s_wish_for_a_model_is_granted_as_the_user_says(project: Path) -> None:
    with ModelServer() as server:
        for agent in FOUR:
            server.script(agent, [f"{agent} has looked"])
        server.script(FIFTH, ["All four have looked."])
        named = ("--model", "haiku=openai:small", "--model", "openai:large")
        result = team(project, *named, OPENAI_BASE_URL=server.openai_url, OPENAI_API_KEY="sk-dummy")
    assert result["output"] == {"report": "All four have looked."}
    asked = {call.agent: call.model for call in server.journal}
    assert asked == {**dict.fromkeys(FOUR, "small"), FIFTH: "large"}


def test_the_graph_can_be_run_as_a_program(project: Path) -> None:
    printed = run(project, "-W", "error", str(TEAM / "graph.py"))
    assert quotes(project, printed) > 0
    assert "5 agents in" in printed


def test_the_team_s_files_are_without_fault_and_all_that_they_ask_for_is_heeded_but_their_colours() -> None:
    catalogue = Catalogue.below(TEAM / ".claude" / "agents")
    assert catalogue.problems == ()
    assert [definition.name for definition in catalogue] == sorted([*FOUR, FIFTH])
    assert {key for definition in catalogue for key in unheeded(definition)} <= {"color"}
