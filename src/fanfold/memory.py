"""What is remembered across threads: items in namespaces, kept, looked up, filtered and searched.

An item is a dictionary under a key in a namespace, and a namespace is a tuple of labels, like a path of folders::

    store.put(("users", "ada"), "likes", {"food": "cherries"})
    store.get(("users", "ada"), "likes").value                      # {"food": "cherries"}
    store.search(("users",), query="which food?", filter={"rating": {"$gte": 4}})

**One way in.** Every method makes one operation (`GetOp`, `PutOp`, `SearchOp`, `ListNamespacesOp`) and hands it to
`batch`; its async twin hands the same operation to `abatch`. A store of your own subclasses `BaseStore`, writes these
two, and has the rest. In a batch the reads come first and see none of its writes; of two writes to one key the last
one counts.

**Searching** looks at the items whose namespace starts with the prefix and whose value passes the filter. Without a
query they come in the order in which they were first put. With one they are ranked and never hidden: items with a
score first, best first, and after them, with `score=None`, those that the query says nothing about.

- With an `index`, the score is the cosine between the query's vector and the item's nearest one. An item has a vector
  for each text that its fields give: `"a.b"`, `"items[*].text"`, `"items[-1]"`, `"{title,body}"`, `"$"` for all of it.
- Without one, it is a matter of words. A word of the query counts fully where the item has it, half where a word of the
  item begins with it (three letters or more), and weighs log(1 + items looked at / items that have it), so that rare
  words tell more. The score is the share of the query's weight that was found: 1 when all its words are there.
  `index=False` keeps an item out of both kinds of search, and `index=["field"]` names what is looked at.

**Time to live** is counted in minutes from when an item was put, and anew from each read, unless `refresh_on_read` or
`refresh_ttl` says otherwise. An item whose time is over is gone for every operation, and its memory is given back.

What goes in and what comes out are copies: changing a value changes nothing that is stored. One lock holds the store
together; nothing is awaited, embedded or copied while it is held.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import heapq
import inspect
import json
import math
import operator
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Concatenate, Final, Literal, NamedTuple, ParamSpec, TypeAlias, TypedDict, TypeVar, cast

from fanfold.errors import NotStorableError, SyncInLoopError, UsageError, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")

Namespace: TypeAlias = tuple[str, ...]
Value: TypeAlias = dict[str, Any]
Clock: TypeAlias = Callable[[], datetime]
Vector: TypeAlias = Sequence[float]
Embed: TypeAlias = Callable[[Any], Any]
Fields: TypeAlias = Sequence[str]


class InvalidNamespaceError(UsageError):
    """A namespace has a label that cannot be one, or may not be written to."""


# Values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A value as it was when it was read, and when it was put first and last."""

    namespace: Namespace
    key: str
    value: Value
    created_at: datetime
    updated_at: datetime

    def dict(self) -> Value:
        """The item as JSON can say it."""
        return {
            "namespace": list(self.namespace),
            "key": self.key,
            "value": self.value,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }

    # An item that was found by searching equals the one that was got: the score says something about the search.
    def __eq__(self, other: object) -> bool:
        return Item.dict(self) == Item.dict(other) if isinstance(other, Item) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.namespace, self.key))


@dataclass(frozen=True, slots=True, eq=False)
class SearchItem(Item):
    """An item that a search found. `score` is None when there was no query or it says nothing about the item."""

    score: float | None = None

    def dict(self) -> Value:
        return {**Item.dict(self), "score": self.score}


class GetOp(NamedTuple):
    """Read one item."""

    namespace: Namespace
    key: str
    refresh_ttl: bool = True


class SearchOp(NamedTuple):
    """Read the items under a prefix that pass the filter, ranked by the query."""

    namespace_prefix: Namespace
    filter: Mapping[str, Any] | None = None
    limit: int = 10
    offset: int = 0
    query: str | None = None
    refresh_ttl: bool = True


