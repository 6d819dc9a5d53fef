"""Bringing a database to the schema that this version of fanfold uses.

Migrations are numbered files, `sql/<dialect>_<number>.sql`. Each is one transaction, under a lock that other processes
which open the same database wait for. The database remembers each with a checksum of its text, so that one that was
changed afterwards is noticed. A database that has had a migration which this version does not know is refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Protocol

from fanfold.errors import StoreError
from fanfold.store.writer import Session


class Migrating(Session, Protocol):
    """A session that can change the schema."""

    def script(self, text: str) -> None:
        """Say several statements."""

    def lock(self) -> None:
        """In a transaction: let no other process migrate until it ends."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    no: int
    text: str

    @property
    def checksum(self) -> str:
        """What tells whether it is still the same."""
        return hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()


@cache
def known(dialect: str) -> tuple[Migration, ...]:
    """The migrations of a database, in their order."""
    folder = files("fanfold.store").joinpath("sql")
    named = ((re.fullmatch(rf"{dialect}_(\d+)\.sql", entry.name), entry) for entry in folder.iterdir())
    found = [Migration(int(match[1]), entry.read_text(encoding="utf-8")) for match, entry in named if match]
    return tuple(sorted(found, key=lambda migration: migration.no))


def migrate(session: Migrating, dialect: str, label: str, *, to: int | None = None) -> list[int]:
    """Do what is left to be done; the numbers of the migrations that were. Raises `StoreError` for a newer database."""
    done: list[int] = []
    if _up_to_date(session, dialect):
        return done
    for migration in known(dialect):
        if to is not None and migration.no > to:
            break
        session.begin()
        try:
            session.lock()
            if _due(session, migration, dialect, label):
                session.script(migration.text)
                session.rows("note_migration", {"no": migration.no, "checksum": migration.checksum})
                done.append(migration.no)
            session.commit()
        except BaseException:
            session.rollback()
            raise
    return done


def _up_to_date(session: Migrating, dialect: str) -> bool:
    """A look without a lock, as most that open a database find it ready."""
    if not session.rows("has_migrations"):
        return False
    return dict(session.rows("migrated")) == {each.no: each.checksum for each in known(dialect)}


def _due(session: Migrating, migration: Migration, dialect: str, label: str) -> bool:
    session.rows("migrations")
    had: dict[int, str] = dict(session.rows("migrated"))
    newest = known(dialect)[-1].no
    if any(no > newest for no in had):
        raise StoreError(f"{label} was written by a newer fanfold; upgrade this one to use it")
    if migration.no in had:
        if had[migration.no] != migration.checksum:
            raise StoreError(f"{label} has had another migration {migration.no} than this fanfold knows")
        return False
    if not had and (strange := [name for (name,) in session.rows("foreign_tables")]):
        raise StoreError(
            f"{label} holds tables that are not fanfold's: {', '.join(sorted(strange)[:5])}",
            hint="name a database of its own",
        )
    return True
