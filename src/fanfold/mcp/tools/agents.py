"""The tools that spawn agents: `task` asks one, `debate` lets two sides argue. Both are runs, within its limits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import Field

from fanfold.agents.definition import AgentDefinition, Catalogue
from fanfold.errors import UsageError
from fanfold.mcp.offer import DEBATE, SINGLE, Offer, named, packaged
from fanfold.mcp.tools.answers import Said
from fanfold.mcp.tools.runs import PATIENCE, Account, RunTools, Wait, Waiting, Within
from fanfold.mcp.work import Work


class Asked(Said):
    """What an agent has answered; with a status other than done, why it has not."""

    run_id: str
    status: str
    agent: str
    output: Annotated[Any, Field(description="The answer; null while there is none.")]
    whole: Annotated[bool, Field(description="False when the answer was cut.")]
    model: str
    tool_uses: int
    total_tokens: int
    spent: dict[str, float]
    error: str
    note: str


class AgentTools:
    """The tools over the agents that names can mean here."""

    def __init__(self, offer: Offer, work: Work, runs: RunTools) -> None:
        self._offer = offer
        self._work = work
        self._runs = runs

    async def task(
        self,
        agent: Annotated[str, Field(description="An agent's name; agents://all lists them.")],
        prompt: Annotated[str, Field(description="What it is to do. It knows nothing else.")],
        context: Context[Any, Any],
        wait: Wait = PATIENCE,
        limits: Within | None = None,
    ) -> Asked:
        """Ask one agent, which works in this server's folder, and wait for its answer. Several can be asked at once.

        If it takes longer than `wait`, the status says running: follow it with run_follow and read it with run_get.
        """
        if not prompt.strip():
            raise UsageError("the prompt is empty")
        definition = (await asyncio.to_thread(Catalogue.load, Path.cwd())).get(agent)
        offered = packaged(SINGLE, {})
        assert offered is not None, "it comes with us"
        given = {"agent": definition.name, "prompt": prompt}
        at = await self._work.start(offered, given, settings={}, limits=limits.given() if limits else {})
        return _asked(definition, await self._runs.waited(at, Waiting(context, wait)))

    async def debate(
        self,
        question: Annotated[str, Field(description="What to argue about.")],
        context: Context[Any, Any],
        rounds: Annotated[int, Field(ge=0, le=4, description="Rounds of rebuttals.")] = 2,
        advocates: Annotated[int, Field(ge=1, le=8)] = 2,
        challengers: Annotated[int, Field(ge=1, le=8)] = 2,
        protocol: Literal["rounds", "cascade"] = "rounds",
        stop: Annotated[str | None, Field(description='When to end early, such as "unanimity | calls=40".')] = None,
        wait: Wait = 0.0,
        limits: Within | None = None,
    ) -> Account:
        """Let two sides argue a question with quotes from this server's folder, which are checked, and decide.

        It begins at once and takes minutes: follow it with run_follow, and read verdict and report with run_get.
        """
        how = {
            "rounds": rounds,
            "advocates": advocates,
            "challengers": challengers,
            "protocol": protocol,
            "stop": stop,
        }
        team = named("fanfold.teams.debate:Debate")(question, sources=self._offer.workspace, **how)
        offered = packaged(DEBATE, {"given": how})
        assert offered is not None, "it comes with us"
        within = limits.given() if limits else {}
        at = await self._work.start(offered, team.motion, settings={"given": how}, limits=within)
        return await self._runs.waited(at, Waiting(context, wait))


def _asked(definition: AgentDefinition, account: Account) -> Asked:
    output = account.output if isinstance(account.output, dict) else {}
    return Asked(
        run_id=account.run.run_id,
        status=account.run.status,
        agent=definition.name,
        output=output.get("output"),
        whole=account.whole,
        model=str(output.get("model", "")),
        tool_uses=int(output.get("tool_uses", 0)),
        total_tokens=int(output.get("total_tokens", 0)),
        spent=account.spent,
        error=account.run.error,
        note=account.note,
    )