class PutOp(NamedTuple):
    """Write one item, or delete it when the value is None."""

    namespace: Namespace
    key: str
    value: Mapping[str, Any] | None
    index: Literal[False] | Fields | None = None  # type: ignore[assignment]  # hides tuple.index; LangGraph's name
    ttl: float | None = None


class MatchCondition(NamedTuple):
    """How a namespace has to begin or to end; the label `*` stands for any."""

    match_type: Literal["prefix", "suffix"]
    path: Namespace


class ListNamespacesOp(NamedTuple):
    """Read which namespaces there are."""

    match_conditions: Sequence[MatchCondition] | None = None
    max_depth: int | None = None
    limit: int = 100
    offset: int = 0


Op: TypeAlias = GetOp | SearchOp | PutOp | ListNamespacesOp
Result: TypeAlias = Item | list[SearchItem] | list[Namespace] | None


class IndexConfig(TypedDict, total=False):
    """How texts become vectors. Without `fields` the whole value is one text."""

    dims: int
    embed: Any  # a function from texts to vectors, plain or async, or an object with `embed_documents`
    fields: Fields | None


class TTLConfig(TypedDict, total=False):
    """How long items live, in minutes, when `put` does not say, and whether reading prolongs it (it does)."""

    default_ttl: float | None
    refresh_on_read: bool


class _NotGiven(Enum):
    NOT_GIVEN = "NOT_GIVEN"


NOT_GIVEN: Final = _NotGiven.NOT_GIVEN
"""Stands for "as the store says", where None means "without end"."""


# The interface ---------------------------------------------------------------------------------------------------


class _Asking:
    """Stands in for a store while one of its methods says which operation it is; then `op` is it."""

    def __init__(self, store: BaseStore) -> None:
        self.ttl_config, self.supports_ttl = store.ttl_config, store.supports_ttl

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
    ttl_config: TTLConfig | None = None

    @abstractmethod
    def batch(self, ops: Iterable[Op]) -> list[Any]:
        """The answers to the operations, in their order. Reads see none of the batch's writes."""

    @abstractmethod
    async def abatch(self, ops: Iterable[Op]) -> list[Any]:
        """The same as `batch`, for an event loop."""

    def get(self, namespace: Namespace, key: str, *, refresh_ttl: bool | None = None) -> Item | None:
        """The item of that key, or None."""
        op = GetOp(_labels(namespace), str(key), _refresh(self.ttl_config, refresh_ttl))
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
        refresh = _refresh(self.ttl_config, refresh_ttl)
        op = SearchOp(_labels(namespace_prefix), filter, limit, offset, query, refresh)
        return cast("list[SearchItem]", self.batch([op])[0])

    def put(
        self,
        namespace: Namespace,
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | Fields | None = None,
        *,
        ttl: float | _NotGiven | None = NOT_GIVEN,
    ) -> None:
        """Keep a copy of `value`, in place of what had that key.

        `index` names the fields that are searched, False for none of them. `ttl` is in minutes, None for no end.
        """
        op = PutOp(_writable(namespace), str(key), value, index, _ttl(self, ttl))
        self.batch([op])

    def delete(self, namespace: Namespace, key: str) -> None:
        """Remove the item of that key, if there is one."""
        self.batch([PutOp(_labels(namespace), str(key), None)])

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
        conditions = [MatchCondition("prefix", _labels(prefix))] if prefix else []
        conditions += [MatchCondition("suffix", _labels(suffix))] if suffix else []
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


def _labels(namespace: Iterable[str]) -> Namespace:
    """The namespace, checked."""
    if isinstance(namespace, str):
        raise InvalidNamespaceError(f"a namespace is a tuple of labels; write ({namespace!r},) for {namespace!r}")
    labels = tuple(namespace)
    for label in labels:
        if not isinstance(label, str):
            raise InvalidNamespaceError(f"label {label!r} of namespace {labels} is not a str")
        if not label or "." in label or "\x00" in label:
            raise InvalidNamespaceError(f"label {label!r} of namespace {labels} is empty or contains a '.' or a NUL")
    return labels


