"""An agent as a conversation with its model, by pydantic-ai: its tools, the form of its answer, and how it ends.

This module imports what takes a second to import, and is itself imported when the first such agent runs.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
from pydantic_ai import Agent, ModelRetry, RunContext, Tool, ToolFailed, ToolOutput, capture_run_messages
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.settings import ModelSettings
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.usage import UsageLimits

from fanfold.agents import editing, shell, sizes
from fanfold.agents.backends import refusals
from fanfold.agents.backends.answers import Form
from fanfold.agents.backends.base import Answer, Call
from fanfold.agents.backends.connections import Pulse, address_of, connection
from fanfold.agents.backends.providers import is_loopback, name_of
from fanfold.agents.backends.requesting import Line, Requesting, Tell
from fanfold.agents.definition import folded
from fanfold.agents.processes import Bounds
from fanfold.agents.rooms import Rooms
from fanfold.agents.servers import plain
from fanfold.agents.sizes import MEGABYTE
from fanfold.agents.tools import TOOLS, permitted, server_of
from fanfold.agents.transcripts import tell_from
from fanfold.agents.workspace import Workspace
from fanfold.errors import AgentError, BudgetError, MissingExtraError, WorkspaceError
from fanfold.events import Noticed
from fanfold.frame import clock

DEFAULT_MAX_TURNS = 25
EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
RETRIES = 2
"""How often a model may correct the form of an answer, or of a tool's input, before that is an error."""


_SHARED: Final = frozenset(TOOLS) - {"bash"}
"""The tools that are the same for all agents."""

READYING: Final = 2
"""Agents of an event loop that get ready at the same time."""

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def converse(call: Call, tell: Tell) -> Answer:
    """What the agent answers in the end; `tell` gets what it does until then."""
    address = address_of(call.model)
    line = Line(call, Pulse(), tell, _who(call) if address.url and is_loopback(address.url) else {})
    async with AsyncExitStack() as stack:
        model = Requesting(await stack.enter_async_context(connection(address, line.pulse)), line)
        rooms = Rooms(call.desk, sizes.of_command(call.definition))
        tools = await _tools(call, tell, rooms)
        toolsets = []
        if call.servers:
            runs = any(tool.name == "bash" for tool in tools)
            await stack.enter_async_context(rooms.beside(sizes.of_servers(call.servers.values()), commands=runs))
            toolsets = await stack.enter_async_context(_servers(call))
        form = Form(call.schema)
        if not toolsets:  # those are asked what they have on the way, which takes as long as they like
            line.ready = await stack.enter_async_context(preparing())
        settings = await _settings(call, tell)
        if form.wanted is None and not toolsets and all(tool.name in _SHARED for tool in tools):
            agent = _alike(call.definition.name, call.definition.prompt, tuple(tool.name for tool in tools))
        else:
            agent = _agent(call.definition.name, call.definition.prompt, tools, toolsets, form)
        with capture_run_messages() as said, refusals.conversing(call, form, said):
            tell_from(lambda: ModelMessagesTypeAdapter.dump_python(said, mode="json"))
            result = await agent.run(
                call.prompt, model=model, deps=call, model_settings=settings, usage_limits=_limits(call)
            )
    return _answer(call, line, form.taken(result.output), json.loads(result.all_messages_json()))


def _agent(
    name: str, prompt: str, tools: Sequence[Tool[Call]], toolsets: Sequence[AbstractToolset[Call]], form: Form
) -> Agent[Call, Any]:
    agent: Agent[Call, Any] = Agent(
        name=name,
        instructions=prompt or None,
        deps_type=Call,
        tools=tools,
        toolsets=toolsets,
        output_type=str if form.wanted is None else ToolOutput(form.wanted, name="final_result"),
        retries=RETRIES,
    )
    if form.wanted is not None:
        agent.output_validator(form.checked)
    return agent


@functools.lru_cache(maxsize=256)
def _alike(name: str, prompt: str, tools: tuple[str, ...]) -> Agent[Call, Any]:
    """One for all calls of an agent that has nothing but tools which all share: what differs is given when it runs."""
    return _agent(name, prompt, [_tool(each) for each in tools], (), Form(None))


@asynccontextmanager
async def preparing() -> AsyncIterator[Callable[[], None]]:
    """The turn of an agent to get ready; what it gives is called when its first request is.

    To get ready takes milliseconds of a processor. Agents that did so side by side would all ask at the end of it, and
    be answered together again; a few at a time, the first are waiting for their models already while others prepare.
    """
    turns = _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(READYING))
    await turns.acquire()
    with ExitStack() as turn:
        turn.callback(turns.release)
        yield turn.close


