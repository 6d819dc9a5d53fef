"""What a word such as `sonnet` in an agent's file means is said by a user, and by nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest

from fanfold import StateGraph, Task, TaskResult
from fanfold.agents.scope import RehearsalWarning
from fanfold.errors import UsageError
from fanfold.events import Event, Noticed
from fanfold.testing import ModelServer

ALIASES = {"sonnet": "openai:the-sonnet", "Haiku": "anthropic:the-haiku", "fast": "openai:the-fast"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which has no agents yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A server that stands where both vendors are said to be, with a key for each."""
    with ModelServer() as server:
        server.script("helper", ["fine"] * 10)
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-dummy-of-openai")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-dummy-of-anthropic")
        yield server


def helper(folder: Path, model: str) -> None:
    path = folder / ".claude" / "agents" / "helper.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\nname: helper\ndescription: Helps.\nmodel: {model}\ntools: []\n---\nYou help.\n")


class State(TypedDict, total=False):
    said: str


def asked(own: Any = None, **options: Any) -> TaskResult:
    """What the helper answers inside a run."""
    found: list[TaskResult] = []

    async def node(state: State) -> State:
        found.append(await Task(subagent_type="helper", prompt="x", model=own))
        return {"said": str(found[0].output)}

    StateGraph(State).add_node("node", node).add_edge("__start__", "node").compile().invoke({"said": ""}, **options)
    return found[0]


@pytest.mark.parametrize(
    ("own", "answers"),
    [
        ("sonnet", "the-sonnet"),
        ("Sonnet", "the-sonnet"),
        ("haiku", "the-haiku"),
        ("fast", "the-fast"),
        ("opus", "of-run"),
        ("inherit", "of-run"),
        ("openai:of-file", "of-run"),
    ],
)
def test_a_file_s_word_means_what_the_user_says_and_else_the_run_s_model(
    vendor: ModelServer, folder: Path, own: str, answers: str
) -> None:
    helper(folder, own)
    asked(model="openai:of-run", models=ALIASES)
    assert [call.model for call in vendor.journal] == [answers]


@pytest.mark.parametrize(
    ("run", "models", "environment", "answers"),
    [
        ("openai:of-run", None, "sonnet=openai:of-env", "of-env"),
        ("openai:of-run", {"sonnet": "openai:of-models"}, "sonnet=openai:of-env", "of-models"),
        ("openai:of-run", {"haiku": "openai:of-models"}, " haiku=openai:no , SONNET = openai:of-env,", "of-env"),
        (None, None, "sonnet=openai:of-env", "of-env"),
        (None, {"sonnet": "openai:of-models"}, "", "of-models"),
        ("rehearsal", {"sonnet": "openai:of-models"}, "", "of-models"),
        ("haiku", None, "haiku=openai:of-env", "of-env"),
    ],
)
def test_what_a_run_is_given_counts_before_the_environment(
    vendor: ModelServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: str | None,
    models: dict[str, str] | None,
    environment: str,
    answers: str,
) -> None:
    helper(folder, "sonnet")
    monkeypatch.setenv("FANFOLD_MODELS", environment)
    asked(model=run, models=models)
    assert [call.model for call in vendor.journal] == [answers]


def test_a_run_that_is_to_ask_nothing_asks_nothing_whatever_the_environment_says(
    vendor: ModelServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(folder, "sonnet")
    monkeypatch.setenv("FANFOLD_MODELS", "sonnet=openai:of-env")
    assert asked(model="rehearsal").model == "rehearsal"
    with ModelServer() as meant:
        meant.script("helper", ["fine"])
        asked(model=meant)
        assert len(meant.journal) == 1
    assert vendor.journal == []


def test_an_alias_names_nothing_for_agents_that_do_not_use_it(vendor: ModelServer, folder: Path) -> None:
    helper(folder, "opus")
    with pytest.warns(RehearsalWarning):
        assert asked(models=ALIASES).model == "rehearsal"
    assert vendor.journal == []


def test_an_alias_can_mean_the_rehearsal_or_a_server(vendor: ModelServer, folder: Path) -> None:
    helper(folder, "sonnet")
    assert asked(model="openai:of-run", models={"sonnet": "rehearsal"}).model == "rehearsal"
    with ModelServer() as meant:
        meant.script("helper", ["fine"])
        asked(model="openai:of-run", models={"sonnet": meant})
        assert len(meant.journal) == 1
    assert vendor.journal == []


def test_a_call_names_a_model_by_an_alias_too_and_before_the_file(vendor: ModelServer, folder: Path) -> None:
    helper(folder, "sonnet")
    asked(own="fast", models=ALIASES)
    asked(own="openai:of-call", models=ALIASES)
    assert [call.model for call in vendor.journal] == ["the-fast", "of-call"]


def test_a_file_whose_wish_was_granted_is_not_said_to_ask_in_vain(vendor: ModelServer, folder: Path) -> None:
    events: list[Event] = []
    helper(folder, "fast")
    asked(model="openai:of-run", models=ALIASES, on_event=events.append)
    assert not [event for event in events if isinstance(event, Noticed)]
    helper(folder, "slow")
    asked(model="openai:of-run", models=ALIASES, on_event=events.append)
    (note,) = [event.message for event in events if isinstance(event, Noticed)]
    assert note == "the file of agent 'helper' asks for 'slow'; 'openai:of-run' was named and answers"


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ("sonnet=openai:x", "models= is 'sonnet=openai:x', which is no mapping"),
        ({"": "openai:x"}, "models=: '' cannot be an alias"),
        ({3: "openai:x"}, "models=: 3 cannot be an alias"),
        ({"inherit": "openai:x"}, "models=: 'inherit' cannot be an alias"),
        ({"sonnet": "openai:x", "Sonnet ": "openai:y"}, "models=: the alias 'Sonnet ' is given twice"),
        ({"sonnet": "gpt"}, "models=: alias 'sonnet': model 'gpt' does not say whose it is"),
        ({"sonnet": "openia:x"}, "models=: alias 'sonnet': .*did you mean 'openai'"),
        ({"sonnet": 3}, "models=: alias 'sonnet' is 3, which is neither a name nor a server"),
    ],
)
def test_aliases_that_can_mean_nothing_are_refused(folder: Path, models: Any, says: str) -> None:
    helper(folder, "opus")
    with pytest.raises(UsageError, match=says):
        asked(model="rehearsal", models=models)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ("sonnet", "FANFOLD_MODELS: 'sonnet' does not say which alias means which model\n  write it as sonnet="),
        ("=openai:x", "FANFOLD_MODELS: '=openai:x' does not say"),
        ("sonnet=", "FANFOLD_MODELS: 'sonnet=' does not say"),
        ("sonnet=gpt", "FANFOLD_MODELS: alias 'sonnet': model 'gpt'"),
        ("sonnet=openai:x,sonnet=openai:y", "FANFOLD_MODELS: the alias 'sonnet' is given twice"),
    ],
)
def test_an_environment_that_can_mean_nothing_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, environment: str, says: str
) -> None:
    helper(folder, "opus")
    monkeypatch.setenv("FANFOLD_MODELS", environment)
    with pytest.raises(UsageError, match=says):
        asked(model="openai:x")


def test_a_word_that_is_no_alias_lists_those_that_are(folder: Path) -> None:
    helper(folder, "opus")
    with pytest.raises(UsageError, match=r"'sonet' is neither .* did you mean 'sonnet'.*\n.*fast, haiku, sonnet"):
        asked(model="sonet", models=ALIASES)
