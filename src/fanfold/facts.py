"""Facts: values of which a run makes many, and which nobody changes afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, eq_default=True)
def fact(cls: type[T]) -> type[T]:
    """A dataclass with slots that is frozen for whoever checks types, and not at run time.

    A frozen dataclass sets each field through `object.__setattr__`, and takes three times as long to make; a task of a
    graph makes half a dozen.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
