"""`fanfold mcp`: a server for agents of other programs, and what those programs have to be told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from fanfold import loops
from fanfold.cli.common import F, existing_folder, named_store, open_named_store, say, store_option
from fanfold.cli.limits import limit_options, limited
from fanfold.cli.loading import absolute, agents_beside, graph_from, load
from fanfold.cli.mcp_check import check, setup_role
from fanfold.cli.models import chosen, model_options
from fanfold.errors import MissingExtraError, UsageError
from fanfold.limits import Limits

if TYPE_CHECKING:
    from fanfold.mcp.offer import Offer, Offered
    from fanfold.store.sql import SqlStore

PROGRAMS: Final = ("claude", "cursor", "vscode", "codex")
_DATABASE: Final = "Let queries read this database.  [default: the store's own]"
_WRITE: Final = "Also let clients write memory, ask agents, and run graphs."
_GRAPH: Final = "A graph to run: module:attr or file.py:attr."
_FOLDER: Final = "Start in this folder: agents' files, graphs and all other paths are looked for from there."


@click.group()
def mcp() -> None:
    """Serve runs, memory and a read-only door to the database over the Model Context Protocol."""


mcp.add_command(setup_role)
mcp.add_command(check)


def _go(_: click.Context, __: click.Parameter, folder: str | None) -> None:
    """Go to a folder, before anything is looked for."""
    if folder is not None:
        os.chdir(existing_folder(folder, "--folder"))


def offer_options(function: F) -> F:
    """What the operator of a server lets its clients have."""
    for option in reversed(
        (
            store_option,
            click.option(
                "--database", metavar="URL", help="Let queries read this database.  [default: the store's own]"
            ),
            click.option(
                "--allow-write", is_flag=True, help="Also let clients write memory, ask agents, and run graphs."
            ),
            click.option("--graph", "graphs", metavar="NAME=GRAPH", multiple=True, help=_GRAPH),
            click.option("--workspace", metavar="DIR", help="The folder that agents see.  [default: this one]"),
            model_options,
            limit_options,
        )
    ):
        function = option(function)
    return function


@mcp.command()
@click.option("--folder", metavar="DIR", expose_value=False, is_eager=True, callback=_go, help=_FOLDER)
@offer_options
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
    workspace: str | None,
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
    from fanfold.mcp.standard import silent

    answering, held = chosen(model, rehearse=rehearse), limited(limit, max_concurrency)
    _check_network(http, network)
    with open_named_store(store_url) as store:
        with silent():
            named = dict(_offered(text, store) for text in graphs)
        offer = Offer(
            store=store,
            write=allow_write,
            graphs=named,
            workspace=Path(existing_folder(workspace or ".", "--workspace")),
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
@offer_options
@click.option("--url", metavar="URL", help="For a server that runs already, with --http; else it is started.")
def config(client: str, url: str | None, **offered: Any) -> None:
    """Print what CLIENT has to be told to use this server; where it goes is said on standard error.

    All options but --url are those that the server is started with, in this folder.
    """
    check_installed()
    from fanfold.mcp.configs import CLIENTS, Way
    from fanfold.mcp.http import TOKEN

    known = CLIENTS[client]
    if url:
        _check_url(url, offered)
        print(known.written(Way(url=url)))
        say(f"goes into {known.place}" + (f"; the token is read from {TOKEN}" if client != "vscode" else ""))
        return
    command = _command(**offered)
    print(known.written(Way(command=command)))
    say(f"goes into {known.place}")
    if any(map(_has_password, command)):
        say("careful: it has a password in it; without one in the URL, PostgreSQL reads ~/.pgpass")


def _check_url(url: str, offered: Mapping[str, Any]) -> None:
    """Raise `UsageError` for an address that is none, and for options of a server that has begun already."""
    if any(offered.values()):
        raise UsageError("--url is a server that runs already; what it serves was said when it was started")
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is no address of a server", hint="such as http://127.0.0.1:8765/mcp")


def _command(
    store_url: str | None,
    database: str | None,
    allow_write: bool,
    graphs: tuple[str, ...],
    workspace: str | None,
    model: tuple[str, ...],
    rehearse: bool,
    max_concurrency: int | None,
    limit: tuple[str, ...],
) -> list[str]:
    """The command that starts the server, which means the same from any folder and with any PATH."""
    chosen(model, rehearse=rehearse)
    limited(limit, max_concurrency)
    for graph in graphs:
        _pair(graph)
    script = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "fanfold" else None
    start = [str(Path(script).absolute())] if script else [sys.executable, "-m", "fanfold"]
    given: list[tuple[str, Sequence[object]]] = [
        ("--folder", [str(Path.cwd())]),
        ("--store", [_absolute(named_store(store_url))]),
        ("--database", [database]),
        ("--graph", graphs),
        ("--workspace", [existing_folder(workspace, "--workspace") if workspace else None]),
        ("--model", model),
        ("--max-concurrency", [max_concurrency]),
        ("--limit", limit),
    ]
    words = [word for name, values in given for value in values if value is not None for word in (name, str(value))]
    flags = [name for name, on in (("--allow-write", allow_write), ("--rehearse", rehearse)) if on]
    return [*start, "mcp", "serve", *words, *flags]


def _has_password(word: str) -> bool:
    """Whether it is the URL of a database with a password in it."""
    parts = urlsplit(word if "://" in word else "")
    return parts.scheme in ("postgresql", "postgres") and (parts.password is not None or "password=" in parts.query)


def _absolute(url: str) -> str:
    """A store's URL as it means the same from any folder."""
    from fanfold.store.opening import sqlite_path

    if url.startswith(("postgresql://", "postgres://")):
        return url
    path = sqlite_path(url)
    return url if path == ":memory:" else f"sqlite:///{Path(path).absolute()}"


def _offered(text: str, store: SqlStore) -> tuple[str, Offered]:
    """A graph by its name. It is loaded once: what its file says later, an agent may have written."""
    from fanfold.mcp.offer import Offered

    name, reference = _pair(text)
    made = load(reference)
    graph_from(made, reference, store)
    return name, Offered(
        absolute(reference), lambda kept, named: graph_from(made, reference, kept, name=named), agents_beside(reference)
    )


def _pair(text: str) -> tuple[str, str]:
    """A graph's name, and where it is."""
    name, equals, reference = text.partition("=")
    if not equals or not name or not reference:
        raise UsageError(f"--graph {text!r} is no NAME=GRAPH", hint="such as --graph review=review.py:graph")
    return name, reference


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