def _who(call: Call) -> dict[str, str]:
    """Headers that tell a server on this machine who is asking; no other server is told."""
    return {"x-fanfold-agent": call.definition.name, "x-fanfold-task": call.task}


def _servers(call: Call) -> AbstractAsyncContextManager[list[AbstractToolset[Call]]]:
    try:
        from fanfold.agents.backends.mcp import connected
    except ImportError as error:
        raise MissingExtraError(
            f"agent {call.definition.name!r} uses MCP servers, which needs a package that is missing: {error}",
            hint="install it with: pip install 'fanfold[mcp]'",
        ) from error
    return connected(call)


def _limits(call: Call) -> UsageLimits:
    return UsageLimits(request_limit=call.definition.max_turns or DEFAULT_MAX_TURNS)


async def _settings(call: Call, tell: Tell) -> ModelSettings:
    """How much the model is to think, as the definition's `effort` says."""
    effort = call.definition.extra.get("effort")
    if effort in EFFORTS:
        return ModelSettings(thinking=effort)
    if effort is not None:
        await _notice(call, tell, f"asks for effort {effort!r}, which is none of {', '.join(EFFORTS)}")
    return ModelSettings()


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


async def _tools(call: Call, tell: Tell, rooms: Rooms) -> list[Tool[Call]]:
    """The tools of the definition, apart from those of MCP servers; what it cannot have is told."""
    definition = call.definition
    choice = permitted(definition.tools, definition.disallowed_tools, map(plain, call.servers))
    if choice.unavailable:
        listed = ", ".join(choice.unavailable)
        await _notice(call, tell, f"asks for tools that it cannot have here: {listed}{_missing(choice.unavailable)}")
    tools = [_tool(name) for name in choice.allowed if name != "bash"]
    if "bash" in choice.allowed:
        tools += await _shell(call, tell, rooms, named="bash" in choice.named)
    return [*tools, _task(call)] if call.peers else tools


def _missing(unavailable: tuple[str, ...]) -> str:
    servers = dict.fromkeys(filter(None, map(server_of, unavailable)))
    return f" (there is no MCP server {', '.join(map(repr, servers))})" if servers else ""


async def _notice(call: Call, tell: Tell, text: str) -> None:
    await tell(Noticed(clock(), f"agent {call.definition.name!r} {text}", call.task))


@functools.cache
def _tool(name: str) -> Tool[Call]:
    """One of the tools that need no process: it runs in a thread. Its schema takes a while, and is the same for all."""
    reads = name in ("read", "glob", "grep")
    method: Callable[..., str] = getattr(Workspace if reads else editing, name)

    async def use(ctx: RunContext[Call], **arguments: Any) -> str:
        do = functools.partial(method, ctx.deps.workspace, **arguments)
        try:
            # A search that nobody waits for any more may go on; a change is waited for, so that none comes later.
            return await anyio.to_thread.run_sync(do, abandon_on_cancel=reads)
        except WorkspaceError as error:  # the model is told, so that it can ask for something else
            raise ToolFailed(str(error)) from error

    signature = inspect.signature(method, eval_str=True)
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=RunContext[Call])
    inputs = list(signature.parameters.values())[1:]
    use.__signature__ = signature.replace(parameters=[context, *inputs])  # type: ignore[attr-defined]
    use.__annotations__ = {each.name: each.annotation for each in (context, *inputs)} | {"return": str}
    return Tool(use, takes_ctx=True, name=name, description=TOOLS[name], max_retries=5)


async def _shell(call: Call, tell: Tell, rooms: Rooms, *, named: bool) -> list[Tool[Call]]:
    """`bash`: confined to the folder where that can be, else only for an agent whose file names it."""
    space, definition = call.workspace, call.definition
    program = await shell.find_confiner() if shell.can_hold(space) else None
    if program is None and not named:
        return []
    if program is None:
        await _notice(call, tell, "may run any command as you: nothing here confines it to the folder")
    extra = {"FANFOLD_TASK": call.task, "FANFOLD_AGENT": definition.name}
    memory = definition.memory_mb * MEGABYTE if definition.memory_mb else None
    bounds = Bounds(memory=memory, addresses=memory)

    async def bash(command: str, timeout: float = shell.DEFAULT_RUN) -> str:
        try:
            async with rooms.command():
                return await shell.run(space, command, timeout, extra, bounds, program)
        except WorkspaceError as error:
            raise ToolFailed(str(error)) from error

    sees = "It sees this folder and the system's programs, and no network." if program else "It is not confined."
    return [Tool(bash, takes_ctx=False, name="bash", description=f"{TOOLS['bash']} {sees}", max_retries=5)]


def _task(call: Call) -> Tool[Call]:
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