def _writable(namespace: Iterable[str]) -> Namespace:
    labels = _labels(namespace)
    if not labels:
        raise InvalidNamespaceError("an item needs a namespace of at least one label, and this one is empty")
    if labels[0] == "langgraph":
        raise InvalidNamespaceError(f"namespace {labels} cannot be written: the first label 'langgraph' is reserved")
    return labels


def _refresh(config: TTLConfig | None, asked: bool | None) -> bool:
    return asked if asked is not None else (config or {}).get("refresh_on_read", True)


def _ttl(store: BaseStore, asked: float | _NotGiven | None) -> float | None:
    if isinstance(asked, _NotGiven):
        return (store.ttl_config or {}).get("default_ttl")
    if asked is not None and not store.supports_ttl:
        raise UsageError("this store cannot let items expire: its `supports_ttl` is False, so `ttl` has to be None")
    return asked


# Filters ---------------------------------------------------------------------------------------------------------

_ORDER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_OPERATORS: Final = ("$eq", "$ne", *_ORDER)


def _passes(value: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(_fits(value.get(key), want) for key, want in wanted.items())


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a part of a value is what the filter wants there."""
    if isinstance(wanted, Mapping):
        if any(str(key).startswith("$") for key in wanted):
            return all(_holds(value, name, operand) for name, operand in wanted.items())
        return isinstance(value, Mapping) and _passes(value, wanted)
    if isinstance(wanted, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(wanted) and all(map(_fits, value, wanted))
    return bool(value == wanted)


def _holds(value: Any, name: str, operand: Any) -> bool:
    if name == "$eq":
        return bool(value == operand)
    if name == "$ne":
        return bool(value != operand)
    left, right = _comparable(value, operand)
    try:
        return bool(_ORDER[name](left, right))
    except TypeError:  # a text and a number, or nothing at all: neither comes before the other
        return False


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Both as numbers where both are, also when they are written as text; else as they are."""
    try:
        return float(left), float(right)
    except (TypeError, ValueError, OverflowError):
        return left, right


def _check_filter(wanted: Any) -> None:
    """Raise `UsageError` for an operator that there is none of, before anything is compared."""
    if not isinstance(wanted, Mapping):
        return
    operators = any(str(key).startswith("$") for key in wanted)
    for key, want in wanted.items():
        if operators and key not in _OPERATORS:
            raise UsageError(
                f"a filter has no operator {key!r}{did_you_mean(str(key), _OPERATORS)}",
                hint=f"the operators are {', '.join(_OPERATORS)}, and they do not mix with names of keys",
            )
        _check_filter(want)


# Fields and their texts ------------------------------------------------------------------------------------------

_STEP: Final = re.compile(r"\[[^\]]*\]|\{[^}]*\}|[^.\[\]{}]+")
_WORD: Final = re.compile(r"\w+")


@functools.lru_cache(maxsize=512)
def _steps(path: str) -> tuple[str, ...]:
    """The steps of a path: a key, `[0]`, `[-1]`, `[*]`, `*` or `{key,other.key}`. `$` is the whole value."""
    return tuple(step for step in _STEP.findall(path) if step != "$")


def _at(value: Any, steps: tuple[str, ...]) -> Iterator[Any]:
    """What stands at a path, each thing on its own; nothing where the path leads nowhere."""
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if step.startswith("{"):
        for path in step[1:-1].split(","):
            yield from _at(value, _steps(path.strip()) + rest)
    else:
        for part in _parts(value, step):
            yield from _at(part, rest)


def _parts(value: Any, step: str) -> Iterable[Any]:
    if isinstance(value, Mapping):
        if step == "*":
            return value.values()
        return (value[step],) if step in value else ()
    if not isinstance(value, list | tuple):
        return ()
    if step in ("*", "[*]"):
        return value
    place = int(step[1:-1]) if re.fullmatch(r"\[-?\d+\]", step) else len(value)
    return (value[place],) if -len(value) <= place < len(value) else ()


def _found(value: Any, fields: Fields) -> list[Any]:
    return [part for path in fields for part in _at(value, _steps(path)) if part is not None]


def _text(part: Any) -> str:
    """What is embedded: a text or a number as it is, anything else as JSON."""
    if isinstance(part, str | int | float):
        return str(part)
    return json.dumps(part, sort_keys=True, ensure_ascii=False, default=str)


def _words(part: Any) -> Iterator[str]:
    """The words in a value, without the names of its keys."""
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, list | tuple):
        for inner in part:
            yield from _words(inner)
    elif part is not None:
        yield from _WORD.findall(str(part).casefold())


