"""`fanfold mcp`: a server for agents of other programs, and what those programs have to be told."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fanfold import loops
from fanfold.cli.common import existing_folder, named_store, open_named_store, say, store_option
from fanfold.cli.limits import limit_options, limited
from fanfold.cli.loading import absolute, agents_beside, load_graph
from fanfold.cli.mcp_check import check, setup_role
from fanfold.cli.models import chosen, model_options
from fanfold.errors import MissingExtraError, UsageError
from fanfold.limits import Limits

if TYPE_CHECKING:
    from fanfold.mcp.offer import Offer, Offered
    from fanfold.store.sql import SqlStore

PROGRAMS: Final = ("claude", "cursor", "vscode", "codex")


@click.group()
def mcp() -> None:
    """Serve runs, memory and a read-only door to the database over the Model Context Protocol."""


mcp.add_command(setup_role)
mcp.add_command(check)


@mcp.command()
@store_option
@click.option("--database", metavar="URL", help="Let queries read this database.  [default: the store's own]")
@click.option("--allow-write", is_flag=True, help="Also let clients write memory, ask agents, and run graphs.")
@click.option(
    "--graph", "graphs", metavar="NAME=GRAPH", multiple=True, help="A graph to run: module:attr or file.py:attr."
)
@click.option("--workspace", metavar="DIR", default=".", help="The folder that agents see.  [default: this one]")
@model_options
@limit_options
@click.option("--http", is_flag=True, help="Serve over HTTP instead of standard input and output.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at, with --http.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 for any that is free.  [default: 8765]")
@click.option(
    "--token-file", metavar="FILE", help="The token of clients.  [env: FANFOLD_MCP_TOKEN; default: a new one]"
)
@click.option("--no-progress", is_flag=True, help="Tell nobody of progress: answers take a third less of the server.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Another name that this server goes by.")
@click.option("--allow-origin", "origins", multiple=True, metavar="URL", help="A page that may use it in a browser.")
def serve(
    store_url: str | None,
    database: str | None,
    allow_write: bool,
    graphs: tuple[str, ...],
    workspace: str,
    model: tuple[str, ...],
    rehearse: bool,
    max_concurrency: int | None,
    limit: tuple[str, ...],
    http: bool,
    **network: Any,
) -> None:
    """Serve the store to MCP clients, by default over standard input and output.

    Without --allow-write, nothing can be changed. What clients may spend together, all runs, is what --limit says.
    """
    check_installed()
    from fanfold.mcp.offer import Offer

    answering, held = chosen(model, rehearse=rehearse), limited(limit, max_concurrency)
    _check_network(http, network)
    with open_named_store(store_url) as store:
        offer = Offer(
            store=store,
            write=allow_write,
            graphs=dict(_offered(text, store) for text in graphs),
            workspace=Path(existing_folder(workspace, "--workspace")),
            limits=Limits(**held),
            **answering.settings,
        )
        door = _door(store_url, database)
        _until_told(_served(offer, door, network if http else None))


def _until_told(serving: Coroutine[Any, Any, None]) -> None:
    """Serve until there is nothing more to serve, or a signal says so: then everything is closed, in order, first."""
    told: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def served() -> None:
        task, loop = asyncio.ensure_future(serving), asyncio.get_running_loop()

        def end(number: int) -> None:
            told.append(number)
            task.cancel()

        for number in before:
            loop.add_signal_handler(number, end, number)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    loops.run(served())
    for number, handler in before.items():
        signal.signal(number, handler)
    if told:
        signal.raise_signal(told[0])  # the command ends as any other does that gets it


async def _served(offer: Offer, door: Any, network: Mapping[str, Any] | None) -> None:
    from dataclasses import replace

    from fanfold.mcp import standard
    from fanfold.mcp.server import serving

    async with AsyncExitStack() as stack:
        if door is not None:
            offer = replace(offer, door=await stack.enter_async_context(door))
        made = await stack.enter_async_context(serving(offer))
        if network is None:
            say(f"serving {offer.store.label} over standard input and output")
            await standard.serve(made)
        else:
            await _over_http(made, offer, **network)


async def _over_http(
    made: Any,
    offer: Offer,
    host: str,
    port: int | None,
    token_file: str | None,
    no_progress: bool,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
) -> None:
    from fanfold.mcp import http

    token, new = http.token_from(token_file)
    listener = http.listening(host, http.PORT if port is None else port)
    port = listener.getsockname()[1]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{http.PATH}"

    def ready() -> None:
        http.make_prompt()
        say(f"serving {offer.store.label} at {url}")
        if new:
            say(f"token: {token}")

    await http.serve(
        http.app(made, token, http.names(host, port, hosts), origins, progress=not no_progress), listener, ready
    )


@mcp.command()
@click.argument("client", type=click.Choice(PROGRAMS))
@store_option
@click.option("--allow-write", is_flag=True, help="For a server that clients can change something with.")
@click.option("--url", metavar="URL", help="For a server that runs already, with --http; else it is started.")
def config(client: str, store_url: str | None, allow_write: bool, url: str | None) -> None:
    """Print what CLIENT has to be told to use this server; where it goes is said on standard error."""
    check_installed()
    from fanfold.mcp.configs import CLIENTS, Way
    from fanfold.mcp.http import TOKEN

    if url and (store_url or allow_write):
        raise UsageError("--url is a server that runs already; what it serves was said when it was started")
    known = CLIENTS[client]
    print(known.written(Way(url=url) if url else Way(command=_command(store_url, allow_write))))
    say(f"goes into {known.place}" + (f"; the token is read from {TOKEN}" if url and client != "vscode" else ""))


def _command(store_url: str | None, allow_write: bool) -> list[str]:
    """The command that starts the server, which means the same from any folder and with any PATH."""
    script = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "fanfold" else None
    start = [str(Path(script).absolute())] if script else [sys.executable, "-m", "fanfold"]
    store = _absolute(named_store(store_url))
    return [*start, "mcp", "serve", "--store", store, *(["--allow-write"] if allow_write else [])]


def _absolute(url: str) -> str:
    """A store's URL as it means the same from any folder."""
    if url.startswith(("postgresql:", "postgres:")) or url in ("memory:", ":memory:"):
        return url
    return f"sqlite:///{Path(url.removeprefix('sqlite:///')).absolute()}"


