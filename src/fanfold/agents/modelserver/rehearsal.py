"""The rehearsal model: a team can be run end to end before any language model is asked.

It is not a language model, and the first line of each final answer says so. It searches for the distinctive words
of the prompt, and for the words in backticks of the agent's own system prompt (they say what this role looks for),
with the tools that it was given, on the real files; and it answers with quotes of what they returned. Of all tools it
uses only these three, which change nothing: it writes no file, runs no command and asks no other agent::

    turn 1   grep for both kinds of words, and glob, in one message
    turn 2   read around the hits in the two or three files that tell the most, in one message
    turn 3   the answer

It keeps nothing between calls: which turn it is follows from the request alone, and the same request gets the same
answer. A tool that is absent is done without. What a tool did not return is never said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fanfold.agents.modelserver.quotes import (
    Line,
    Words,
    finding,
    findings,
    globbed,
    grepped,
    introduction,
    listed,
    readme,
    sentences,
    telling_places,
    was_read,
)
from fanfold.agents.modelserver.schema import Said, fill
from fanfold.agents.modelserver.values import Answer, Fail, Request, Tool, ToolResult, ToolUse
from fanfold.errors import UsageError

_PROMPT_WORDS, _ROLE_WORDS = 8, 12
_LINES = 60  # read around a hit
_OUTPUT_TOOLS = ("final_result", "structuredoutput")  # how pydantic-ai and Claude Code name theirs
_ACTING = frozenset({"write", "edit", "multiedit", "notebookedit", "bash", "task", "agent", "webfetch", "websearch"})

_TOLD = re.compile(r"`(\w+)`\s+is\s+`([^`]+)`")  # what to say where nothing decides
_QUESTION = re.compile(r"^The question:\n(.+?)(?:\n\n|\Z)", re.DOTALL | re.MULTILINE)
_FRAME = re.compile(r"<agent-output (\w+)[^>\n]*>\n.*?\n</agent-output \1>", re.DOTALL)

_NO_MODEL = "no language model was asked"
_OPENING = f"Rehearsal: quotes found by searching, {_NO_MODEL}."

_STOP_WORDS = """
    a about above across after again against all also although always among an and answer any anything are around
    as ask at be because been before being below best between both but by can could current describe did different
    do does doing done down during each either else every everything example explain file files find finding findings
    first folder folders following for from further general get give given go good had has have having help her here
    his how however i if in into is it its itself just keep kind know last least less let like line lines list look
    made main make makes many may might more most much must my name need needs new no nor not now of off often on
    once one only or other our out over own part path paths people place please point possible project question
    questions quote quotes rather really repository research result results role same say see sentence several shall
    she should show shows since so some something source sources still study such sure take task team tell than that
    the their them then there these they thing things this those through to together too topic two under until up us
    use used uses using verbatim very want was way ways we well were what when where whether which while who whole
    whom whose why will with within without word words work works would write yes yet you your
"""
_STOP = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True, slots=True)
class _Seen:
    """What our tool calls have returned since the user's last prompt."""

    asked: tuple[ToolUse, ...]
    returned: tuple[tuple[ToolUse, ToolResult], ...]


def rehearse(request: Request) -> Answer | Fail:
    """The next message of the rehearsal. May also stand in a script, where an agent is to be rehearsed."""
    try:
        return _next(request)
    except UsageError as error:
        return Fail(400, str(error), retry=False)


def _next(request: Request) -> Answer:
    kit = _kit(request.tools)
    if request.forced and _acts(request.forced):
        raise UsageError(f"tool_choice: the rehearsal does not call {request.forced!r}: it changes nothing")
    if request.forced and request.forced not in {tool.name for tool in kit.values()}:
        return _structured(request, kit, request.forced)
    uses = _uses(request, kit)
    if uses:
        return Answer(tool_uses=uses)
    if output := _output_tool(request, kit):
        return _structured(request, kit, output)
    if request.output_schema is not None:
        return Answer(json.dumps(_filled(request, kit, request.output_schema), ensure_ascii=False))
    return Answer(_conclude(request, kit))