# Ranking ---------------------------------------------------------------------------------------------------------


def _unit(vector: Vector) -> list[float]:
    """The vector at length 1, so that a product is a cosine; one of length 0 is like nothing."""
    numbers = [float(number) for number in vector]
    length = math.hypot(*numbers)
    return [number / length for number in numbers] if length else numbers


def _nearest(query: Vector, vectors: Collection[Vector]) -> float | None:
    return max((sum(map(operator.mul, query, vector)) for vector in vectors), default=None)


def _word_scores(query: str, texts: Sequence[Collection[str]]) -> list[float | None]:
    """For each text, the share of the query's weight that its words have; None for none of it."""
    asked = sorted(set(_WORD.findall(query.casefold())))
    hits = [[_hit(word, text) for text in texts] for word in asked]
    weights = [math.log1p(len(texts) / max(1, sum(map(bool, row)))) for row in hits]
    total = sum(weights)
    sums = [sum(map(operator.mul, weights, column)) for column in zip(*hits, strict=True)] or [0.0] * len(texts)
    return [found / total if found else None for found in sums]


def _hit(word: str, text: Collection[str]) -> float:
    if word in text:
        return 1.0
    return 0.5 if len(word) >= 3 and any(other.startswith(word) for other in text) else 0.0


# Embedding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Vectors by text. A model may embed a question differently from what answers it."""

    documents: Mapping[str, Vector] = field(default_factory=dict)
    queries: Mapping[str, Vector] = field(default_factory=dict)


class _Embedder:
    """Turns texts into vectors of length 1, with whatever the user gave for it."""

    def __init__(self, config: IndexConfig) -> None:
        source = config.get("embed")
        documents = getattr(source, "embed_documents", source)
        if not callable(documents):
            raise UsageError(
                f"index['embed'] is {source!r:.60}, which cannot embed",
                hint="give a function from a list of texts to a list of vectors, or an object with `embed_documents`",
            )
        self._documents: Embed = documents
        self._adocuments: Embed = getattr(source, "aembed_documents", documents)
        self._query: Embed | None = getattr(source, "embed_query", None)
        self._aquery: Embed | None = getattr(source, "aembed_query", self._query)
        self.dims = config.get("dims")
        self.fields: Fields = config.get("fields") or ("$",)

    def embed(self, documents: list[str], queries: list[str]) -> _Vectors:
        return _Vectors(
            self._checked(documents, _finished(self._documents(documents)) if documents else []),
            self._checked(queries, self._queries(queries)),
        )

    async def aembed(self, documents: list[str], queries: list[str]) -> _Vectors:
        return _Vectors(
            self._checked(documents, await _waited(self._adocuments, documents) if documents else []),
            self._checked(queries, await self._aqueries(queries)),
        )

    def _queries(self, queries: list[str]) -> Sequence[Vector]:
        if self._query is not None:
            return [_finished(self._query(query)) for query in queries]
        return _finished(self._documents(queries)) if queries else []

    async def _aqueries(self, queries: list[str]) -> Sequence[Vector]:
        if self._aquery is not None:
            return [await _waited(self._aquery, query) for query in queries]
        return await _waited(self._adocuments, queries) if queries else []

    def _checked(self, texts: list[str], vectors: Sequence[Vector]) -> Mapping[str, Vector]:
        if len(texts) != len(vectors):
            raise UsageError(f"index['embed'] gave {len(vectors)} vectors for {len(texts)} texts")
        for text, vector in zip(texts, vectors, strict=True):
            self.dims = self.dims or len(vector)
            if len(vector) != self.dims:
                raise UsageError(
                    f"index['embed'] gave {len(vector)} numbers for {text!r:.60}, and the index has {self.dims}",
                    hint="index['dims'] is the length of the vectors that your model makes",
                )
        return {text: _unit(vector) for text, vector in zip(texts, vectors, strict=True)}


