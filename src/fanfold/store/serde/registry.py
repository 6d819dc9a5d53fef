"""The classes that stored values may be of, each under the name that the bytes bring along.

A record can name a class, and only one that is in a table here: a name is looked up, never imported. Three tables
answer, in this order: the codec's own, filled when its graph is compiled; that of a store which does not outlive the
process, where each class is registered as it is written; and one for the whole process, `register_type`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

from fanfold.errors import UsageError
from fanfold.store.serde.annotations import classes_in
from fanfold.store.serde.classes import Shape, shape_of
from fanfold.store.serde.places import short, type_name

_Class = TypeVar("_Class", bound=type)


class Types:
    """A table of classes, with those that stand behind it."""

    def __init__(self, behind: Types | None = None) -> None:
        self.written: dict[type, tuple[str, Shape]] = {}
        self.read: dict[str, Shape] = {}
        self._behind = behind
        self._learned: Types | None = None

    def register(self, cls: type, name: str | None = None) -> None:
        """Let values of exactly this class be stored, as `name`; see `Codec.register`."""
        shape = shape_of(cls)
        if shape is None:
            named = cls if isinstance(cls, type) else type(cls)
            raise UsageError(
                f"cannot register {type_name(named)}: only enums, dataclasses, pydantic models, NamedTuples and"
                " subclasses of str, int, float and bytes have a stored form"
            )
        stored = name or type_name(cls)
        other = self.read.get(stored)
        if other is not None and not _same(other.cls, cls):
            raise UsageError(f"cannot register {type_name(cls)} as {stored!r}: {type_name(other.cls)} has that name")
        if name is not None or cls not in self.written:  # a chosen name outlives a later call without one
            self.written[cls] = (stored, shape)
        self.read[stored] = shape

    def register_from(self, annotation: Any) -> None:
        """Register every storable class that a type annotation names, however deep: its fields' types too."""
        for cls in classes_in(annotation):
            if shape_of(cls) is not None:
                self.register(cls)

    def learning(self, learned: Types | None) -> Types:
        """This table, also as it is filled later, which registers in `learned` whatever class it is asked to write."""
        types = Types(self._behind)
        types.written, types.read, types._learned = self.written, self.read, learned
        return types

    def entry(self, cls: type) -> tuple[str, Shape] | None:
        """The stored name and shape of a class. Raises `ValueError` where that name would be read as another class."""
        if cls in self.written:
            return self.written[cls]
        found = next((types.written[cls] for types in self._tables() if cls in types.written), None)
        if found is None and self._learned is not None and (shape := shape_of(cls)) is not None:
            self._learned.register(cls)
            found = (type_name(cls), shape)
        if found is not None and not _same(self.shape(found[0]).cls, cls):
            other = type_name(self.shape(found[0]).cls)
            raise ValueError(f"it is registered as {found[0]!r}, and so is {other}; give one of them another name")
        return found

    def shape(self, name: Any) -> Shape:
        """The shape of the class that is stored under a name. Raises `ValueError` for any other name."""
        for types in self._tables() if type(name) is str else ():
            if name in types.read:
                return types.read[name]
        raise ValueError(f"no class is registered as {short(name)}")

    def _tables(self) -> Iterator[Types]:
        yield self
        if self._learned is not None:
            yield self._learned
        if self._behind is not None:
            yield self._behind


def _same(one: type, other: type) -> bool:
    """Whether they are one class, or an older and a newer form of it, as when a notebook's cell runs again."""
    return one is other or type_name(one) == type_name(other)


SHARED: Final = Types()
"""What all codecs of this process know."""


def register_type(cls: _Class, name: str | None = None) -> _Class:
    """Let values of `cls` be part of any graph's stored state; for classes that no annotation of the state names.

    It is stored as `name`, else as its module and qualified name. Returns the class, so that it can stand above one
    as a decorator. Raises `UsageError` for a class whose values are not plain data, and for a name that is taken.
    """
    SHARED.register(cls, name)
    return cls
