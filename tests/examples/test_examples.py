"""The examples do what they show: each is run as a reader would, in an empty folder with an empty environment."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from fanfold import CompiledGraph
from fanfold.testing import ModelServer, Request
from fanfold.types import START

ROOT = Path(__file__).parents[2]

NODES = {
    "react_agent": {"model", "tool"},
    "map_reduce_jokes": {"subjects", "joke", "best"},
    "plan_and_execute": {"planner", "executor", "replanner"},
    "reflection": {"writer", "critic"},
    "review_tool_calls": {"propose", "review", "pay"},
    "hierarchical_teams": {"supervisor", "research", "writing"},
    "unequal_branches": {"skim", "study", "measure", "chart", "compare"},
}
names = pytest.mark.parametrize("name", NODES)


def said(name: str, folder: Path, *arguments: str, typed: str = "") -> list[str]:
    """The lines that the example prints. Warnings are errors, and it must leave nothing behind."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    if "PYTHONPATH" in os.environ:  # relative parts of it are meant from here, and the example runs elsewhere
        parts = os.environ["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(part).resolve()) for part in parts)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), *arguments],
        cwd=folder,
        env=environment | {"PYTHONIOENCODING": "utf-8"},
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(folder.iterdir()) == []
    return done.stdout.splitlines()


def loaded(name: str) -> ModuleType:
    spec = spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


@names
def test_an_example_can_be_imported_and_its_own_drawing_names_its_nodes(name: str) -> None:
    module = loaded(name)
    assert isinstance(module.app, CompiledGraph)
    assert set(module.app.plan.nodes) - {START} == NODES[name]
    assert words(module.__doc__ or "") >= NODES[name] | {"START", "END"}


@names
def test_the_graph_of_an_example_is_drawn_with_its_nodes(name: str) -> None:
    app = loaded(name).app
    for drawing in (app.to_mermaid(), app.get_graph().draw_ascii(), app._repr_svg_()):
        assert words(drawing) >= NODES[name]


def test_the_teams_are_drawn_with_the_workers_inside_of_them() -> None:
    drawing = loaded("hierarchical_teams").app.get_graph(xray=True).draw_mermaid()
    assert words(drawing) >= {"lead", "searcher", "reader", "outliner", "author"}


@names
def test_an_example_imports_only_public_names_of_fanfold(name: str) -> None:
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:from|import) (fanfold[\w.]*)", source, re.MULTILINE))
    assert "fanfold" in imported <= {"fanfold", "fanfold.testing"}


def test_the_react_agent_answers_with_what_its_tools_have_found(tmp_path: Path) -> None:
    lines = said("react_agent", tmp_path)
    seen = [line.strip() for line in lines if line.startswith("     tool: ")]
    assert seen == [
        "tool: population[Oslo] = 709037",
        "tool: population[Bergen] = 289330",
        "tool: add[709037, 289330] = 998367",
    ]
    assert lines[-1] == "assistant: Oslo is the larger one; together they have 998,367 inhabitants."


def test_the_react_agent_is_told_of_a_tool_that_failed() -> None:
    module = loaded("react_agent")
    with ModelServer() as server:
        server.script("reasoner", ["Action: population[Atlantis]\nAction: fly[]", "I cannot find out."])
        question = module.Message("user", "How many people live in Atlantis?")
        result = module.app.invoke({"messages": [question]}, agents=[module.REASONER], model=server)
    told = server.journal[-1].messages[-1].text
    assert "tool: population[Atlantis] = failed with KeyError('Atlantis')" in told
    assert "tool: fly[] = failed with KeyError('fly')" in told
    assert result["messages"][-1].content == "I cannot find out."


def test_the_jokes_stand_in_the_order_of_their_subjects_and_were_written_at_once(tmp_path: Path) -> None:
    lines = said("map_reduce_jokes", tmp_path)
    assert [line.split(":")[0] for line in lines[:3]] == ["ducks", "elephants", "owls"]
    assert lines[4] == "The best one: " + lines[1].removeprefix("elephants: ")
    assert any(line.startswith("peak 3 ") for line in lines)
    assert lines[-1].startswith("5 agents in ")


def test_the_plan_is_mended_by_what_its_steps_have_shown(tmp_path: Path) -> None:
    lines = [line.strip() for line in said("plan_and_execute", tmp_path)]
    assert [line.split(":")[0] for line in lines] == ["planner", *["executor", "replanner"] * 3]
    assert "look up its mayor" in lines[0]
    assert lines[4] == "replanner: the plan is to find how far north Tromsø lies"
    assert lines[-1] == "replanner: the answer is 69.6 degrees north, in Tromsø"