def _finished(answer: Any) -> Any:
    """The answer of an embedding function, also of an async one."""
    if not inspect.isawaitable(answer):
        return answer
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_outcome(answer))
    if inspect.iscoroutine(answer):
        answer.close()
    raise SyncInLoopError(
        "this store embeds with an async function, and an event loop is running in this thread",
        hint="await `aput`, `asearch` or `abatch` instead",
    )


async def _outcome(answer: Awaitable[R]) -> R:
    return await answer


async def _waited(function: Callable[[Any], Any], argument: Any) -> Any:
    """The answer of an embedding function; one that blocks does so in a thread, since it may ask a server."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return await function(argument)
    answer = await asyncio.to_thread(function, argument)
    return await answer if inspect.isawaitable(answer) else answer


# The store -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """One item as it is kept. `value` is the store's own and never changed, so it can be copied without the lock."""

    item: Item
    searched: Sequence[Any]  # the parts of the value that a query is compared with
    vectors: Collection[Vector]
    ttl: timedelta | None
    expires: datetime | None
    due: datetime | None = None  # when the heap will look at it: at `expires`, or before it was prolonged
    words: frozenset[str] | None = None  # made when first needed

    def refresh(self, now: datetime) -> None:
        self.expires = now + self.ttl if self.ttl is not None else None

    def vocabulary(self) -> frozenset[str]:
        if self.words is None:
            self.words = frozenset(_words(list(self.searched)))
        return self.words


@dataclass(frozen=True, slots=True)
class _Put:
    """A write that has been checked: the store's own copy of the value, and what a search will look at."""

    op: PutOp
    value: Value
    searched: Sequence[Any]
    ttl: timedelta | None

    @property
    def texts(self) -> list[str]:
        return [_text(part) for part in self.searched]


_Step: TypeAlias = GetOp | SearchOp | ListNamespacesOp | PutOp | _Put


def utc_now() -> datetime:
    return datetime.now(UTC)


