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
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import CodeType, FunctionType, ModuleType
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
_LOOKED_AT: Final = (*_DATA, type, enum.Enum)
_INNER: Final = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>"})
_NEVER: Final = ("CALL_FUNCTION_EX", "IMPORT_", "PUSH_NULL", "BEFORE_", "LOAD_BUILD_CLASS", "LOAD_SUPER", "SETUP_")
_CHANGES: Final = ("STORE_SUBSCR", "STORE_SLICE", "STORE_ATTR", "STORE_GLOBAL", "DELETE_SUBSCR", "DELETE_ATTR")
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
    return _quick(function.__code__, function.__globals__, held)


def only_looks(function: Callable[..., Any]) -> bool:
    """Whether quick code certainly changes nothing of what it is given; then it needs no copy of its own."""
    return isinstance(function, FunctionType) and _only_looks(function.__code__)


def _only_looks(code: CodeType) -> bool:
    for each in dis.get_instructions(code):
        in_place = each.opname == "BINARY_OP" and each.argrepr.endswith("=")  # `+=` changes a list, and may change one
        if in_place or each.opname in _CHANGES:
            return False
    return all(_only_looks(const) for const in code.co_consts if isinstance(const, CodeType))


def _quick(code: CodeType, known: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """Whether code calls nothing that could wait; `known` are the values of global names, `held` of those around it."""
    if len(code.co_code) > _LONGEST:
        return False
    instructions = list(dis.get_instructions(code))
    heads = {each.offset for each in instructions if each.opname == "FOR_ITER"}
    for each, following in pairwise(instructions):  # the last one only returns
        name, what = each.opname, each.argval
        if name.startswith("LOAD_GLOBAL"):
            harmless = _known(what, known, following, called=bool((each.arg or 0) & 1))
        elif name == "LOAD_DEREF" and what in held:
            harmless = _is_data(held[what], following)
        elif name == "LOAD_METHOD" or (name == "LOAD_ATTR" and _is_method(each)):
            harmless = what in _METHODS
        else:
            harmless = what in heads if "BACKWARD" in name else not name.startswith(_NEVER)
        if not harmless:
            return False
    nested = [const for const in code.co_consts if isinstance(const, CodeType)]
    return all(each.co_name in _INNER and _quick(each, known, held) for each in nested)


def _is_method(instruction: dis.Instruction) -> bool:
    """Whether an attribute is loaded to be called, which Python says in the same instruction from 3.12 on."""
    return "NULL" in instruction.argrepr


def _known(name: str, known: Mapping[str, Any], following: dis.Instruction, *, called: bool) -> bool:
    """Whether a global name stands for what can be had, or called, at once."""
    if name not in known:
        return name in _BUILTINS and hasattr(builtins, name) if called else hasattr(builtins, name)
    if called:
        return known[name] is Send or known[name] is Command
    return _is_data(known[name], following)


def _is_data(value: Any, following: dis.Instruction) -> bool:
    """Whether a value is there to be looked at; of a module, what is loaded from it next."""
    if isinstance(value, ModuleType):
        return following.opname == "LOAD_ATTR" and isinstance(getattr(value, following.argval, None), _LOOKED_AT)
    return isinstance(value, _LOOKED_AT)
