"""The role that agents query PostgreSQL as: the SQL that makes it, and the URL that names it.

The role may read, and nothing else: it owns nothing, is a member of nothing, and is granted `select` on views over a
store, or on the schemas that the operator names. Who prints the SQL can look at it, change it, and have somebody else
run it. Running it again is harmless, and brings the views to those of this version.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fanfold.errors import MissingExtraError, StoreError, UsageError
from fanfold.mcp.door import READER
from fanfold.mcp.statements import statements, views

SECRET: Final = "FANFOLD_READER_PASSWORD"  # noqa: S105 - the name of a variable
"""The variable that has the role's password, where the server asks for one."""
CONNECTIONS: Final = 16
"""Connections that the role may have at once, over all servers."""
LONGEST: Final = 30
"""Seconds after which a statement of the role ends, whoever connects as it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a role is to be made for: a store's schema, if any, and schemas that are opened as a whole."""

    database: str
    store: str | None = None
    schemas: tuple[str, ...] = ()
    role: str = READER
    password: str | None = None
    """As the server keeps it: never in the clear, for it would be in the server's log."""

    def script(self) -> str:
        """The SQL, one transaction."""
        words = self._words()
        text = [_part(name, words) for name in ("role", *(["password"] if self.password else []), "settings", "disk")]
        if self.store is not None:
            text.append(_part("door", words))
            for view, body in views("postgres", quoted(self.store)).items():
                text.append(_part("view", {**words, "view": quoted(view), "body": body}))
            text.append(_part("closed", {**words, "schema": quoted(self.store)}))
        text += [_part("opened", {**words, "schema": quoted(schema)}) for schema in self.schemas]
        return "\n\n".join(["begin;", *text, "commit;"]) + "\n"

    def readable(self) -> list[str]:
        """The schemas that the role may read."""
        return [*([door_of(self.store)] if self.store else []), *self.schemas]

    def _words(self) -> dict[str, Any]:
        return {
            "role": quoted(self.role),
            "role_text": literal(self.role),
            "database": quoted(self.database),
            "database_text": literal(self.database),
            "connections": CONNECTIONS,
            "seconds": LONGEST,
            "path": ", ".join(map(quoted, self.readable())) or "''",
            "door": quoted(door_of(self.store)) if self.store else "",
            "password": literal(self.password or ""),
        }


def door_of(schema: str) -> str:
    """The schema of the views over a store that is in `schema`."""
    return f"{schema}_door"


def door_at(url: str) -> str | None:
    """The schema of the views over the store at `url`, quoted; None where there is no store."""
    with _connected(url) as connection:
        _, schema = _found(connection)
    return None if schema is None else quoted(door_of(schema))


def planned(url: str, schemas: Sequence[str], *, store: bool, role: str = READER) -> Setup:
    """What is to be made in the database of `url`: over a store that is there, or over `schemas` alone.

    Raises `StoreError` when the database cannot be asked, or holds no store where there is to be one.
    """
    with _connected(url) as connection:
        database, schema = _found(connection)
        if role == connection.info.user:
            raise UsageError(
                f"you are {role} yourself", hint="connect as the owner of the tables, or name another --role"
            )
        if store and schema is None:
            raise StoreError(
                f"there is no store of fanfold in the database {database!r}",
                hint="run `fanfold store migrate --store URL` first; for another database give --database and --schema",
            )
        if not store and not schemas:
            raise UsageError("nothing says what the role may read", hint="name schemas with --schema")
        password = _sealed(connection, role)
    return Setup(database, schema if store else None, tuple(schemas), role, password)


def run(url: str, setup: Setup) -> None:
    """Make the role. Raises `StoreError` when the database refuses, or when the door would not let such a role in."""
    import psycopg

    # The door asks the same of the role that it comes as.
    strengths = statements("postgres")["strengths"].replace("session_user", literal(setup.role))
    with _connected(url) as connection:
        try:
            connection.execute(setup.script())
            found = connection.execute(strengths).fetchall()
        except psycopg.Error as error:
            raise StoreError(
                f"the role {setup.role} could not be made: {_brief(error)}",
                hint="making one takes the right to make roles, and the ownership of what it may read",
            ) from error
    if found:
        raise StoreError(
            f"the role {setup.role} is made, but too strong to be let in: {'; '.join(row[0] for row in found)}",
            hint="take that away, as in: revoke execute on function NAME from public; it takes no second setup-role",
        )


def reader_url(store_url: str, role: str = READER) -> str:
    """The URL of a store's database as `role`: without what only the owner is to know or to set."""
    import psycopg.conninfo

    try:
        parts = psycopg.conninfo.conninfo_to_dict(store_url)
    except psycopg.Error as error:
        raise UsageError(f"cannot read the store's URL: {_brief(error)}") from None
    kept = {name: value for name, value in parts.items() if name not in ("user", "password", "options", "passfile")}
    password = os.environ.get(SECRET)
    secret = {"password": password} if password else {}
    return _as_url({**kept, "user": role, **secret})


def _as_url(parts: Mapping[str, Any]) -> str:
    from urllib.parse import quote, urlencode

    rest = {name: value for name, value in parts.items() if name not in ("user", "password", "dbname")}
    who = quote(str(parts["user"]), safe="") + (f":{quote(parts['password'], safe='')}" if "password" in parts else "")
    return f"postgresql://{who}@/{quote(str(parts.get('dbname', '')), safe='')}?{urlencode(rest, quote_via=quote)}"


def quoted(name: str) -> str:
    """A name as SQL has it. Raises `UsageError` for what cannot be one."""
    if not name or "\0" in name or len(name.encode()) > 63:
        raise UsageError(f"{name!r} cannot be a name in PostgreSQL", hint="names have 1 to 63 bytes, and no NUL")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'" if "\\" not in text else "E'" + _escaped(text) + "'"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "''")


def _part(name: str, words: Mapping[str, Any]) -> str:
    return statements("role")[name].format_map(words)


def _connected(url: str) -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError(
            f"a role in PostgreSQL needs a package that is missing: {error}",
            hint="install it with: pip install 'fanfold[postgres]'",
        ) from error
    if not url.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            "only PostgreSQL has roles; a SQLite file is opened to be read, and needs none",
            hint="give the URL of the database's owner: --store postgresql://owner@host/name",
        )
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=5)
    except psycopg.Error as error:
        raise StoreError(f"cannot connect as the owner of the store: {_brief(error)}") from error


def _found(connection: Any) -> tuple[str, str | None]:
    """The database's name, and the schema of the store in it, if there is one."""
    ask = statements("postgres")
    ((database, chosen),) = connection.execute(ask["place"]).fetchall()
    schema = "fanfold" if chosen in (None, "public") else chosen
    ((there,),) = connection.execute(ask["holds_store"], [f"{quoted(schema)}.migration"]).fetchall()
    return database, schema if there else None


def _sealed(connection: Any, role: str) -> str | None:
    """The password of the environment as the server keeps it."""
    password = os.environ.get(SECRET)
    if not password:
        return None
    return str(connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode())


def _brief(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
