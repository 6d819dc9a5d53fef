"""The interface of a long-term store: its methods, each of which makes one operation."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar, cast

from fanfold.errors import UsageError
from fanfold.memory.ops import (
    NOT_GIVEN,
    Fields,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Namespace,
    NotGiven,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    labels_of,
    writable,
)

P = ParamSpec("P")
R = TypeVar("R")


class _Asking:
    """Stands in for a store while one of its methods says which operation it is; then `op` is it."""

    def __init__(self, store: BaseStore) -> None:
        self.ttl_config, self.supports_ttl = store.ttl_config, store.supports_ttl
        self.supports_versions = store.supports_versions

    def batch(self, ops: Sequence[Op]) -> list[Result]:
        (self.op,) = ops
        return [None]


def _async_twin(
    method: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """The same operation, handed to `abatch`."""

    @functools.wraps(method)
    async def twin(self: BaseStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        asking = _Asking(self)
        method(asking, *args, **kwargs)
        (answer,) = await self.abatch([asking.op])
        return cast("R", answer)

    twin.__name__ = f"a{method.__name__}"
    twin.__qualname__ = f"BaseStore.{twin.__name__}"
    return twin


class BaseStore(ABC):
    """What a long-term store can do. `batch` and `abatch` are its own, everything else is made of them.

    Whatever has these methods counts as an instance, so LangGraph's stores do.
    """

    __slots__ = ("__weakref__",)

    supports_ttl: bool = False
    supports_versions: bool = False
    """Whether its items have versions, so that `if_version` can be asked for."""
    ttl_config: TTLConfig | None = None

    @abstractmethod
    def batch(self, ops: Iterable[Op]) -> list[Any]:
        """The answers to the operations, in their order. Reads see none of the batch's writes."""

    @abstractmethod
    async def abatch(self, ops: Iterable[Op]) -> list[Any]:
        """The same as `batch`, for an event loop."""

    def get(self, namespace: Namespace, key: str, *, refresh_ttl: bool | None = None) -> Item | None:
        """The item of that key, or None."""
        op = GetOp(labels_of(namespace), str(key), refreshes(self.ttl_config, refresh_ttl))
        return cast("Item | None", self.batch([op])[0])

    def search(
        self,
        namespace_prefix: Namespace,
        *,
        query: str | None = None,
        filter: Mapping[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> list[SearchItem]:
        """The items under the prefix that pass `filter`, best first when there is a `query`.

        `filter` is compared with the value, key by key: `{"kind": "note", "rating": {"$gte": 4}}`. The operators are
        `$eq`, `$ne`, `$gt`, `$gte`, `$lt` and `$lte`; what cannot be ordered does not pass the last four.
        """
        refresh = refreshes(self.ttl_config, refresh_ttl)
        op = SearchOp(labels_of(namespace_prefix), filter, limit, offset, query, refresh)
        return cast("list[SearchItem]", self.batch([op])[0])

    def put(
        self,
        namespace: Namespace,
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | Fields | None = None,
        *,
        ttl: float | NotGiven | None = NOT_GIVEN,
        if_version: int | NotGiven | None = NOT_GIVEN,
    ) -> None:
        """Keep a copy of `value`, in place of what had that key.

        `index` names the fields that are searched, False for none of them. `ttl` is in minutes, None for no end.

        With `if_version`, that is done only while the item has that version, and with None only while there is no
        such item. Otherwise raises `ItemConflictError`, which tells the version that it has: somebody else has
        written it since it was read.
        """
        condition = _condition(self, if_version)
        self.batch([PutOp(writable(namespace), str(key), value, index, _ttl(self, ttl), condition)])

    def delete(self, namespace: Namespace, key: str, *, if_version: int | NotGiven = NOT_GIVEN) -> None:
        """Remove the item of that key, if there is one; with `if_version` as `put` does."""
        condition = _condition(self, if_version)
        self.batch([PutOp(labels_of(namespace), str(key), None, if_version=condition)])

    def list_namespaces(
        self,
        *,
        prefix: Namespace | None = None,
        suffix: Namespace | None = None,
        max_depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Namespace]:
        """The namespaces that hold items, sorted; cut off below `max_depth`, and then each one once.

        The label `*` in `prefix` or `suffix` stands for any.
        """
        conditions = [MatchCondition("prefix", labels_of(prefix))] if prefix else []
        conditions += [MatchCondition("suffix", labels_of(suffix))] if suffix else []
        op = ListNamespacesOp(tuple(conditions), max_depth, limit, offset)
        return cast("list[Namespace]", self.batch([op])[0])

    aget = _async_twin(get)
    asearch = _async_twin(search)
    aput = _async_twin(put)
    adelete = _async_twin(delete)
    alist_namespaces = _async_twin(list_namespaces)

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        complete = cls is BaseStore and all(callable(getattr(other, name, None)) for name in _METHODS)
        return complete or NotImplemented


_METHODS: Final = tuple(name for name, what in vars(BaseStore).items() if inspect.isfunction(what) and name[0] != "_")


def refreshes(config: TTLConfig | None, asked: bool | None) -> bool:
    return asked if asked is not None else (config or {}).get("refresh_on_read", True)


def _ttl(store: BaseStore, asked: float | NotGiven | None) -> float | None:
    if isinstance(asked, NotGiven):
        return (store.ttl_config or {}).get("default_ttl")
    if asked is not None and not store.supports_ttl:
        raise UsageError("this store cannot let items expire: its `supports_ttl` is False, so `ttl` has to be None")
    return asked


def _condition(store: BaseStore, asked: int | NotGiven | None) -> int | NotGiven | None:
    if not isinstance(asked, NotGiven) and not store.supports_versions:
        raise UsageError("this store has no versions: its `supports_versions` is False, so `if_version` cannot be kept")
    return asked