class InMemoryStore(BaseStore):
    """A store that ends with the process.

    `index={"dims": 384, "embed": function, "fields": ["text"]}` makes searches compare meanings,
    `ttl={"default_ttl": 60, "refresh_on_read": True}` lets items expire, and `clock` says what time it is, with a zone.
    """

    __slots__ = ("_clock", "_due", "_embedder", "_lock", "_rows", "ttl_config")

    supports_ttl = True

    def __init__(
        self, *, index: IndexConfig | None = None, ttl: TTLConfig | None = None, clock: Clock = utc_now
    ) -> None:
        self.ttl_config = ttl
        self._embedder = _Embedder(index) if index else None
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[Namespace, dict[str, _Row]] = {}
        self._due: list[tuple[datetime, Namespace, str]] = []

    def batch(self, ops: Iterable[Op]) -> list[Any]:
        steps = [self._prepared(op) for op in ops]
        vectors = self._embedder.embed(*_needed(steps)) if self._embedder else _Vectors()
        return _copies(self._apply(steps, vectors))

    async def abatch(self, ops: Iterable[Op]) -> list[Any]:
        steps = [self._prepared(op) for op in ops]
        vectors = await self._embedder.aembed(*_needed(steps)) if self._embedder else _Vectors()
        if any(isinstance(step, SearchOp) for step in steps):  # it looks at every item, which may take a while
            return await asyncio.to_thread(lambda: _copies(self._apply(steps, vectors)))
        return _copies(self._apply(steps, vectors))

    # Everything above the lock: what can be wrong with an operation is found before any of the batch is done.

    def _prepared(self, op: Op) -> _Step:
        match op:
            case GetOp():
                return op._replace(namespace=_labels(op.namespace))
            case PutOp():
                op = op._replace(namespace=_labels(op.namespace))
                return op if op.value is None else self._prepared_put(op)
            case SearchOp():
                _check_window(op)
                _check_filter(op.filter)
                return op._replace(namespace_prefix=_labels(op.namespace_prefix))
            case ListNamespacesOp():
                _check_window(op)
                return op._replace(match_conditions=tuple(map(_checked_condition, op.match_conditions or ())))
        raise UsageError(f"{op!r:.100} is no operation of a store")

    def _prepared_put(self, op: PutOp) -> _Put:
        value = _own_value(op)
        default = self._embedder.fields if self._embedder else ("$",)
        searched = [] if op.index is False else _found(value, default if op.index is None else op.index)
        return _Put(op, value, searched, _time_to_live(op))

    # Everything below holds the lock.

    def _apply(self, steps: Sequence[_Step], vectors: _Vectors) -> list[Result]:
        now = self._clock()
        with self._lock:
            self._sweep(now)
            answers = [self._read(step, vectors, now) for step in steps]
            for step in steps:
                self._write(step, vectors, now)
        return answers

    def _read(self, step: _Step, vectors: _Vectors, now: datetime) -> Result:
        match step:
            case GetOp():
                row = self._rows.get(step.namespace, {}).get(step.key)
                if row is not None and step.refresh_ttl:
                    row.refresh(now)
                return row.item if row else None
            case SearchOp():
                return self._search(step, vectors, now)
            case ListNamespacesOp():
                return _listed(self._rows, step)
        return None

    def _search(self, op: SearchOp, vectors: _Vectors, now: datetime) -> list[SearchItem]:
        rows = [row for row in self._under(op.namespace_prefix) if _passes(row.item.value, op.filter or {})]
        ranked = _ranked(rows, self._scores(op.query, rows, vectors) if op.query else [None] * len(rows))
        window = ranked[op.offset : op.offset + op.limit]
        if op.refresh_ttl:
            for row, _ in window:
                row.refresh(now)
        return [_scored(row.item, score) for row, score in window]

    def _under(self, prefix: Namespace) -> Iterator[_Row]:
        for namespace, rows in self._rows.items():
            if namespace[: len(prefix)] == prefix:
                yield from rows.values()

    def _scores(self, query: str, rows: Sequence[_Row], vectors: _Vectors) -> list[float | None]:
        if self._embedder is None:
            return _word_scores(query, [row.vocabulary() for row in rows])
        return [_nearest(vectors.queries[query], row.vectors) for row in rows]

    def _write(self, step: _Step, vectors: _Vectors, now: datetime) -> None:
        if isinstance(step, _Put):
            self._keep(step, [vectors.documents[text] for text in step.texts] if self._embedder else [], now)
        elif isinstance(step, PutOp):
            self._drop(step.namespace, step.key)

    def _keep(self, put: _Put, vectors: Collection[Vector], now: datetime) -> None:
        namespace, key = put.op.namespace, put.op.key
        rows = self._rows.setdefault(namespace, {})
        created = rows[key].item.created_at if key in rows else now
        row = _Row(Item(namespace, key, put.value, created, now), put.searched, vectors, put.ttl, None)
        row.refresh(now)
        rows[key] = row
        self._watch(row)

    def _drop(self, namespace: Namespace, key: str) -> None:
        rows = self._rows.get(namespace, {})
        rows.pop(key, None)
        if not rows:
            self._rows.pop(namespace, None)

    def _watch(self, row: _Row) -> None:
        row.due = row.expires
        if row.due is not None:
            heapq.heappush(self._due, (row.due, row.item.namespace, row.item.key))

    def _sweep(self, now: datetime) -> None:
        """Drop what has expired. A row that was read meanwhile has been prolonged, and is looked at again later."""
        while self._due and self._due[0][0] <= now:
            due, namespace, key = heapq.heappop(self._due)
            row = self._rows.get(namespace, {}).get(key)
            if row is None or row.due != due:  # deleted or put again since
                continue
            if row.expires is not None and row.expires <= now:
                self._drop(namespace, key)
            else:
                self._watch(row)


