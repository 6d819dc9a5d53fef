"""`fanfold mcp setup-role` and `fanfold mcp check`: the role that queries come as, and whether all is as it should."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from fanfold.cli import ENVIRONMENT
from fanfold.cli.common import counted, json_option, named_store, open_named_store, print_json, say, store_option
from fanfold.errors import UsageError
from fanfold.live import clean

if TYPE_CHECKING:
    from fanfold.mcp.check import Finding

READER: Final = "fanfold_reader"


@click.command("setup-role")
@store_option
@click.option("--database", metavar="URL", help="Another PostgreSQL database, as the owner of what is to be read.")
@click.option("--schema", "schemas", metavar="NAME", multiple=True, help="Let it read all of this schema, too.")
@click.option("--role", metavar="NAME", default=READER, show_default=True, help="What the role is called.")
@click.option("--run", "running", is_flag=True, help="Run the SQL instead of printing it.")
def setup_role(store_url: str | None, database: str | None, schemas: tuple[str, ...], role: str, running: bool) -> None:
    """Print the SQL that makes the role which agents query PostgreSQL as: it may read, and nothing else.

    The role sees views over the store, and the schemas that are named. The URL is that of their owner. A password for
    the role, where the server asks for one, is taken from FANFOLD_READER_PASSWORD.
    """
    from fanfold.mcp import roles

    if store_url and database:
        raise UsageError("--store and --database are two databases", hint="give one of them")
    url = database or named_store(store_url)
    setup = roles.planned(url, schemas, store=database is None, role=role)
    if not running:
        print(setup.script(), end="")
        say(f"nothing was changed in {setup.database}; add --run to run this, or give it to psql")
        return
    roles.run(url, setup)
    say(f"{role} may read {', '.join(setup.readable())} in {setup.database}, and nothing else")


@click.command()
@store_option
@json_option
def check(store_url: str | None, as_json: bool) -> None:
    """Try a server over the store: by stdio and HTTP, many writers at once, and every known attack on its queries.

    For PostgreSQL the URL is the owner's, and the role of setup-role has to be there. Exits with 6 when anything fails.
    """
    from fanfold.cli.mcp import check_installed

    check_installed()
    failed = asyncio.run(_told(named_store(store_url), as_json))
    if failed:
        click.get_current_context().exit(ENVIRONMENT)


async def _told(url: str, as_json: bool) -> int:
    """Say each finding as it is found; how many are wrong."""
    from fanfold.mcp.check import checked

    if url in ("memory:", ":memory:"):
        raise UsageError("a store in memory cannot be served to be checked", hint="name a file, or PostgreSQL")
    every, failed = 0, 0
    with open_named_store(url) as store:
        async for finding in checked(url, store.items):
            every, failed = every + 1, failed + (not finding.passed)
            if as_json:
                print_json(asdict(finding))
            else:
                print(clean(_line(finding)), flush=True)
        say(f"{store.label}: {counted(every, 'check')}, " + (f"{failed} failed" if failed else "all passed"))
    return failed


def _line(finding: Finding) -> str:
    verdict = "ok  " if finding.passed else "FAIL"
    ms = "" if finding.ms is None else f"{finding.ms:,.1f}"
    return f"{verdict}  {finding.part:<7} {finding.what:<38} {finding.held:<12} {ms:>9} ms  {finding.said}"
