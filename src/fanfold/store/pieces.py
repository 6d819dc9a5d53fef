"""How a value of another engine is taken apart, so that what stays the same is stored once.

The other engine's serializer turns a value into a kind and bytes, and back; we do not look inside. What we do look at
is how plain lists and dictionaries are put together: a list of messages becomes the messages, one after the other, so
that a list which has grown by one is stored as the one. A value becomes a *node*::

    bytes                      the digest of a piece, which is stored once a thread
    [kind, bytes]              what the serializer made of it; no kind is "msgpack"
    [0, node, node, ...]       a list; ["*", bytes] among them is a run of several small elements
    {name: node, ...}          a dictionary

Only the outermost list is taken apart, or the lists in the outermost dictionary: that is how updates and states look,
and what is deeper is rarely changed in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, TypeAlias

from fanfold.errors import CorruptRecordError, NotStorableError

Node: TypeAlias = Any
Leaf: TypeAlias = list[Any]

SMALL: Final = 192
"""Bytes up to which something is stored where it is used: a piece of its own takes about as many besides."""
RUN: Final = 64
"""Small elements of a list that are stored together, at most."""
_LIST: Final = 0
_RUN: Final = "*"
_SCALARS: Final = frozenset({int, float, bool, type(None)})
_MOST_NAMES: Final = 64


@dataclass(slots=True)
class Taking:
    """Takes values apart, and gathers the pieces by their digests. Without `apart`, a value is one piece at most."""

    dumps: Callable[[Any], tuple[str, bytes]]
    digest: Callable[[bytes], bytes]
    apart: bool
    pieces: dict[bytes, Leaf] = field(default_factory=dict)

    def node(self, value: Any) -> Node:
        """The node of a value. Raises `NotStorableError` for what only pickle can store."""
        if self.apart and type(value) is dict and _has_names(value):
            return {name: self._list(each) if type(each) is list else self._leaf(each) for name, each in value.items()}
        return self._list(value) if self.apart and type(value) is list else self._leaf(value)

    def whole(self, value: Any) -> Leaf:
        """The node of a value that is to be stored where it is used, however large it is."""
        kind, data = self._dumped(value)
        return ["" if kind == "msgpack" else kind, data]

    def _list(self, values: list[Any]) -> Node:
        node: list[Any] = [_LIST]
        for (small, _), group in groupby(enumerate(values), _kind):
            elements = [element for _, element in group]
            if small:
                node.append([_RUN, self._dumped(elements)[1]])
            else:
                node += map(self._leaf, elements)
        return node

    def _leaf(self, value: Any) -> Node:
        leaf = self.whole(value)
        kind, data = leaf
        if len(data) <= SMALL:
            return leaf
        digest = self.digest(kind.encode() + b"\0" + data)
        self.pieces[digest] = leaf
        return digest

    def _dumped(self, value: Any) -> tuple[str, bytes]:
        kind, data = self.dumps(value)
        if kind.startswith("pickle"):
            raise NotStorableError(
                f"a {type(value).__module__}.{type(value).__qualname__} could only be pickled, and no pickle is stored",
                hint="make it plain data, a dataclass or a pydantic model",
            )
        return kind, bytes(data)


def put_together(loads: Callable[[tuple[str, bytes]], Any], node: Node, pieces: Mapping[bytes, Leaf]) -> Any:
    """The value of a node, with these pieces."""
    if isinstance(node, dict):
        return {name: put_together(loads, each, pieces) for name, each in node.items()}
    if isinstance(node, bytes):
        node = pieces[node]
    kind, *rest = node
    if kind != _LIST:
        return _loaded(loads, kind, rest[0])
    values: list[Any] = []
    for each in rest:
        if isinstance(each, list) and each[0] == _RUN:
            values += _loaded(loads, "", each[1])
        else:
            values.append(put_together(loads, each, pieces))
    return values


def digests(nodes: Iterable[Node]) -> Iterator[bytes]:
    """The digests of the pieces that these nodes are made of."""
    for node in nodes:
        if isinstance(node, bytes):
            yield node
        elif isinstance(node, dict):
            yield from digests(node.values())
        elif node[0] == _LIST:
            yield from (each for each in node[1:] if isinstance(each, bytes))


def grown(old: Node, new: Node) -> int:
    """How many nodes at its beginning a list has in common with an older one; 0 where either is no list."""
    if not (isinstance(old, list) and isinstance(new, list) and old[0] == _LIST == new[0]):
        return 0
    if old == new[: len(old)]:  # nearly always
        return len(old)
    return next((place for place, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), len(new))


def _loaded(loads: Callable[[tuple[str, bytes]], Any], kind: str, data: bytes) -> Any:
    if kind.startswith("pickle"):
        raise CorruptRecordError("a stored value is a pickle, which nothing here writes and nothing here reads")
    return loads((kind or "msgpack", data))


def _kind(place: tuple[int, Any]) -> tuple[bool, int]:
    """Whether an element is small, and if so of which run it is: these begin at fixed places, so a full one stays."""
    index, element = place
    small = type(element) in _SCALARS or (type(element) is str and len(element) < RUN)
    return small, index // RUN if small else 0


def _has_names(value: Mapping[Any, Any]) -> bool:
    return 0 < len(value) <= _MOST_NAMES and all(type(name) is str for name in value)