def _uses(request: Request, kit: dict[str, Tool]) -> list[ToolUse]:
    """The tool calls of this turn; none when it is time to answer."""
    words, seen = _words(request), _seen(request, kit)
    if not seen.asked or request.forced:
        first = list(_search(kit, words))
        named = [use for use in first if use.name == request.forced][:1]
        return named or first or ([_read(kit["read"], "README.md", 1)] if "read" in kit else [])
    if "read" not in kit or any(_kind(use.name) == "read" for use in seen.asked):
        return []
    return [_read(kit["read"], path, start) for path, start in _places(seen, words)]


def _search(kit: dict[str, Tool], words: Words) -> Iterator[ToolUse]:
    # Two searches, as a role's words (`class`, `return`) can be so common that they fill what one may return.
    for searched in filter(None, (words.prompt, words.role)) if "grep" in kit else ():
        tool = kit["grep"]
        how = {"output_mode": "content", "-n": True, "-i": True, "head_limit": 200}  # if it is Claude Code's own
        known = {key: value for key, value in how.items() if key in _inputs(tool)}
        yield ToolUse(tool.name, {"pattern": "|".join(map(re.escape, searched)), **known})
    if "glob" in kit:
        yield ToolUse(kit["glob"].name, {"pattern": "**/*"})


def _read(tool: Tool, path: str, start: int) -> ToolUse:
    key = "file_path" if "file_path" in _inputs(tool) else "path"
    return ToolUse(tool.name, {key: path, "offset": start, "limit": _LINES})


def _places(seen: _Seen, words: Words) -> list[tuple[str, int]]:
    """Where to read: around what grep found, else files named like a word, else an introduction."""
    if hits := [line for line in _lines(seen) if words.within(line.text)]:
        return telling_places(hits, words)
    paths = _paths(seen)
    named = sorted((path for path in paths if words.within(path)), key=lambda path: (-len(words.within(path)), path))
    intro = readme(paths)
    return [(path, 1) for path in dict.fromkeys([*named[:2], *([intro] if intro else [])])]


def _found(request: Request, kit: dict[str, Tool]) -> list[Said]:
    """What lists and evidence can be filled with: the findings, and then every other line that a word led to."""
    words, lines = _words(request), list(_lines(_seen(request, kit)))
    chosen = findings(lines, words)
    more = (pair for pair in sentences(lines, words) if pair not in chosen)
    return [Said(sentence, line.text, line.path) for sentence, line in [*chosen, *more]]


def _conclude(request: Request, kit: dict[str, Tool]) -> str:
    words, seen = _words(request), _seen(request, kit)
    if not kit:
        return f"Rehearsal: {_NO_MODEL}, and without a tool to search with there is nothing to quote."
    lines = list(_lines(seen))
    if found := findings(lines, words):
        absent = set(words.all).difference(*(words.within(line.text) for line in lines))
        note = [f"In no line that was returned: {listed(sorted(absent))}."] if absent else []
        return "\n".join([_OPENING, *(finding(sentence, line) for sentence, line in found), *note])
    sought = f"nothing was found for {listed(words.all)}" if words.all else "the prompt has no word to search for"
    opening = f"Rehearsal: {_NO_MODEL}, and {sought}."
    intro = introduction(lines)
    if intro is None:
        return f"{opening}\nNo line that can be quoted was returned by {listed(sorted(t.name for t in kit.values()))}."
    return f"{opening}\n{finding(f'This stands in line {intro.no} of {intro.path}.', intro)}"


def _filled(request: Request, kit: dict[str, Tool], schema: Mapping[str, Any]) -> Any:
    return fill(schema, _conclude(request, kit), _found(request, kit), _told(request))


def _structured(request: Request, kit: dict[str, Tool], name: str) -> Answer:
    schema = next((tool.schema for tool in request.tools if tool.name == name), None)
    if schema is None:
        raise UsageError(f"tool_choice: {name!r} is not among the tools of this call")
    value = _filled(request, kit, schema)
    if not isinstance(value, dict):
        raise UsageError(f"the rehearsal cannot call {name!r}: its input is not an object")
    return Answer(tool_uses=[ToolUse(name, value)])


