"""`--model` on the command line: one for the run, and others for words in agents' files."""

from __future__ import annotations

from typing import Any

import pytest

from fanfold.cli.models import chosen
from fanfold.testing import ModelServer
from tests.e2e.conftest import Command


@pytest.fixture
def vendor(fanfold: Command, server: ModelServer) -> ModelServer:
    """A server in the place of a vendor, and an agent whose file says `model: haiku`."""
    fanfold.env.update({"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "sk-dummy"})
    server.script("helper", ["fine"] * 9)
    path = fanfold.folder / ".claude" / "agents" / "helper.md"
    path.parent.mkdir(parents=True)
    path.write_text("---\nname: helper\ndescription: Helps.\nmodel: haiku\ntools: []\n---\nYou help.\n")
    return server


BOTH = {"a": "openai:z", "b": "openai:b"}
ASK = ("task", "helper", "x", "--json")


def test_a_model_is_named_for_the_run_and_for_a_word_in_a_file(fanfold: Command, vendor: ModelServer) -> None:
    told = fanfold(*ASK, "--model", "openai:large", "--model", "Haiku=openai:small")
    assert told.returncode == 0, told.stderr
    assert "model: openai:large; haiku: openai:small" in told.stderr
    fanfold.json(*ASK, "--model", "openai:large", FANFOLD_MODELS="haiku=openai:of-env")
    assert [call.model for call in vendor.journal] == ["small", "of-env"]


@pytest.mark.parametrize(
    ("named", "rehearse", "before", "model", "models"),
    [
        ((), False, None, "rehearsal", {"haiku": "openai:of-env"}),
        (("openai:x",), False, None, "openai:x", {"haiku": "openai:of-env"}),
        (("Haiku",), False, None, "openai:of-env", {"haiku": "openai:of-env"}),
        (("HAIKU=openai:x",), False, None, "rehearsal", {"haiku": "openai:x"}),
        (("rehearsal",), False, None, "rehearsal", {}),
        (("rehearsal", "a=openai:x"), False, None, "rehearsal", {"a": "openai:x"}),
        ((), True, None, "rehearsal", {}),
        ((), False, {"model": "openai:y", "models": {}}, "openai:y", {}),
        ((), False, {"model": "openai:y"}, "openai:y", {"haiku": "openai:of-env"}),
        (("a=openai:z",), False, {"model": "openai:y", "models": {"b": "openai:b"}}, "openai:y", BOTH),
    ],
)
def test_who_answers_is_what_is_named_else_what_was_before_else_the_environment_s(
    named: tuple[str, ...],
    rehearse: bool,
    before: dict[str, Any] | None,
    model: str,
    models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FANFOLD_MODELS", "haiku=openai:of-env")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-dummy")
    answering = chosen(named, rehearse=rehearse, before=before)
    assert answering.settings == {"model": model, "models": models}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--model", "openai:a", "--model", "openai:b"), "--model names 2 models for one run: openai:a, openai:b"),
        (("--model", "haiku="), "--model: 'haiku=' does not say which alias means which model"),
        (("--model", "haiku=small"), "--model: alias 'haiku': model 'small' does not say whose it is"),
        (("--model", "haiku=anthropic:x"), "needs a key and there is none"),
        (("--model", "haiku=openai:x", "--rehearse"), "exclude each other"),
        (("--model", "sonnet", "--model", "haiku=openai:x"), "'sonnet' is neither provider:model nor an alias"),
    ],
)
def test_what_can_mean_nothing_is_refused_before_anything_runs(
    fanfold: Command, vendor: ModelServer, words: tuple[str, ...], says: str
) -> None:
    done = fanfold(*ASK, *words)
    assert done.returncode == (6 if "key" in says else 2)
    assert says in done.stderr
    assert not (fanfold.folder / ".fanfold").exists()


GRAPH = """
from typing import TypedDict
from fanfold import StateGraph, Task, interrupt

class State(TypedDict, total=False):
    said: str

async def node(state: State) -> State:
    interrupt("go on?")
    return {"said": str(await Task(subagent_type="helper", prompt="x"))}

graph = StateGraph(State).add_node("node", node).add_edge("__start__", "node")
"""


def test_a_run_that_is_resumed_keeps_its_models_unless_others_are_named(fanfold: Command, vendor: ModelServer) -> None:
    (fanfold.folder / "app.py").write_text(GRAPH)
    for more in ((), ("--model", "haiku=openai:other")):
        words = ("--model", "openai:large", "--model", "haiku=openai:small", "-i", "said=no")
        assert fanfold("run", "app.py:graph", *words).returncode == 3
        done = fanfold("resume", fanfold.newest(), "--respond", "yes", *more, FANFOLD_MODELS="haiku=openai:of-env")
        assert done.returncode == 0, done.stderr
    assert [call.model for call in vendor.journal] == ["small", "other"]
