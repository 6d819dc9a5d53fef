"""A restricted role of a test's own, in the real PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest

from fanfold.mcp import roles
from fanfold.store.postgres import PostgresStore


@pytest.fixture
def reader(postgres: str) -> Iterator[str]:
    """The name of a role that may read the views over the store in `postgres`, which holds one item."""
    with PostgresStore(postgres) as store:
        store.items.put(("users", "ada"), "likes", {"food": "cherries"})
    name = f"reader_{secrets.token_hex(4)}"
    yield from made(postgres, roles.planned(postgres, [], store=True, role=name))


def made(url: str, setup: roles.Setup) -> Iterator[str]:
    """A role that is there until the test ends."""
    roles.run(url, setup)
    yield setup.role
    with psycopg.connect(url, autocommit=True) as connection:
        for schema in setup.readable():
            if schema.endswith("_door"):
                connection.execute(f'drop schema "{schema}" cascade'.encode())
        connection.execute(f'drop owned by "{setup.role}"; drop role "{setup.role}"'.encode())
