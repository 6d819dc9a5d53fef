"""What the operator of a server lets its clients have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from fanfold.agents.definition import AgentDefinition
from fanfold.agents.models import REHEARSAL
from fanfold.errors import UsageError
from fanfold.graph import CompiledGraph
from fanfold.limits import Limits
from fanfold.store.sql import SqlStore

SINGLE: Final = "fanfold.teams.single:graph"
DEBATE: Final = "fanfold.teams.debate:graph"


class Told(Protocol):
    """What a query came to: see `fanfold.mcp.door.Rows`."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of its columns."""

    @property
    def rows(self) -> Sequence[Sequence[Any]]:
        """Its rows, as many as fit."""

    @property
    def truncated(self) -> str:
        """The cap that cut it off, or nothing."""

    @property
    def ms(self) -> float:
        """How long the database took."""


class Asking(Protocol):
    """Answers queries that can change nothing: see `fanfold.mcp.door.Door`."""

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> Told:
        """The rows of one statement."""

    async def views(self) -> Sequence[Any]:
        """What can be queried, each with its `name` and its `columns`."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A graph that clients may run, or go on with, by its name.

    `reference` is how the store names it, and `load` compiles it over a store, under the name that a run of it has.
    """

    reference: str
    load: Callable[[SqlStore, str | None], CompiledGraph]
    agents: Sequence[AgentDefinition] = ()


@dataclass(frozen=True)
class Offer:
    """What there is to be had. `graphs` are by the names that clients know them by.

    Agents see the folder `workspace`, are answered by `model` and `models`, and are held to `limits`, all together.
    """

    store: SqlStore
    door: Asking | None = None
    write: bool = False
    graphs: Mapping[str, Offered] = field(default_factory=dict)
    workspace: Path = field(default_factory=Path.cwd)
    model: str = REHEARSAL
    models: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def graph(self, name: str) -> Offered:
        """The graph of that name. Raises `UsageError`, which lists those there are."""
        if name not in self.graphs:
            known = ", ".join(self.graphs) or "none; the operator names them: fanfold mcp serve --graph NAME=GRAPH"
            raise UsageError(f"there is no graph {name!r} to run here; there are: {known}")
        return self.graphs[name]

    def behind(self, settings: Mapping[str, Any]) -> Offered:
        """The graph of a run with these settings. Raises `UsageError` for one that nobody has allowed to be loaded.

        What the store names as a run's graph is code; it is loaded only if the operator has named it, too.
        """
        reference = settings.get("graph")
        if (ours := packaged(reference, settings)) is not None:
            return ours
        for offered in self.graphs.values():
            if offered.reference == reference:
                return offered
        what = f"the graph {reference!r}" if reference else "a graph that Python code ran"
        raise UsageError(
            f"this run is of {what}, which this server was not given",
            hint="its operator names it: fanfold mcp serve --graph NAME=GRAPH",
        )


def packaged(reference: Any, settings: Mapping[str, Any]) -> Offered | None:
    """A graph of ours that comes with fanfold, if `reference` names one; made as the run's settings say."""
    if reference == SINGLE:
        return Offered(SINGLE, lambda store, name: named(SINGLE).compile(store, name=name or "task"))
    if reference == DEBATE:
        given = dict(settings.get("given") or {})
        return Offered(DEBATE, lambda store, name: named(DEBATE)(**given).compile(store, name=name or "debate"))
    return None


def named(reference: str) -> Any:
    """What a reference of ours means, imported only now: most servers use none of them."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
