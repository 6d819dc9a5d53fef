"""Agents that speak the Agent Client Protocol over their standard input and output (extra `acp`).

`command: acp:my-agent --flag` runs such a program, in a session of its own in the workspace. What it says, the tools
that it uses and its plans are told while it works. The answer is what it says last.

**What it may do.** It asks before it does what matters, and is answered by its definition: what `tools` names is
allowed, and without that key reading is, and with `permissionMode: acceptEdits` changing files of the workspace, too.
Whatever has a place outside of the workspace is refused. Files that it reads and writes through us are those of the
workspace, as for any other agent. It gets no terminal from us. That is a protocol and no wall: a program that does not
ask does what it likes, as any program.

**Its end.** When it is not wanted any more it is told so (`session/cancel`), and has a moment to put things in order
before the launcher ends it and whatever it has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fanfold.agents import editing
from fanfold.agents.backends.base import Answer, Call, Progress, Said
from fanfold.agents.backends.forms import wish
from fanfold.agents.backends.minutes import Minutes
from fanfold.agents.backends.process import (
    LARGEST_ANSWER,
    attempted,
    bounds_of,
    closely_watched,
    ended_badly,
    identity,
    own_name,
    prompt_of,
    words_of,
)
from fanfold.agents.backends.telling import Tell, telling
from fanfold.agents.definition import AgentDefinition
from fanfold.agents.processes import Program, lacks
from fanfold.errors import (
    AgentError,
    AgentLostError,
    MissingExtraError,
    ModelAnswerError,
    ModelKeyError,
    WorkspaceError,
)

if TYPE_CHECKING:
    from acp import RequestError
    from acp import schema as said
    from acp.client.connection import ClientSideConnection

MARK: Final = "acp:"

MEGABYTES: Final = 200
"""What such a program is taken to hold while nobody knows: most of them are programs of Node."""

FAREWELL: Final = 0.1
"""Seconds that it has to put things in order when it is cancelled."""

_AUTHENTICATION: Final = -32000
_READS: Final = ("read", "search", "think")
_TOOLS: Final[Mapping[str, frozenset[str]]] = {
    "read": frozenset({"read"}),
    "search": frozenset({"grep", "glob"}),
    "edit": frozenset({"edit", "write", "multiedit", "notebookedit"}),
    "delete": frozenset({"edit", "write", "bash"}),
    "move": frozenset({"edit", "write", "bash"}),
    "execute": frozenset({"bash"}),
    "fetch": frozenset({"webfetch", "websearch"}),
}
"""The tools of a definition that allow each kind of what an agent asks for."""


def speaks_acp(definition: AgentDefinition) -> bool:
    """Whether a definition's program speaks the protocol."""
    return definition.program().startswith(MARK)


class AcpBackend:
    """Runs the program that the agent's definition names, and talks with it."""

    async def prepare(self) -> None:
        """Import what it takes, in a thread: it is half a second's work."""
        if "acp" not in sys.modules:
            await asyncio.to_thread(_load)

    def run(self, call: Call) -> AsyncGenerator[Progress | Said | Answer, None]:
        """What the agent tells, and last its answer."""

        async def work(tell: Tell) -> Answer:
            return await attempted(call, tell, own_name(call), MEGABYTES, _Talk(call).work)

        return telling(work)


def _load() -> None:
    try:
        import acp  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"agents that speak the Agent Client Protocol need a package that is missing: {error}",
            hint="install it with: pip install 'fanfold[acp]'",
        ) from error


def allowed(definition: AgentDefinition, kind: str | None) -> bool:
    """Whether an agent may do what it asks for; `kind` is the protocol's word for it."""
    names = _TOOLS.get(kind or "", frozenset())
    if names & {tool.strip().casefold() for tool in definition.disallowed_tools}:
        return False
    mode = definition.extra.get("permissionMode")
    if mode == "plan" or kind == "think":
        return kind in _READS
    if definition.tools is not None:
        return bool(names & {tool.strip().casefold() for tool in definition.tools})
    changes = mode == "acceptEdits" and kind in ("edit", "delete", "move")
    return kind in _READS or changes or mode == "bypassPermissions"


