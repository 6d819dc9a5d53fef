"""Which code is so small that it need not leave the event loop: it calls nothing that could wait.

A blocking function is called in a thread, because it may sleep, ask a server, or wait for an agent. The way there and
back costs as much as a whole step, and most conditional edges, and many nodes, only look something up and decide:
`lambda state: "again" if state["left"] else END`. That can be seen in their bytecode. What counts is what is called:
builtins and methods of plain values, and no functions, modules or objects of anybody else's; and that loops go over
something that is there, which ends when the state does.
"""

from __future__ import annotations

import builtins
import dis
import enum
import inspect
from collections.abc import Callable, Collection, Mapping
from types import CodeType, FunctionType
from typing import Any, Final

from fanfold.types import Command, Send

_OF_BUILTINS: Final = """
abs all any bool dict enumerate float frozenset getattr hasattr int isinstance issubclass len list max min reversed
round set sorted str sum tuple type zip
"""
_OF_METHODS: Final = """
casefold copy count difference endswith get index intersection isdigit issubset items join keys lower lstrip partition
removeprefix removesuffix replace rstrip split splitlines startswith strip title union upper values
"""
_BUILTINS: Final = frozenset(_OF_BUILTINS.split())
_METHODS: Final = frozenset(_OF_METHODS.split())
_DATA: Final = (str, int, float, bool, bytes, type(None), tuple, frozenset, list, dict, set)
_INNER: Final = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>"})
_NEVER: Final = ("CALL_FUNCTION_EX", "IMPORT_", "PUSH_NULL", "BEFORE_", "LOAD_BUILD_CLASS", "LOAD_SUPER", "SETUP_")
_LONGEST: Final = 1000
"""Bytes of code beyond which nobody looks."""


def is_quick(function: Callable[..., Any]) -> bool:
    """Whether a function certainly calls nothing that could wait. False when that cannot be seen."""
    if not isinstance(function, FunctionType) or inspect.iscoroutinefunction(function):
        return False
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return False
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    try:
        held = {name: cell.cell_contents for name, cell in cells}
    except ValueError:  # one that has no value yet
        return False
    return all(isinstance(value, _DATA) for value in held.values()) and _quick(function.__code__, function.__globals__)


def _quick(code: CodeType, known: Mapping[str, Any]) -> bool:
    if len(code.co_code) > _LONGEST:
        return False
    instructions = list(dis.get_instructions(code))
    heads = {each.offset for each in instructions if each.opname == "FOR_ITER"}
    if not all(_harmless(each, known, heads) for each in instructions):
        return False
    nested = [const for const in code.co_consts if isinstance(const, CodeType)]
    return all(each.co_name in _INNER and _quick(each, known) for each in nested)


def _harmless(instruction: dis.Instruction, known: Mapping[str, Any], heads: Collection[int]) -> bool:
    name, what = instruction.opname, instruction.argval
    if name.startswith("LOAD_GLOBAL"):
        called = bool((instruction.arg or 0) & 1)
        return _known(what, known, called=called)
    if name == "LOAD_METHOD" or (name == "LOAD_ATTR" and _is_method(instruction)):
        return what in _METHODS
    if "BACKWARD" in name:
        return what in heads
    return not name.startswith(_NEVER)


def _is_method(instruction: dis.Instruction) -> bool:
    """Whether an attribute is loaded to be called, which Python says in the same instruction from 3.12 on."""
    return "NULL" in instruction.argrepr


def _known(name: str, known: Mapping[str, Any], *, called: bool) -> bool:
    """Whether a global name stands for what can be had, or called, at once."""
    if name not in known:
        return name in _BUILTINS and hasattr(builtins, name) if called else hasattr(builtins, name)
    value = known[name]
    if called:
        return value is Send or value is Command
    return isinstance(value, (*_DATA, type, enum.Enum))
