"""Texts as vectors, and how near two of them are."""

from __future__ import annotations

import asyncio
import inspect
import math
import operator
from array import array
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from fanfold.errors import SyncInLoopError, UsageError
from fanfold.memory.ops import EVERYTHING, Fields, IndexConfig

R = TypeVar("R")
Vector: TypeAlias = Sequence[float]
Embed: TypeAlias = Callable[[Any], Any]


def unit(vector: Vector) -> Vector:
    """The vector at length 1, so that a product is a cosine; one of length 0 is like nothing.

    In single precision, as every database keeps it, so that scores are the same wherever it was kept.
    """
    numbers = [float(number) for number in vector]
    length = math.hypot(*numbers)
    return array("f", [number / length for number in numbers] if length else numbers)


def nearest(query: Vector, vectors: Collection[Vector]) -> float | None:
    """The cosine between a query's vector and the nearest of these; None without any."""
    return max((sum(map(operator.mul, query, vector)) for vector in vectors), default=None)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors by text. A model may embed a question differently from what answers it."""

    documents: Mapping[str, Vector] = field(default_factory=dict)
    queries: Mapping[str, Vector] = field(default_factory=dict)


class Embedder:
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
        self.fields: Fields = config.get("fields") or EVERYTHING

    def embed(self, documents: list[str], queries: list[str]) -> Vectors:
        return Vectors(
            self._checked(documents, _finished(self._documents(documents)) if documents else []),
            self._checked(queries, self._queries(queries)),
        )

    async def aembed(self, documents: list[str], queries: list[str]) -> Vectors:
        return Vectors(
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
            if not all(map(math.isfinite, vector)):
                raise UsageError(f"index['embed'] gave a number for {text!r:.60} that is not finite")
        return {text: unit(vector) for text, vector in zip(texts, vectors, strict=True)}


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