def _needed(steps: Iterable[_Step]) -> tuple[list[str], list[str]]:
    """The texts to embed, each once: those of what is put, and the queries."""
    documents = {text: None for step in steps if isinstance(step, _Put) for text in step.texts}
    queries = {step.query: None for step in steps if isinstance(step, SearchOp) and step.query}
    return list(documents), list(queries)


def _ranked(rows: Sequence[_Row], scores: Sequence[float | None]) -> list[tuple[_Row, float | None]]:
    """Best first; those without a score last. Equals keep their order."""
    return sorted(
        zip(rows, scores, strict=True), key=lambda pair: -math.inf if pair[1] is None else pair[1], reverse=True
    )


def _scored(item: Item, score: float | None) -> SearchItem:
    return SearchItem(item.namespace, item.key, item.value, item.created_at, item.updated_at, score)


def _listed(namespaces: Iterable[Namespace], op: ListNamespacesOp) -> list[Namespace]:
    matching = {
        namespace[: op.max_depth]
        for namespace in namespaces
        if all(_matches(namespace, condition) for condition in op.match_conditions or ())
    }
    return sorted(matching)[op.offset : op.offset + op.limit]


def _matches(namespace: Namespace, condition: MatchCondition) -> bool:
    path = condition.path
    start = 0 if condition.match_type == "prefix" else len(namespace) - len(path)
    part = namespace[start : start + len(path)]
    return len(part) == len(path) and all(want in ("*", label) for want, label in zip(path, part, strict=True))


def _checked_condition(condition: MatchCondition) -> MatchCondition:
    if condition.match_type not in ("prefix", "suffix"):
        raise UsageError(f"namespaces match by 'prefix' or 'suffix', not by {condition.match_type!r}")
    return condition._replace(path=_labels(condition.path))


def _check_window(op: SearchOp | ListNamespacesOp) -> None:
    for name in ("limit", "offset"):
        if getattr(op, name) < 0:
            raise UsageError(f"{name}={getattr(op, name)} is negative; it counts what is returned or skipped")


def _own_value(op: PutOp) -> Value:
    where = f"item {op.key!r} of namespace {op.namespace}"
    if not isinstance(op.value, Mapping):
        raise UsageError(f"the value of {where} is no dictionary: {op.value!r:.100}", hint="write {'value': ...}")
    try:
        return copy.deepcopy(dict(op.value))
    except TypeError as error:
        raise NotStorableError(f"{where} cannot be kept, because it cannot be copied: {error}") from error


def _time_to_live(op: PutOp) -> timedelta | None:
    if op.ttl is None:
        return None
    if not 0 < op.ttl < math.inf:
        raise UsageError(f"ttl={op.ttl} of item {op.key!r} is no time to live", hint="minutes, or None for no end")
    return timedelta(minutes=op.ttl)


def _copies(answers: Iterable[Result]) -> list[Any]:
    return [_copied(answer) for answer in answers]


def _copied(answer: Result) -> Result:
    if isinstance(answer, Item):
        return replace(answer, value=copy.deepcopy(answer.value))
    if isinstance(answer, list):
        return [_copied(entry) if isinstance(entry, Item) else entry for entry in answer]  # type: ignore[return-value]
    return answer