def _output_tool(request: Request, kit: dict[str, Tool]) -> str | None:
    """The tool by which the answer has to be given, if there is one."""
    others = [tool.name for tool in request.tools if tool not in kit.values()]
    done = {result.name for turn in _since_prompt(request) for result in turn.tool_results if not result.is_error}
    outputs = [name for name in others if name.casefold().startswith(_OUTPUT_TOOLS) and name not in done]
    if outputs or not request.must_call:
        return outputs[0] if outputs else None
    if len(others) == 1 and not _acts(others[0]):
        return others[0]
    raise UsageError(
        f"the rehearsal must call a tool and does not know which of {', '.join(others) or 'none'} takes an answer"
    )


def _told(request: Request) -> dict[str, str]:
    """What the agent is to say where nothing decides, by the name of the property; its prompt counts first."""
    told = [*_TOLD.findall(request.system), *_TOLD.findall(_asked(request))]
    return {name: " ".join(value.split()) for name, value in told}


def _asked(request: Request) -> str:
    """The prompt without what other agents have said: that is nothing that this one is asked."""
    return _FRAME.sub(" ", request.prompt)


def _words(request: Request) -> Words:
    """What to search for, the most distinctive words of a long prompt only."""
    system, asked = (_TOLD.sub(" ", text) for text in (request.system, _asked(request)))
    asked = "\n".join(_QUESTION.findall(asked)) or asked
    role = [word.casefold() for word in re.findall(r"`([^\s`<>]{2,40})`", system)]
    role = [word for word in dict.fromkeys(role) if any(map(str.isalpha, word)) and _kind(word) is None]
    marked = set(re.findall(r"`([^\s`<>]{2,40})`", asked))
    words = dict.fromkeys([*sorted(marked), *re.findall(r"[^\W\d]\w{2,}|[A-Z]{2}\b", asked)])
    kept = [word for word in words if word in marked or word.casefold() not in _STOP]
    kept.sort(key=lambda word: (word not in marked, not re.search(r"_|\d|\w[A-Z]", word), -len(word)))
    prompt = dict.fromkeys(_stem(word.casefold()) for word in kept)
    return Words(tuple(prompt)[:_PROMPT_WORDS], tuple(role[:_ROLE_WORDS]))


def _stem(word: str) -> str:
    """Without the s of a plural, so that it finds the singular too."""
    plural = len(word) > 4 and word.isalpha() and word.endswith("s") and not word.endswith(("ss", "us", "is", "ies"))
    return word[:-1] if plural else word


def _kit(tools: tuple[Tool, ...]) -> dict[str, Tool]:
    """The tools that we can use, by what they do."""
    return {kind: tool for tool in reversed(tools) if (kind := _kind(tool.name))}


def _kind(name: str) -> str | None:
    """What a tool of that name does: ours, Claude Code's (`Grep`), or either behind an MCP server."""
    last = name.rpartition("__")[2].casefold()
    return last if last in ("glob", "grep", "read") else None


def _acts(name: str) -> bool:
    """Whether a tool of that name may change something, or cost something; of an MCP server's, nobody knows."""
    return name.casefold() in _ACTING or (name.casefold().startswith("mcp__") and _kind(name) is None)


def _inputs(tool: Tool) -> Mapping[str, Any]:
    known: Mapping[str, Any] = tool.schema.get("properties", {})
    return known


def _since_prompt(request: Request) -> tuple[Any, ...]:
    prompts = [at for at, turn in enumerate(request.turns) if turn.role == "user" and not turn.tool_results]
    return request.turns[prompts[-1] + 1 :] if prompts else request.turns


def _seen(request: Request, kit: dict[str, Tool]) -> _Seen:
    turns = _since_prompt(request)
    asked = {use.id: use for turn in turns for use in turn.tool_uses if _kind(use.name) in kit}
    results = [result for turn in turns for result in turn.tool_results if not result.is_error]
    return _Seen(tuple(asked.values()), tuple((asked[r.id], r) for r in results if r.id in asked))


def _lines(seen: _Seen) -> Iterator[Line]:
    """What was read comes first: a read shows the whole line."""
    for use, result in seen.returned:
        if _kind(use.name) == "read":
            yield from was_read(str(use.input.get("path") or use.input.get("file_path")), result.text)
    for use, result in seen.returned:
        if _kind(use.name) == "grep":
            yield from grepped(result.text)


def _paths(seen: _Seen) -> list[str]:
    return [path for use, result in seen.returned if _kind(use.name) == "glob" for path in globbed(result.text)]
