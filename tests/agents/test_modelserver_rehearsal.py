"""The rehearsal model: what it says is quoted from the real files, and it never says that it is more than a search."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from fanfold import framed
from fanfold.agents.modelserver import Answer, Fail, ModelServer, Request, Tool, ToolResult, ToolUse, Turn, rehearse
from fanfold.agents.workspace import Workspace

SYSTEM = "You study tests. Words that lead you there: `assert`, `raises`. Use `grep`."
PROMPT = "How does this project handle retries and the timeout?"
FINDING = re.compile(r"- (?P<says>[^\n]+\.)\n  > (?P<quote>[^\n]+)\n  — (?P<path>[^\n:]+):(?P<line>\d+)(?:\n|$)")


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if re.match(r"ANTHROPIC_|OPENAI_|CLAUDE_|(?:HTTPS?|ALL|NO)_PROXY$", name, re.IGNORECASE):
            monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "README.md": "# Fetcher of pages\n\nFetches pages, and tries again when a timeout ends a fetch.\n",
        "src/fetch.py": "import time\n\n\ndef fetch(url, timeout=5.0, retries=3):\n"
        '    """Fetch a page; retries after a timeout."""\n    return url, timeout, retries\n',
        "tests/test_fetch.py": "def test_a_timeout_raises():\n    assert fetch('x', timeout=0) is None\n",
        "settings.toml": "[fetch]\ntimeout = 5.0  # seconds\n",
        "other.py": "x = 1\n" * 300 + "the_last_timeout_is_here = True\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def tools_of(folder: Path) -> dict[str, Callable[..., str]]:
    space = Workspace(folder)
    return {"glob": space.glob, "grep": space.grep, "read": space.read}


def play(kit: dict[str, Callable[..., str]], prompt: str = PROMPT, system: str = SYSTEM, **more: Any) -> list[Turn]:
    """The whole conversation of the rehearsal with these tools; the last turn is its answer."""
    request = Request("test", system=system, turns=(Turn("user", prompt),), tools=tuple(map(Tool, kit)))
    request = replace(request, **more)
    while True:
        said = rehearse(request)
        assert isinstance(said, Answer), said
        uses = tuple(replace(use, id=f"{len(request.turns)}.{at}") for at, use in enumerate(said.tool_uses))
        request = replace(request, turns=(*request.turns, Turn("assistant", said.text, uses)))
        if not any(use.name in kit for use in uses):
            return list(request.turns)
        results = tuple(ToolResult(use.id, kit[use.name](**use.input), use.name) for use in uses)
        request = replace(request, turns=(*request.turns, Turn("user", tool_results=results)))


def asked(turns: list[Turn]) -> list[list[str]]:
    """The names of the tools, turn by turn."""
    return [[use.name for use in turn.tool_uses] for turn in turns if turn.tool_uses]


def assert_quoted(text: str, folder: Path) -> int:
    """Every finding has the agreed form and is borne out by the file that it names; how many there are."""
    found = list(FINDING.finditer(text))
    for each in found:
        line = (folder / each["path"]).read_text().split("\n")[int(each["line"]) - 1]
        assert each["quote"] == line.strip()
        assert 12 <= len(each["quote"]) <= 200
        claimed = "" if each["says"].startswith("This stands") else each["says"].partition(" in line ")[0]
        assert all(word in line.casefold() for word in re.findall(r"`([^`]+)`", claimed))
    assert len({each["quote"] for each in found}) == len(found)
    return len(found)


def test_it_searches_then_reads_then_answers(folder: Path) -> None:
    turns = play(tools_of(folder))
    assert asked(turns) == [["grep", "grep", "glob"], ["read", "read", "read"]]
    searches = [use.input.get("pattern") for use in turns[1].tool_uses]
    assert searches == ["retries|timeout|handle", "assert|raises", "**/*"]
    text = turns[-1].text
    assert text.splitlines()[0] == "Rehearsal: quotes found by searching, no language model was asked."
    assert 2 <= assert_quoted(text, folder) <= 6
    assert text.endswith("\nIn no line that was returned: `handle`.")


def test_it_reads_different_kinds_of_files_around_their_hits(folder: Path) -> None:
    reads = play(tools_of(folder))[3].tool_uses
    assert [use.input["path"] for use in reads] == ["tests/test_fetch.py", "src/fetch.py", "README.md"]
    only_late = play(tools_of(folder), "`the_last_timeout_is_here`", system="")
    assert [dict(use.input) for use in only_late[3].tool_uses] == [{"path": "other.py", "offset": 296, "limit": 60}]


def test_the_same_request_gets_the_same_answer(folder: Path) -> None:
    assert play(tools_of(folder)) == play(tools_of(folder))


def test_another_role_finds_other_lines(folder: Path) -> None:
    other = play(tools_of(folder), system="Words that lead you there: `import`, `return`.")
    assert play(tools_of(folder))[-1].text != other[-1].text


@pytest.mark.parametrize("kept", ["grep", "read", "glob read", "grep glob", "grep read"])
def test_a_tool_that_is_absent_is_done_without(folder: Path, kept: str) -> None:
    turns = play({name: tool for name, tool in tools_of(folder).items() if name in kept.split()})
    assert assert_quoted(turns[-1].text, folder) >= 2


def test_with_glob_alone_there_is_no_line_to_quote(folder: Path) -> None:
    text = play({"glob": tools_of(folder)["glob"]})[-1].text
    assert text.startswith("Rehearsal: no language model was asked, and nothing was found for")
    assert text.endswith("No line that can be quoted was returned by `glob`.")


def test_without_tools_it_can_quote_nothing() -> None:
    (_, said) = play({})
    assert said.text == (
        "Rehearsal: no language model was asked, and without a tool to search with there is nothing to quote."
    )


def test_when_nothing_is_found_it_says_so_and_quotes_the_introduction(folder: Path) -> None:
    turns = play(tools_of(folder), "Where is the `zebra`?", system="")
    text = turns[-1].text
    assert [dict(use.input) for use in turns[3].tool_uses] == [{"path": "README.md", "offset": 1, "limit": 60}]
    assert text.startswith("Rehearsal: no language model was asked, and nothing was found for `zebra`.\n")
    assert "> Fetches pages, and tries again when a timeout ends a fetch.\n  — README.md:3" in text
    assert assert_quoted(text, folder) == 1


def test_when_there_is_no_introduction_either_it_says_that_too(tmp_path: Path) -> None:
    text = play(tools_of(tmp_path), "Where is the `zebra`?", system="")[-1].text
    assert text.endswith("No line that can be quoted was returned by `glob`, `grep` and `read`.")


def test_a_prompt_without_words_is_not_searched_for(folder: Path) -> None:
    turns = play(tools_of(folder), "What is this?", system="")
    assert asked(turns) == [["glob"], ["read"]]
    assert "the prompt has no word to search for" in turns[-1].text
    assert assert_quoted(turns[-1].text, folder) == 1


def test_a_single_hit_is_shown_with_the_line_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The first line of it.\nThere is a zebra here.\n")
    text = play(tools_of(tmp_path), "Where is the zebra?", system="")[-1].text
    assert assert_quoted(text, tmp_path) == 2
    assert "- This stands 1 line before line 2, in which `zebra` occurs.\n  > The first line of it." in text


def test_lines_too_long_too_short_or_shortened_are_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"zebra\nzebra {'x' * 400}\nA zebra of the right length.\n")
    text = play(tools_of(tmp_path), "zebra", system="")[-1].text
    assert assert_quoted(text, tmp_path) == 1


def test_a_form_feed_inside_a_line_does_not_cut_the_quote(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One zebra here \f and still the same line.\nSecond zebra, for company.\n")
    assert assert_quoted(play(tools_of(tmp_path), "zebra", system="")[-1].text, tmp_path) == 2


def test_a_word_is_found_only_where_a_word_begins(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from dataclasses import dataclass\nclass Zebra(Animal, stripes=True):\n")
    text = play(tools_of(tmp_path), "class", system="")[-1].text
    assert "- `class` occurs in line 2 of a.txt, which starts with `class`.\n" in text
    assert "occurs in line 1" not in text


def test_what_a_tool_says_of_itself_is_never_quoted() -> None:
    def grep(pattern: str, glob: str = "**/*") -> str:
        return "a.py:3: timeout = 5  # of the zebra\n(more matches of the timeout were left out)"

    text = play({"grep": grep}, "timeout", system="")[-1].text
    assert re.findall(r"> (.*)", text) == ["timeout = 5  # of the zebra"]


def test_failed_tool_calls_are_no_source() -> None:
    use = ToolUse("read", {"path": "README.md"}, "1")
    turns = (
        Turn("user", "zebra"),
        Turn("assistant", tool_uses=(use,)),
        Turn("user", tool_results=(ToolResult("1", "1\tThe zebra could not be read", "read", is_error=True),)),
    )
    said = rehearse(Request("test", turns=turns, tools=(Tool("read"),)))
    assert isinstance(said, Answer)
    assert "could not be read" not in said.text


def test_a_second_prompt_is_searched_for_anew(folder: Path) -> None:
    first = play(tools_of(folder))
    again = play(tools_of(folder), turns=(*first, Turn("user", "And where is the url?")), system="")
    assert again[len(first) + 1].tool_uses[0].input["pattern"] == "url"
    assert "`url`" in again[-1].text


def test_the_tools_of_claude_code_and_of_mcp_are_called_in_their_own_way() -> None:
    grep = Tool("Grep", schema={"properties": {"pattern": {}, "output_mode": {}, "-n": {}, "-i": {}}})
    read = Tool("Read", schema={"properties": {"file_path": {}, "offset": {}, "limit": {}}})
    tools = (grep, read, Tool("mcp__files__glob"), Tool("Task"))
    request = Request("test", turns=(Turn("user", "zebra"),), tools=tools)
    first = rehearse(request)
    assert isinstance(first, Answer)
    searched, globbed = first.tool_uses
    assert searched == ToolUse("Grep", {"pattern": "zebra", "output_mode": "content", "-n": True, "-i": True})
    assert globbed.name == "mcp__files__glob"
    found = Turn("user", tool_results=(ToolResult("1", "./src/a.py:7:a zebra of some kind", "Grep"),))
    asked = Turn("assistant", tool_uses=(replace(searched, id="1"),))
    second = rehearse(replace(request, turns=(*request.turns, asked, found)))
    assert isinstance(second, Answer)
    assert [(use.name, use.input["file_path"]) for use in second.tool_uses] == [("Read", "src/a.py")]
    wanted = replace(next(iter(second.tool_uses)), id="2")
    returned = Turn("user", tool_results=(ToolResult("2", "     7→a zebra of some kind", "Read"),))
    turns = (*request.turns, asked, found, Turn("assistant", tool_uses=(wanted,)), returned)
    last = rehearse(replace(request, turns=turns))
    assert isinstance(last, Answer)
    assert last.text.endswith("  > a zebra of some kind\n  — src/a.py:7")


# Structured output.

REPORT = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "note": {"type": "string"},
        "open": {"type": "array", "items": {"$ref": "#/$defs/Point"}},
        "grade": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "score": {"type": "integer"},
        "kind": {"const": "report"},
    },
    "required": ["summary", "note", "open", "grade", "kind"],
    "$defs": {"Point": {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}},
}


def test_a_forced_tool_is_filled_with_what_is_true(folder: Path) -> None:
    tools = (*map(Tool, tools_of(folder)), Tool("report", schema=REPORT))
    (use,) = play(tools_of(folder), tools=tools, must_call=True)[-1].tool_uses
    assert use.name == "report"
    assert assert_quoted(use.input["summary"], folder) >= 2
    assert use.input["note"] == "Rehearsal: quotes found by searching, no language model was asked."
    assert {key: use.input[key] for key in ("open", "grade", "kind")} == {"open": [], "grade": None, "kind": "report"}
    assert "score" not in use.input


def test_a_tool_that_is_forced_at_once_is_called_at_once() -> None:
    tools = (Tool("grep"), Tool("report", schema=REPORT))
    request = Request("test", turns=(Turn("user", "zebra"),), tools=tools, must_call=True, forced="report")
    said = rehearse(request)
    assert isinstance(said, Answer)
    assert [use.name for use in said.tool_uses] == ["report"]
    search = rehearse(replace(request, forced="grep"))
    assert isinstance(search, Answer)
    assert [dict(use.input) for use in search.tool_uses] == [{"pattern": "zebra"}]


def test_an_output_schema_is_answered_with_json(folder: Path) -> None:
    text = play(tools_of(folder), output_schema=REPORT)[-1].text
    assert assert_quoted(json.loads(text)["summary"], folder) >= 2


@pytest.mark.parametrize(
    ("schema", "cause"),
    [
        ({"type": "integer"}, "cannot fill verdict: it wants a value of type integer"),
        ({"type": "boolean"}, "it wants a value of type boolean"),
        ({"enum": ["yes", "no"]}, "it wants a choice between 'yes', 'no'"),
        ({"type": "string", "format": "date"}, "it wants a string of a certain form"),
        ({"type": "string", "minLength": 5000}, "it wants at least 5000 characters"),
        ({"anyOf": [{"type": "number"}, {"type": "boolean"}]}, "it wants a value of type number"),
        ({"$ref": "#/$defs/Nowhere"}, "which is not in the schema"),
        ({"type": "array", "minItems": 1, "items": {"type": "number"}}, r"cannot fill verdict\[\]"),
    ],
)
def test_what_would_have_to_be_judged_is_refused(schema: dict[str, Any], cause: str) -> None:
    whole = {"type": "object", "properties": {"verdict": schema}, "required": ["verdict"]}
    tool = Tool("judge", schema=whole)
    said = rehearse(Request("test", turns=(Turn("user", "zebra"),), tools=(tool,), must_call=True))
    assert isinstance(said, Fail)
    assert (said.status, said.retry) == (400, False)
    assert re.search(cause, said.message)


EVIDENCE = {
    "type": "object",
    "properties": {"source": {"type": "string"}, "quote": {"type": "string"}},
    "required": ["source", "quote"],
}
CASE = {
    "type": "object",
    "$defs": {"Evidence": EVIDENCE},
    "properties": {
        "answer": {"enum": ["yes", "no"]},
        "sure": {"type": "number", "minimum": 0, "maximum": 1},
        "claims": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "text": {"type": "string"},
                    "evidence": {"type": "array", "items": {"$ref": "#/$defs/Evidence"}},
                },
                "required": ["id", "text"],
            },
        },
        "replies": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "claim": {"type": "string", "description": "The id of the claim."},
                    "evidence": {"type": "array", "items": {"$ref": "#/$defs/Evidence"}},
                },
                "required": ["claim"],
            },
        },
    },
    "required": ["answer", "sure", "claims"],
}
TOLD = f"{SYSTEM} Where nothing decides, `answer` is `no`, and `sure` is `0.25`."


def case(folder: Path, prompt: str = PROMPT, system: str = TOLD) -> Any:
    return json.loads(play(tools_of(folder), prompt, system, output_schema=CASE)[-1].text)


def test_a_list_that_brings_evidence_is_filled_with_quotes_of_the_files(folder: Path) -> None:
    claims = case(folder)["claims"]
    assert [claim["id"] for claim in claims] == ["1", "2", "3"]
    for claim in claims:
        (piece,) = claim["evidence"]
        assert piece["quote"] in (folder / piece["source"]).read_text()
        assert claim["text"].endswith(".")
    assert len({claim["evidence"][0]["quote"] for claim in claims}) == 3


def test_what_an_agent_is_told_to_say_where_nothing_decides_is_said(folder: Path) -> None:
    assert {key: case(folder)[key] for key in ("answer", "sure")} == {"answer": "no", "sure": 0.25}
    other = case(folder, f"{PROMPT} `answer`\nis `yes`.")
    assert other["answer"] == "yes", "the prompt counts before the file"


@pytest.mark.parametrize("told", ["`answer` is `maybe`, `sure` is `0.5`", "`answer` is `no`, `sure` is `2`", ""])
def test_what_it_was_not_told_or_told_wrongly_is_still_not_judged(folder: Path, told: str) -> None:
    request = Request("test", system=told, turns=(Turn("user", "zebra"),), output_schema=CASE)
    assert isinstance(rehearse(request), Fail)


def test_a_reference_is_made_only_to_what_the_agent_was_told_of(folder: Path) -> None:
    assert "replies" not in case(folder)
    assert [reply["claim"] for reply in case(folder, f"{PROMPT} `claim` is `K.2`.")["replies"]] == ["K.2"] * 3


def test_what_others_have_said_is_not_searched_for(folder: Path) -> None:
    said = framed("the_last_timeout_is_here and `answer` is `yes`", source="somebody")
    turns = play(tools_of(folder), f"The question:\nHow are retries made?\n\n{said}", TOLD, output_schema=CASE)
    assert turns[1].tool_uses[0].input["pattern"] == "retries"
    assert json.loads(turns[-1].text)["answer"] == "no"


def test_it_does_not_guess_which_tool_takes_the_answer() -> None:
    request = Request("test", turns=(Turn("user", "zebra"),), tools=(Tool("a"), Tool("b")), must_call=True)
    said = rehearse(request)
    assert isinstance(said, Fail)
    assert "does not know which of a, b takes an answer" in said.message
    unknown = rehearse(replace(request, forced="c"))
    assert isinstance(unknown, Fail)
    assert "'c' is not among the tools" in unknown.message


# Real agents over real HTTP.


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def anthropic_model(server: ModelServer) -> tuple[Model, Any]:
    client = AsyncAnthropic(base_url=server.url, api_key="made-up", max_retries=0)
    return AnthropicModel("rehearsal", provider=AnthropicProvider(anthropic_client=client)), client


def chat_model(server: ModelServer) -> tuple[Model, Any]:
    client = AsyncOpenAI(base_url=server.openai_url, api_key="made-up", max_retries=0)
    return OpenAIChatModel("rehearsal", provider=OpenAIProvider(openai_client=client)), client


def responses_model(server: ModelServer) -> tuple[Model, Any]:
    client = AsyncOpenAI(base_url=server.openai_url, api_key="made-up", max_retries=0)
    return OpenAIResponsesModel("rehearsal", provider=OpenAIProvider(openai_client=client)), client


MODELS = pytest.mark.parametrize("make", [anthropic_model, chat_model, responses_model])


class Report(BaseModel):
    summary: str
    gaps: list[str] = []


@MODELS
def test_a_real_agent_is_rehearsed_with_its_real_tools(
    server: ModelServer, folder: Path, make: Callable[[ModelServer], tuple[Model, Any]]
) -> None:
    async def run() -> Any:
        model, client = make(server)
        async with client:
            agent = Agent(model, system_prompt=SYSTEM, tools=list(tools_of(folder).values()))
            return await agent.run(PROMPT)

    ran = asyncio.run(run())
    assert 2 <= assert_quoted(ran.output, folder) <= 6
    assert (len(server.journal), ran.usage.requests) == (3, 3)
    assert ran.usage.input_tokens == sum(call.usage[0] for call in server.journal) > 0
    assert [call.status for call in server.journal] == ["answered"] * 3
    assert server.journal[0].system == SYSTEM


@MODELS
def test_a_real_agent_gets_its_structured_output(
    server: ModelServer, folder: Path, make: Callable[[ModelServer], tuple[Model, Any]]
) -> None:
    async def run() -> Report:
        model, client = make(server)
        async with client:
            agent = Agent(model, output_type=Report, system_prompt=SYSTEM, tools=list(tools_of(folder).values()))
            async with agent.run_stream(PROMPT) as stream:
                return await stream.get_output()

    report = asyncio.run(run())
    assert assert_quoted(report.summary, folder) >= 2
    assert report.gaps == []
    assert all(call.stream for call in server.journal)


@pytest.mark.parametrize("name", ["write", "Edit", "bash", "Task", "Agent", "mcp__mail__send"])
@pytest.mark.parametrize("forced", [False, True])
def test_the_rehearsal_never_acts_even_when_it_is_told_to(name: str, forced: bool) -> None:
    schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
    tools = (Tool(name, "Does things.", schema),)
    asked = Request("test", turns=(Turn("user", f"Use {name} to do things."),), tools=tools)
    told = rehearse(replace(asked, must_call=True, forced=name if forced else None))
    assert isinstance(told, Fail)
    left_to_itself = rehearse(asked)
    assert isinstance(left_to_itself, Answer)
    assert left_to_itself.tool_uses == ()