class _Talk:
    """One session with one program."""

    def __init__(self, call: Call) -> None:
        self._call = call
        first, *more = words_of(call.definition)
        self._words = [first.removeprefix(MARK), *more] if first != MARK else more

    async def work(self, minutes: Minutes) -> None:
        """Run the program, and take down what it tells until it has answered."""
        call = self._call
        if not self._words:
            raise AgentError(
                f"agent {call.definition.name!r}: its `command` names no program", hint=f"such as {MARK}my-agent"
            )
        for text in lacks():
            call.desk.notice(f"agent {call.definition.name!r}: {text}")
        program = Program(self._words, call.workspace.root, identity(call), bounds_of(call.definition, mapped=False))
        with closely_watched(call, program):
            async with program:
                await program.patiently(call.patience, self._talked(program, minutes))

    async def _talked(self, program: Program, minutes: Minutes) -> None:
        from acp import RequestError, connect_to_agent

        client = _Client(self._call, minutes)
        ours: Any = client  # it has what is called of a `Client` whose capabilities are these
        async with connect_to_agent(ours, _Wire(program, minutes)) as agent:
            try:
                response = await self._prompted(agent)
            except RequestError as error:
                raise self._refusal(minutes, error) from error
            except ConnectionError as error:
                raise await self._lost(program) from error
        self._take(minutes, client, response)

    async def _prompted(self, agent: ClientSideConnection) -> said.PromptResponse:
        from acp import PROTOCOL_VERSION
        from acp import schema as said

        call = self._call
        reads, writes = (allowed(call.definition, kind) for kind in ("read", "edit"))
        files = said.FileSystemCapabilities(read_text_file=reads, write_text_file=writes)
        hello = await agent.initialize(
            protocol_version=PROTOCOL_VERSION,
            client_capabilities=said.ClientCapabilities(fs=files, terminal=False),
            client_info=said.Implementation(name="fanfold", version="1"),
        )
        if hello.protocol_version != PROTOCOL_VERSION:
            raise AgentError(
                f"agent {call.definition.name!r}: its program speaks version {hello.protocol_version} of the Agent "
                f"Client Protocol, and we speak {PROTOCOL_VERSION}"
            )
        capabilities = hello.agent_capabilities.mcp_capabilities if hello.agent_capabilities else None
        servers = [server for name in call.servers if (server := self._server(name, capabilities)) is not None]
        session = await agent.new_session(cwd=str(call.workspace.root), mcp_servers=servers)
        text = prompt_of(call) if call.schema is None else f"{prompt_of(call)}\n\n{wish(call.schema)}"
        block = said.TextContentBlock(type="text", text=text)
        return await self._answered(agent, session.session_id, block)

    async def _answered(
        self, agent: ClientSideConnection, session: str, block: said.TextContentBlock
    ) -> said.PromptResponse:
        answer = asyncio.ensure_future(agent.prompt(session_id=session, prompt=[block]))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await agent.cancel(session_id=session)
                    await asyncio.wait([answer])
            raise
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    def _server(self, name: str, capabilities: said.McpCapabilities | None) -> Any:
        """An MCP server as the protocol describes it; None where the agent cannot use it."""
        from acp import schema as said

        server = self._call.servers[name]
        if "url" not in server:
            command = str(server.get("command", ""))
            env = [said.EnvVariable(name=key, value=str(value)) for key, value in (server.get("env") or {}).items()]
            arguments = [str(word) for word in server.get("args") or ()]
            return said.McpServerStdio(name=name, command=shutil.which(command) or command, args=arguments, env=env)
        kind = "sse" if server.get("type") == "sse" else "http"
        if capabilities is None or not getattr(capabilities, kind):
            self._call.desk.notice(
                f"agent {self._call.definition.name!r}: its program cannot use MCP server {name!r}, which speaks {kind}"
            )
            return None
        headers = [said.HttpHeader(name=key, value=str(value)) for key, value in (server.get("headers") or {}).items()]
        make: Any = said.SseMcpServer if kind == "sse" else said.HttpMcpServer
        return make(type=kind, name=name, url=server["url"], headers=headers)

    def _take(self, minutes: Minutes, client: _Client, response: said.PromptResponse) -> None:
        """What the end of its turn says. Raises when it is no good one."""
        who = minutes.who
        if response.usage is not None or client.usd is not None:
            tokens = (response.usage.input_tokens, response.usage.output_tokens) if response.usage else (0, 0)
            minutes.usage(*tokens, client.usd)
        match response.stop_reason:
            case "end_turn":
                minutes.result(client.answer())
            case "refusal":
                raise ModelAnswerError(f"{who} refuses to go on{_after(client.answer())}")
            case "max_tokens":
                raise ModelAnswerError(f"{who} was cut off: its model may not say more at once")
            case "max_turn_requests":
                raise AgentError(f"{who} was stopped after the requests that its program allows it")
            case other:
                raise AgentLostError(f"{who}: its program says that it was {other}, and nobody has done that")

    def _refusal(self, minutes: Minutes, error: RequestError) -> AgentError:
        data = error.data if isinstance(error.data, Mapping) else {}
        told = " ".join(filter(None, (str(error), str(data.get("details") or data.get("message") or ""))))
        if error.code == _AUTHENTICATION:
            return ModelKeyError(
                f"{minutes.who}: its program wants somebody to log in: {told[:300]}",
                hint="log in with the program itself, outside of fanfold",
            )
        status = error.code if 400 <= error.code < 600 else None
        return minutes.refusal(status, told, data.get("retry_after"))

    async def _lost(self, program: Program) -> AgentError:
        """The error of a program that has hung up."""
        code, complaints = await program.ended(), await program.complaints()
        if code:
            return ended_badly(self._call, program, code, complaints)
        return AgentLostError(f"agent {self._call.definition.name!r}: its program ended before it had answered")


