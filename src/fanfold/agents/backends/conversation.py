"""An agent as a conversation with its model, by pydantic-ai: its tools, the form of its answer, and how it ends.

This module imports what takes a second to import, and is itself imported when the first such agent runs.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from pydantic_ai import Agent, ModelRetry, Tool, ToolFailed, ToolOutput
from pydantic_ai.usage import UsageLimits

from fanfold.agents import editing, shell
from fanfold.agents.backends import refusals
from fanfold.agents.backends.answers import Form
from fanfold.agents.backends.base import Answer, Call
from fanfold.agents.backends.providers import Pulse, connection, name_of
from fanfold.agents.backends.requesting import Line, Requesting, Tell
from fanfold.agents.definition import folded
from fanfold.agents.processes import Bounds
from fanfold.agents.tools import TOOLS, permitted, server_of
from fanfold.errors import AgentError, BudgetError, WorkspaceError
from fanfold.events import Noticed
from fanfold.frame import clock

DEFAULT_MAX_TURNS = 25
MEGABYTE = 1024 * 1024
RETRIES = 2
"""How often a model may correct the form of an answer, or of a tool's input, before that is an error."""


async def converse(call: Call, tell: Tell) -> Answer:
    """What the agent answers in the end; `tell` gets what it does until then."""
    line = Line(call, Pulse(), tell)
    async with AsyncExitStack() as stack:
        model = Requesting(await stack.enter_async_context(connection(call, line.pulse)), line)
        tools = await _tools(call, tell)
        toolsets = []
        if call.servers:
            from fanfold.agents.backends.mcp import connected

            toolsets = await stack.enter_async_context(connected(call, tell))
        form = Form(call.schema)
        agent: Agent[None, Any] = Agent(
            model,
            name=call.definition.name,
            instructions=call.definition.prompt or None,
            tools=tools,
            toolsets=toolsets,
            output_type=str if form.wanted is None else ToolOutput(form.wanted, name="final_result"),
            retries=RETRIES,
        )
        if form.wanted is not None:
            agent.output_validator(form.checked)
        with refusals.conversing(call, form):
            result = await agent.run(call.prompt, usage_limits=_limits(call))
    return _answer(call, line, form.taken(result.output), json.loads(result.all_messages_json()))


def _limits(call: Call) -> UsageLimits:
    return UsageLimits(request_limit=call.definition.max_turns or DEFAULT_MAX_TURNS)


def _answer(call: Call, line: Line, output: Any, messages: list[dict[str, Any]]) -> Answer:
    bill = line.bill
    return Answer(
        output=output,
        model=name_of(call.model),
        usage={"input_tokens": bill.input_tokens, "output_tokens": bill.output_tokens, "requests": bill.requests},
        cost_usd=bill.usd,
        tool_uses=bill.tools,
        transcript=tuple(messages),
    )


# Tools.


async def _tools(call: Call, tell: Tell) -> list[Tool[None]]:
    """The tools of the definition, apart from those of MCP servers; what it cannot have is told."""
    definition = call.definition
    choice = permitted(definition.tools, definition.disallowed_tools, call.servers)
    if choice.unavailable:
        listed = ", ".join(choice.unavailable)
        await _notice(call, tell, f"asks for tools that it cannot have here: {listed}{_missing(choice.unavailable)}")
    tools = [_tool(call, name) for name in choice.allowed if name != "bash"]
    if "bash" in choice.allowed:
        tools += await _shell(call, tell, named="bash" in choice.named)
    return [*tools, _task(call)] if call.peers else tools


def _missing(unavailable: tuple[str, ...]) -> str:
    servers = dict.fromkeys(filter(None, map(server_of, unavailable)))
    return f" (there is no MCP server {', '.join(map(repr, servers))})" if servers else ""


async def _notice(call: Call, tell: Tell, text: str) -> None:
    await tell(Noticed(clock(), f"agent {call.definition.name!r} {text}", call.task))


def _tool(call: Call, name: str) -> Tool[None]:
    """One of the tools that need no process: it runs in a thread."""
    method: Callable[..., str] = getattr(call.workspace if name in ("read", "glob", "grep") else editing, name)
    given = () if name in ("read", "glob", "grep") else (call.workspace,)

    @functools.wraps(method)
    async def use(**arguments: Any) -> str:
        try:
            return await asyncio.to_thread(method, *given, **arguments)
        except WorkspaceError as error:  # the model is told, so that it can ask for something else
            raise ToolFailed(str(error)) from error

    if given:
        signature = inspect.signature(method, eval_str=True)
        use.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    return Tool(use, takes_ctx=False, name=name, description=TOOLS[name], max_retries=5)


async def _shell(call: Call, tell: Tell, *, named: bool) -> list[Tool[None]]:
    """`bash`: confined to the folder where that can be, else only for an agent whose file names it."""
    space, definition = call.workspace, call.definition
    program = await shell.find_confiner() if shell.can_hold(space) else None
    if program is None and not named:
        return []
    if program is None:
        await _notice(call, tell, "may run any command as you: nothing here confines it to the folder")
    extra = {"FANFOLD_TASK": call.task, "FANFOLD_AGENT": definition.name}
    bounds = Bounds(memory=definition.memory_mb * MEGABYTE if definition.memory_mb else None)

    async def bash(command: str, timeout: float = shell.DEFAULT_RUN) -> str:
        try:
            return await shell.run(space, command, timeout, extra, bounds, program)
        except WorkspaceError as error:
            raise ToolFailed(str(error)) from error

    sees = "It sees this folder and the system's programs, and no network." if program else "It is not confined."
    return [Tool(bash, takes_ctx=False, name="bash", description=f"{TOOLS['bash']} {sees}", max_retries=5)]


def _task(call: Call) -> Tool[None]:
    """The tool that calls other agents. Several calls in one message run side by side."""
    names = {folded(peer.name): peer.name for peer in call.peers}

    async def task(subagent_type: str, prompt: str, description: str = "") -> str:
        name = names.get(folded(subagent_type))
        if name is None:
            raise ModelRetry(f"there is no agent {subagent_type!r}; there are: {', '.join(names.values())}")
        try:
            answer: str = await call.desk.task(name, prompt, description)
        except BudgetError:
            raise
        except AgentError as error:
            raise ToolFailed(f"agent {name!r} has no answer: {error}") from error
        return answer

    listed = "\n".join(f"- {peer.name}: {' '.join(peer.description.split())}" for peer in call.peers)
    text = (
        "Ask another agent, and get its answer. It knows nothing of this conversation: `prompt` says all it needs. "
        f"Ask several in one message when none needs another's answer: they work at the same time.\n{listed}"
    )
    return Tool(task, takes_ctx=False, name="task", description=text, max_retries=5)
