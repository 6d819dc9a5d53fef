"""Which code is so small that it need not leave the event loop: it calls nothing that could wait.

A blocking function is called in a thread, because it may sleep, ask a server, or wait for an agent. The way there and
back costs as much as a whole step, and most conditional edges, and many nodes, only look something up and decide:
`lambda state: "again" if state["left"] else END`. That can be seen in their bytecode. What counts is what is called:
builtins, and methods of the state itself and of texts that stand in the code, but none of what the state holds, which
may be a queue; no functions, modules or objects of anybody else's; and that loops go over something that is there,
which ends when the state does.
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
casefold count endswith get index isdigit items join keys lower lstrip partition removeprefix removesuffix replace
rstrip split splitlines startswith strip title upper values
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


def quick_for(function: Callable[..., Any]) -> type | None:
    """Given what a function certainly calls nothing that could wait: `dict`, or any `object`. None if it may wait."""
    if not isinstance(function, FunctionType) or inspect.iscoroutinefunction(function):
        return None
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return None
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    try:
        held = {name: cell.cell_contents for name, cell in cells}
    except ValueError:  # one that has no value yet
        return None
    state = _state(function.__code__)
    if not _quick(function.__code__, function.__globals__, held, state):
        return None
    return dict if state and _asks(function.__code__, state) else object


def _state(code: CodeType) -> str:
    """The name of the first parameter, if that stands for the same all the time."""
    first = code.co_varnames[0] if code.co_argcount else ""
    for each in dis.get_instructions(code):
        names = each.argval if isinstance(each.argval, tuple) else (each.argval,)
        if each.opname.startswith(("STORE_", "DELETE_")) and first in names:
            return ""
    return first


def _asks(code: CodeType, state: str) -> bool:
    """Whether methods of the state are called."""
    return any(_of(before, state) and _is_method(each) for before, each in pairwise(dis.get_instructions(code)))


def _of(before: dis.Instruction, state: str) -> bool:
    """Whether what a method is of, as the instruction before says, is the state."""
    return before.opname == "LOAD_FAST" and before.argval == state


def only_looks(function: Callable[..., Any]) -> bool:
    """Whether quick code certainly changes nothing of what it is given; then it needs no copy of its own."""
    return isinstance(function, FunctionType) and _only_looks(function.__code__)


def _only_looks(code: CodeType) -> bool:
    for each in dis.get_instructions(code):
        in_place = each.opname == "BINARY_OP" and each.argrepr.endswith("=")  # `+=` changes a list, and may change one
        if in_place or each.opname in _CHANGES:
            return False
    return all(_only_looks(const) for const in code.co_consts if isinstance(const, CodeType))


def _quick(code: CodeType, known: Mapping[str, Any], held: Mapping[str, Any], state: str = "") -> bool:
    """Whether code calls nothing that could wait; `known` are the values of global names, `held` of those around it."""
    if len(code.co_code) > _LONGEST:
        return False
    instructions = list(dis.get_instructions(code))
    heads = {each.offset for each in instructions if each.opname == "FOR_ITER"}
    before = instructions[0]
    for each, following in pairwise(instructions):  # the last one only returns
        name, what = each.opname, each.argval
        if name.startswith("LOAD_GLOBAL"):
            harmless = _known(what, known, following, called=bool((each.arg or 0) & 1))
        elif name == "LOAD_DEREF" and what in held:
            harmless = _is_data(held[what], following)
        elif _is_method(each):
            text = before.opname.startswith("LOAD_CONST") and isinstance(before.argval, str)
            harmless = what in _METHODS and (text or (state != "" and _of(before, state)))
        else:
            harmless = what in heads if "BACKWARD" in name else not name.startswith(_NEVER)
        if not harmless:
            return False
        before = each
    nested = [const for const in code.co_consts if isinstance(const, CodeType)]
    return all(each.co_name in _INNER and _quick(each, known, held) for each in nested)


def _is_method(instruction: dis.Instruction) -> bool:
    """Whether an attribute is loaded to be called, which Python says in the same instruction from 3.12 on."""
    name = instruction.opname
    return name == "LOAD_METHOD" or (name == "LOAD_ATTR" and "NULL" in instruction.argrepr)


def _known(name: str, known: Mapping[str, Any], following: dis.Instruction, *, called: bool) -> bool:
    """Whether a global name stands for what can be had, or called, at once."""
    if name not in known:
        return name in _BUILTINS or (not called and isinstance(getattr(builtins, name, None), type))
    if called:
        return known[name] is Send or known[name] is Command
    return _is_data(known[name], following)


def _is_data(value: Any, following: dis.Instruction) -> bool:
    """Whether a value is there to be looked at; of a module, what is loaded from it next."""
    if isinstance(value, ModuleType):
        return following.opname == "LOAD_ATTR" and isinstance(getattr(value, following.argval, None), _LOOKED_AT)
    return isinstance(value, _LOOKED_AT)