def _after(text: str) -> str:
    return f": {text.strip()[:200]}" if text.strip() else ""


class _Wire:
    """The protocol's messages, one a line of the program's."""

    def __init__(self, program: Program, minutes: Minutes) -> None:
        self._program = program
        self._minutes = minutes
        self._waiting: deque[str] = deque()

    async def send(self, message: dict[str, Any]) -> None:
        """Say one message."""
        await self._program.write(json.dumps(message) + "\n")

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None when there will be no more. Lines that are none are kept in the transcript."""
        while True:
            while not self._waiting:
                lines = await self._program.lines()
                if not lines:
                    return None
                self._waiting.extend(filter(str.strip, lines.split("\n")))
            line = self._waiting.popleft()
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if isinstance(message, dict):
                return message
            self._minutes.keep({"type": "output", "text": line[:500]})

    async def close(self) -> None:
        """The program itself is ended by whoever started it."""


class _Client:
    """Our side of the session: hears what the agent tells, and answers what it asks for."""

    def __init__(self, call: Call, minutes: Minutes) -> None:
        self._call = call
        self._minutes = minutes
        self._text: list[str] = []
        self._message: str | None = None
        self._spoken = 0
        self._size = 0
        self._plan: tuple[str, ...] = ()
        self.usd: float | None = None

    def on_connect(self, conn: Any) -> None:
        """There is nothing to be said before it is asked."""

    def answer(self) -> str:
        """What the agent said last."""
        return "".join(self._text).strip()

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """The agent tells what it does."""
        match update.session_update:
            case "agent_message_chunk":
                self._says(getattr(update.content, "text", ""), update.message_id)
            case "tool_call":
                self._breaks_off()
                self._minutes.tool(update.kind or "other", update.title)
                self._minutes.keep({"type": "tool", "kind": update.kind, "title": update.title})
            case "plan":
                self._plans(update.entries)
            case "usage_update":
                cost = update.cost
                self.usd = cost.amount if cost is not None and cost.currency == "USD" else self.usd

    def _says(self, text: str, message: str | None) -> None:
        if message is not None and message != self._message:
            self._breaks_off()
            self._message = message
        if not self._text:
            self._spoken += 1
        self._size += len(text)
        if self._size <= LARGEST_ANSWER:
            self._text.append(text)
        self._minutes.said(text, self._message or f"{self._call.task}-{self._spoken}")

    def _breaks_off(self) -> None:
        """What it says from now on is another message; the one before is only part of the transcript."""
        if self.answer():
            self._minutes.keep({"type": "message", "text": self.answer()})
            self._text = []

    def _plans(self, entries: Sequence[Any]) -> None:
        plan = tuple(f"{entry.status}: {entry.content}" for entry in entries)
        if plan == self._plan:
            return
        self._plan = plan
        self._minutes.keep({"type": "plan", "entries": list(plan)})
        done = sum(entry.status == "completed" for entry in entries)
        now = next((entry.content for entry in entries if entry.status == "in_progress"), "")
        self._call.desk.notice(
            f"agent {self._call.definition.name!r} has done {done} of the {len(entries)} steps of its plan"
            + (f", and is at: {now[:100]}" if now else "")
        )

    async def request_permission(
        self, session_id: str, tool_call: Any, options: Sequence[Any], **_: Any
    ) -> said.RequestPermissionResponse:
        """The agent asks whether it may do something. It is never allowed for ever."""
        from acp import schema as said

        places = [location.path for location in tool_call.locations or ()]
        may = allowed(self._call.definition, tool_call.kind) and all(map(self._inside, places))
        wanted = ("allow_once",) if may else ("reject_once", "reject_always")
        chosen = next((option.option_id for kind in wanted for option in options if option.kind == kind), None)
        self._minutes.keep({"type": "permission", "title": tool_call.title, "kind": tool_call.kind, "allowed": may})
        if not may:
            self._call.desk.notice(
                f"agent {self._call.definition.name!r} was not allowed to {tool_call.kind or 'do this'}: "
                f"{(tool_call.title or '')[:100]}"
            )
        if chosen is None:
            return said.RequestPermissionResponse(outcome=said.DeniedOutcome(outcome="cancelled"))
        return said.RequestPermissionResponse(outcome=said.AllowedOutcome(outcome="selected", option_id=chosen))

    def _inside(self, path: str) -> bool:
        try:
            self._call.workspace.place(self._relative(path))
        except WorkspaceError:
            return False
        return True

    def _relative(self, path: str) -> str:
        """A path as workspaces know it. The protocol's are absolute; one from elsewhere stays so, and is refused."""
        root = self._call.workspace.root
        place = Path(path)
        return place.relative_to(root).as_posix() if place.is_absolute() and place.is_relative_to(root) else path

    async def read_text_file(
        self, session_id: str, path: str, line: int | None = None, limit: int | None = None, **_: Any
    ) -> said.ReadTextFileResponse:
        """Some lines of a file of the workspace, or all."""
        from acp import schema as said

        self._check("read", path)
        try:
            text = self._call.workspace.text(self._relative(path))
        except WorkspaceError as error:
            raise _refused(error) from error
        if line is not None or limit is not None:
            first = max(1, line or 1) - 1
            lines = text.splitlines(keepends=True)
            text = "".join(lines[first : None if limit is None else first + limit])
        return said.ReadTextFileResponse(content=text)

    async def write_text_file(self, session_id: str, path: str, content: str, **_: Any) -> None:
        """Write a file of the workspace."""
        self._check("edit", path)
        try:
            await asyncio.to_thread(editing.write, self._call.workspace, self._relative(path), content)
        except WorkspaceError as error:
            raise _refused(error) from error

    async def create_terminal(self, *_: Any, **__: Any) -> Any:
        """There are no terminals; we said so."""
        from acp import RequestError

        raise RequestError.method_not_found("terminal/create")

    def _check(self, kind: str, path: str) -> None:
        if not allowed(self._call.definition, kind):
            raise _refused(WorkspaceError(f"this agent may not {kind} {path!r}"))


def _refused(error: WorkspaceError) -> Exception:
    from acp import RequestError

    return RequestError(-32602, str(error), {"details": str(error)})
