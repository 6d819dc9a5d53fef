"""An agent of the tests that speaks the Agent Client Protocol, written with the server's side of its SDK.

Its prompt says what it does: one step, or several with `; ` between them, of which only the last may fail.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from acp import PROTOCOL_VERSION, RequestError, run_agent, schema
from acp import helpers as say


class Worker:
    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    def on_connect(self, conn: Any) -> None:
        self.client = conn

    async def initialize(self, protocol_version: int, client_capabilities: Any = None, **_: Any) -> Any:
        self.capabilities = client_capabilities
        version = int(os.environ.get("LC_ACP_VERSION", PROTOCOL_VERSION))
        return schema.InitializeResponse(protocol_version=version)

    async def new_session(self, cwd: str, mcp_servers: Any = None, **_: Any) -> Any:
        self.cwd, self.servers = cwd, mcp_servers or []
        return schema.NewSessionResponse(session_id="one")

    async def cancel(self, session_id: str, **_: Any) -> None:
        self.cancelled.set()

    async def prompt(self, prompt: list[Any], session_id: str, **_: Any) -> Any:
        *before, last = prompt[0].text.split("\n\n")[-1].split("; ")
        for step in before:
            try:
                await self.do(step)
            except RequestError as error:
                await self.text(f"{error}")
            await self.text("; ")
        reason = await self.do(last)
        word = last.split(" ")[0]
        usage = schema.Usage(total_tokens=15, input_tokens=10, output_tokens=5) if word == "work" else None
        return schema.PromptResponse(stop_reason=reason or "end_turn", usage=usage)

    async def do(self, step: str) -> Any:
        word, *words = step.split(" ")
        return await getattr(self, f"do_{word}")(*words)

    async def update(self, update: Any) -> None:
        await self.client.session_update(session_id="one", update=update)

    async def text(self, text: str) -> None:
        await self.update(say.update_agent_message_text(text))

    async def do_echo(self, *words: str) -> None:
        for word in words:
            await self.text(f"{word} ")

    async def do_work(self) -> None:
        await self.text("I shall look.")
        await self.update(say.update_plan([say.plan_entry("look", status="in_progress"), say.plan_entry("say")]))
        await self.update(say.start_tool_call("1", "Look at ducks", kind="search"))
        await self.update(schema.UsageUpdate(session_update="usage_update", used=15, size=100, cost=_cost(0.25)))
        for message, text in (("1", "Here they are."), ("2", "Ducks "), ("2", "swim.")):
            await self.update(say.update_agent_message_text(text).model_copy(update={"message_id": message}))

    async def do_environment(self) -> None:
        await self.text(json.dumps(dict(os.environ)))

    async def do_told(self) -> None:
        told = {"cwd": self.cwd, "files": self.capabilities.fs.model_dump(), "terminal": self.capabilities.terminal}
        await self.text(json.dumps({**told, "servers": [server.model_dump() for server in self.servers]}))

    async def do_read(self, path: str, line: str = "", limit: str = "") -> None:
        some = {"line": int(line), "limit": int(limit)} if line else {}
        await self.text((await self.client.read_text_file(session_id="one", path=path, **some)).content)

    async def do_write(self, path: str, content: str) -> None:
        await self.client.write_text_file(session_id="one", path=path, content=content)
        await self.text("written")

    async def do_permit(self, kind: str, path: str = "") -> None:
        call = schema.ToolCallUpdate(
            tool_call_id="1", kind=kind, title="Do it", locations=[schema.ToolCallLocation(path=path)] if path else None
        )
        options = [
            schema.PermissionOption(option_id=option, name=option, kind=option)
            for option in ("allow_always", "allow_once", "reject_always", "reject_once")
        ]
        answer = await self.client.request_permission(session_id="one", tool_call=call, options=options)
        await self.text(answer.outcome.option_id)

    async def do_terminal(self) -> None:
        await self.client.create_terminal(session_id="one", command="ls")

    async def do_Answer(self, *_: str) -> None:
        """It is told to answer with JSON."""
        await self.text('Here it is:\n```json\n{"bird": "duck"}\n```')

    async def do_stop(self, reason: str) -> str:
        return reason

    async def do_fail(self, code: str) -> None:
        await self.update(say.start_tool_call("1", "Shoot", kind="other"))  # so that it is not run again
        raise RequestError(int(code), "it does not work", {"retry_after": 0})

    async def do_meet(self, url: str, name: str) -> None:
        """Ask a model server, as models do."""
        from meets import meet

        await self.text(await asyncio.to_thread(meet, url, name))

    async def do_die(self) -> None:
        print("oh no", file=sys.stderr, flush=True)
        os._exit(3)

    async def do_leave(self) -> None:
        os._exit(0)

    async def do_noise(self) -> None:
        print("this is no message", flush=True)
        await self.text("quiet")

    async def do_hang(self, folder: str) -> str:
        """Start a child that stays, and work until somebody cancels that."""
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        Path(folder, f"hangs-{os.getpid()}").touch()
        await self.cancelled.wait()
        Path(folder, "cancelled").touch()
        return "cancelled"

    async def do_sulk(self, folder: str) -> None:
        """Hang, and do not listen either."""
        Path(folder, f"hangs-{os.getpid()}").touch()
        signals = asyncio.Event()
        while True:
            await signals.wait()


def _cost(amount: float) -> Any:
    return schema.Cost(amount=amount, currency="USD")


if __name__ == "__main__":
    asyncio.run(run_agent(Worker()))
