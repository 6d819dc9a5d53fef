"""The `query` tool: SQL that can read, and nothing else. What keeps it from more is the door's business."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from fanfold.mcp.offer import Asking
from fanfold.mcp.tools.answers import Said, plain


class Rows(Said):
    """What a query came to."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: Annotated[str, Field(description="The cap that cut it off, rows or bytes; empty when it is whole.")]
    ms: Annotated[float, Field(description="How long the database took, in milliseconds.")]


class QueryTools:
    """The tool over a door."""

    def __init__(self, door: Asking) -> None:
        self._door = door

    async def query(
        self,
        sql: Annotated[str, Field(description="One statement that returns rows.")],
        parameters: Annotated[list[Any], Field(description="The values of $1, $2 and so on.")] = [],  # noqa: B006 - only read
    ) -> Rows:
        """Read with SQL. One statement, in a read-only transaction that ends with it; rows, bytes and time are limited.

        Whatever would write, lock, read files or leave something behind is refused, with the reason.
        """
        told = await self._door.query(sql, parameters)
        rows = [[plain(value) for value in row] for row in told.rows]
        return Rows(columns=list(told.columns), rows=rows, truncated=told.truncated, ms=round(told.ms, 3))
