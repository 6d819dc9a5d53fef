"""The memory tools: items in namespaces, written only over what their writer has seen."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from fanfold.errors import UsageError
from fanfold.mcp.tools.answers import DEEPEST, Said, bounded, levels, plain, weight
from fanfold.memory import BaseStore, Item
from fanfold.memory.ops import NOT_GIVEN

LARGEST_ITEM: Final = 256 * 1024
"""Bytes of JSON that an item may have which a client reads or writes."""
LONGEST_NAME: Final = 1024
"""Bytes of a namespace and a key that a client writes: they are in every list, and in an index."""
LARGEST_NUMBER: Final = 2**53
"""What every client and every database can say."""
MOST: Final = 50
"""Items on one page."""

Namespace = Annotated[list[str], Field(description='Labels, like folders: ["users", "ada"]. No label has a dot.')]
Key = Annotated[str, Field(description="The item's key in its namespace.")]
Cursor = Annotated[int, Field(ge=0, le=LARGEST_NUMBER, description="`next` of the page before; 0 for the first.")]


class Remembered(Said):
    """An item as it was when it was read."""

    namespace: list[str]
    key: str
    value: dict[str, Any]
    version: Annotated[int, Field(description="What memory_put and memory_delete take as if_version.")]
    created_at: datetime
    updated_at: datetime
    whole: Annotated[bool, Field(description="False when long texts in the value were cut.")] = True
    score: float | None = None


class Found(Said):
    """The item, or null."""

    item: Remembered | None


class Page(Said):
    """Items, and where the next page begins; null after the last."""

    items: list[Remembered]
    next: int | None


class Namespaces(Said):
    """Namespaces that hold items, and where the next page begins; null after the last."""

    namespaces: list[list[str]]
    next: int | None


class Stored(Said):
    """It is on disk."""

    namespace: list[str]
    key: str
    stored: Literal[True] = True


class Deleted(Said):
    """It is gone."""

    namespace: list[str]
    key: str
    deleted: Literal[True] = True


class MemoryTools:
    """The tools over the long-term memory of a store."""

    def __init__(self, items: BaseStore) -> None:
        self._items = items

    async def memory_get(self, namespace: Namespace, key: Key) -> Found:
        """Read one item of long-term memory, with the version that a later memory_put has to name."""
        item = await self._items.aget(tuple(namespace), key)
        if item is None:
            return Found(item=None)
        told = _told(item, plain(item.value))
        if (size := weight(told.value)) > LARGEST_ITEM:
            raise UsageError(f"item {key!r} has {size:,} bytes, and a client is given {LARGEST_ITEM:,} at most")
        if (deep := levels(told.value)) > DEEPEST:
            raise UsageError(f"item {key!r} has {deep} levels, and a client is given {DEEPEST} at most")
        return Found(item=told)

    async def memory_search(
        self,
        namespace: Annotated[list[str], Field(description="Where to look; everything below counts.")],
        query: Annotated[str | None, Field(description="Words or a question; items that fit best come first.")] = None,
        filter: Annotated[
            dict[str, Any] | None, Field(description='Fields of the value: {"kind": "note", "rating": {"$gte": 4}}.')
        ] = None,
        limit: Annotated[int, Field(ge=1, le=MOST)] = 10,
        cursor: Cursor = 0,
    ) -> Page:
        """Search long-term memory below a namespace, page by page; without a query, in the order of writing."""
        found = await self._items.asearch(tuple(namespace), query=query, filter=filter, limit=limit + 1, offset=cursor)
        items = []
        for item in found[:limit]:
            value, whole = bounded(item.value, 4096)
            told = _told(item, value if isinstance(value, dict) else {"beginning": value}, whole)
            items.append(told.model_copy(update={"score": item.score}))
        return Page(items=items, next=cursor + limit if len(found) > limit else None)

    async def memory_namespaces(
        self,
        prefix: Annotated[list[str], Field(description="What they begin with; * stands for any label.")] = [],  # noqa: B006 - only read, and it is what the schema says
        cursor: Cursor = 0,
    ) -> Namespaces:
        """List the namespaces of long-term memory that hold items, page by page."""
        found = await self._items.alist_namespaces(prefix=tuple(prefix) or None, limit=MOST + 1, offset=cursor)
        more = len(found) > MOST
        return Namespaces(namespaces=[list(each) for each in found[:MOST]], next=cursor + MOST if more else None)

    async def memory_put(
        self,
        namespace: Namespace,
        key: Key,
        value: Annotated[dict[str, Any], Field(description="The whole new value.")],
        if_version: Annotated[
            int | None,
            Field(
                le=LARGEST_NUMBER, description="The version you have read; null when there must be no such item yet."
            ),
        ] = None,
        overwrite: Annotated[
            bool, Field(description="Write whatever is there now. What others wrote is lost.")
        ] = False,
    ) -> Stored:
        """Write one item of long-term memory, if nobody else has written it since you read it.

        Read it with memory_get, change the value, and give its version as if_version. If that is refused
        (ItemConflictError), somebody was quicker: read again, and repeat. Who does so loses nothing of anybody's.
        """
        if (size := weight(value)) > LARGEST_ITEM:
            raise UsageError(f"the value has {size:,} bytes, and an item may have {LARGEST_ITEM:,} at most")
        if (deep := levels(value)) > DEEPEST:
            raise UsageError(f"the value has {deep} levels, and an item may have {DEEPEST} at most")
        if (size := weight([*namespace, key])) > LONGEST_NAME:
            raise UsageError(f"namespace and key have {size:,} bytes, and may have {LONGEST_NAME:,} at most")
        if overwrite and if_version is not None:
            raise UsageError(
                "overwrite writes whatever is there, and if_version only over one version; give one of them"
            )
        await self._items.aput(tuple(namespace), key, value, if_version=NOT_GIVEN if overwrite else if_version)
        return Stored(namespace=namespace, key=key)

    async def memory_delete(
        self,
        namespace: Namespace,
        key: Key,
        if_version: Annotated[int, Field(le=LARGEST_NUMBER, description="The version you have read.")],
    ) -> Deleted:
        """Delete one item of long-term memory, if nobody else has written it since you read it."""
        await self._items.adelete(tuple(namespace), key, if_version=if_version)
        return Deleted(namespace=namespace, key=key)


def _told(item: Item, value: dict[str, Any], whole: bool = True) -> Remembered:
    return Remembered(
        namespace=list(item.namespace),
        key=item.key,
        value=value,
        version=item.version,
        created_at=item.created_at,
        updated_at=item.updated_at,
        whole=whole,
    )