def _offered(text: str, store: SqlStore) -> tuple[str, Offered]:
    """A graph by its name, loaded once so that it is known to be there."""
    from fanfold.mcp.offer import Offered

    name, equals, reference = text.partition("=")
    if not equals or not name or not reference:
        raise UsageError(f"--graph {text!r} is no NAME=GRAPH", hint="such as --graph review=review.py:graph")
    load_graph(reference, store)
    return name, Offered(
        absolute(reference), lambda kept, named: load_graph(reference, kept, name=named), agents_beside(reference)
    )


def _door(store_url: str | None, database: str | None) -> Any:
    """The way in for queries: to the store's own database, unless it is in memory, or to another one."""
    from fanfold.mcp.door import Door

    if database:
        return Door.open(database)
    named = named_store(store_url)
    return None if named in ("memory:", ":memory:") else Door.beside(named)


def _check_network(http: bool, network: Mapping[str, Any]) -> None:
    """Raise `UsageError` for options of a server over HTTP, given to another one."""
    usual = {"host": "127.0.0.1", "port": None, "token_file": None, "no_progress": False, "hosts": (), "origins": ()}
    given = [name for name, value in network.items() if value != usual[name]]
    if not http and given:
        raise UsageError(
            f"--{given[0].replace('_', '-').removesuffix('s')} is for a server over HTTP", hint="add --http"
        )


def check_installed() -> None:
    """Raise `MissingExtraError` where the server cannot run."""
    missing = [name for name in ("mcp", "uvicorn", "starlette") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"the server needs packages that are missing: {', '.join(missing)}", hint="pip install 'fanfold[mcp]'"
        )
