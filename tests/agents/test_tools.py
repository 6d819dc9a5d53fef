"""Which tools an agent gets: what its file names, what it forbids, and what there is."""

from __future__ import annotations

import pytest

from fanfold.agents.tools import TOOLS, ToolChoice, permits, permitted

ALL = ("read", "glob", "grep", "write", "edit", "bash")


def test_every_tool_has_a_sentence() -> None:
    assert tuple(TOOLS) == ALL
    assert all(text.endswith(".") for text in TOOLS.values())


@pytest.mark.parametrize(
    ("tools", "disallowed", "choice"),
    [
        (None, (), ToolChoice(ALL)),
        ((), (), ToolChoice(())),
        (("Grep", "READ"), (), ToolChoice(("read", "grep"), (), ("read", "grep"))),
        (("Read", "WebSearch"), (), ToolChoice(("read",), ("WebSearch",), ("read",))),
        (("*",), ("grep", "bash"), ToolChoice(("read", "glob", "write", "edit"))),
        (("*", "Bash"), ("grep",), ToolChoice(("read", "glob", "write", "edit", "bash"), (), ("bash",))),
        (None, ("*",), ToolChoice(())),
        (None, ("Read(secret/**)", "Bash"), ToolChoice(("glob", "grep", "write", "edit"))),
        (("Read(docs/**)", "Bash(git *)"), (), ToolChoice((), ("Read(docs/**)", "Bash(git *)"))),
        (("Read",), ("Read",), ToolChoice(())),
        (("Read", "Task", "Agent(critic)"), (), ToolChoice(("read",), (), ("read",))),
    ],
)
def test_an_agent_gets_what_it_names_and_is_not_forbidden(
    tools: tuple[str, ...] | None, disallowed: tuple[str, ...], choice: ToolChoice
) -> None:
    assert permitted(tools, disallowed) == choice


@pytest.mark.parametrize("entry", ["mcp__notes__search", "mcp__notes", "mcp__notes__*", "MCP__Notes__Search"])
def test_an_entry_that_means_a_server_s_tool_is_known_where_the_server_is(entry: str) -> None:
    assert permitted((entry,), (), ("notes",)) == ToolChoice(())
    assert permitted((entry,), (), ("other",)) == ToolChoice((), (entry,))


@pytest.mark.parametrize(
    ("tools", "disallowed", "allowed"),
    [
        (None, (), True),
        (("*",), (), True),
        (("mcp__notes__search",), (), True),
        (("mcp__notes",), (), True),
        (("mcp__notes__*",), (), True),
        (("mcp__*__search",), (), True),
        (("mcp__*",), (), True),
        (("MCP__NOTES__SEARCH",), (), True),
        ((), (), False),
        (("Read",), (), False),
        (("search", "*search"), (), False),
        (("mcp__not",), (), False),
        (("mcp__notes__sear",), (), False),
        (("mcp__[n]otes__search",), (), False),
        (None, ("mcp__notes",), False),
        (None, ("mcp__notes__search",), False),
        (("mcp__notes",), ("mcp__*__search",), False),
        (None, ("mcp__other", "Bash"), True),
    ],
)
def test_a_server_s_tool_is_permitted_by_its_full_name_its_server_or_a_pattern(
    tools: tuple[str, ...] | None, disallowed: tuple[str, ...], allowed: bool
) -> None:
    assert permits(tools, disallowed, "mcp__notes__search") is allowed