def test_writer_and_critic_take_turns_until_the_score_is_good_enough(tmp_path: Path) -> None:
    lines = said("reflection", tmp_path)
    assert [line.split(":")[0] for line in lines[:6]] == ["writer", "critic"] * 3
    assert [line.split()[1] for line in lines[1:6:2]] == ["3/10.", "6/10.", "9/10."]
    assert lines[-1] == "6 calls of the model"


def test_the_writer_sees_its_draft_and_the_critique_and_the_rounds_have_an_end() -> None:
    module = loaded("reflection")
    with ModelServer() as server:
        server.script("writer", lambda request: f"draft after: {request.prompt.partition('1/10 ')[2][:7] or 'nothing'}")
        server.script("critic", ["1/10 no good"] * module.MOST_ROUNDS)
        result = module.app.invoke({"brief": "a text"}, agents=module.AGENTS, model=server)
    assert result["rounds"] == module.MOST_ROUNDS
    assert result["draft"] == "draft after: no good"
    assert server.unused == {}
    assert "draft after: nothing\n</agent-output " in server.journal[1].messages[-1].text


def test_a_tool_call_is_accepted_edited_and_rejected_and_no_agent_is_asked_twice(tmp_path: Path) -> None:
    lines = said("review_tool_calls", tmp_path)
    assert sum("May I call this tool?" in line for line in lines) == 3
    assert "accepted: 120 euros are on their way." in lines
    assert "edited: 20 euros are on their way." in lines
    assert "rejected: We will send you a new kettle instead." in lines
    assert lines[-1].startswith("4 calls of the model")


@pytest.mark.parametrize(
    ("typed", "outcome"),
    [
        ("accept\n", "yours: 120 euros are on their way."),
        ("edit\n7\n", "yours: 7 euros are on their way."),
        ("reject\ntoo much\n", "yours: We will send you a new kettle instead."),
    ],
)
def test_a_person_is_asked_on_the_terminal(typed: str, outcome: str, tmp_path: Path) -> None:
    assert outcome in said("review_tool_calls", tmp_path, "--ask", typed=typed)


def test_unequal_branches_do_not_wait_for_each_other_and_with_a_barrier_they_do(tmp_path: Path) -> None:
    lines = said("unequal_branches", tmp_path)
    ours, by_steps = lines[: lines.index("")], lines[lines.index("") :]
    assert ours[0] == "an essay on three points about ducks in winter, with the figure ##### ## ######"
    assert not any("at barriers" in line for line in ours)
    assert any("node 'study' waited" in line and "for 'measure'" in line for line in by_steps)


def test_the_teams_hand_their_work_up_and_the_later_one_builds_on_the_earlier(tmp_path: Path) -> None:
    lines = said("hierarchical_teams", tmp_path)
    assert [line.split(":")[0] for line in lines[:4]] == ["reader", "searcher", "outliner", "author"]
    assert lines[3].endswith("(From reader, searcher, outliner.)")
    assert lines[-1].startswith("12 agents in ")


def test_workers_of_one_team_work_side_by_side() -> None:
    module = loaded("hierarchical_teams")
    both = asyncio.Barrier(2)

    async def meet(request: Request) -> str:
        async with asyncio.timeout(10), both:
            return f"{request.agent} met the other"

    with ModelServer() as server:
        server.script("supervisor", ["research", "done"])
        server.script("research-lead", ["searcher, reader", "done"])
        server.script("searcher", meet)
        server.script("reader", meet)
        result = module.app.invoke({"task": "Find out."}, agents=module.AGENTS, model=server)
    assert result["results"] == ["reader: reader met the other", "searcher: searcher met the other"]


def test_the_debate_quotes_the_examples_and_says_what_is_to_be_looked_into(tmp_path: Path) -> None:
    lines = said("debate", tmp_path)
    assert sum(line.startswith("to look into (") for line in lines) == 3
    assert "stand pat" in lines
    quotes = [re.fullmatch(r"found in (.+?): (.+)", line) for line in lines]
    found = [(match[1], match[2]) for match in quotes if match]
    assert len(found) == 6
    assert all(quote in (ROOT / "examples" / source).read_text(encoding="utf-8") for source, quote in found)
    assert not any(line.startswith("NOT FOUND") for line in lines)
