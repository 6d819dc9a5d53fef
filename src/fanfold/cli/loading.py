"""From what a person typed to a graph: `module:attr` or `file.py:attr`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from fanfold.agents.definition import AgentDefinition, Catalogue
from fanfold.cli import brief
from fanfold.cli.common import say
from fanfold.errors import FanfoldError, GraphError, UsageError, did_you_mean
from fanfold.graph import CompiledGraph, StateGraph
from fanfold.limits import Limits
from fanfold.live import clean
from fanfold.store.base import Store


def load_graph(
    reference: str, store: Store | None, *, name: str | None = None, given: Mapping[str, Any] | None = None
) -> CompiledGraph:
    """The graph that `reference` names, compiled over `store`, or over none.

    The attribute is a StateGraph, a compiled graph, or a function that returns one of them, and is called with what it
    is `given`. Raises `UsageError` when it cannot be found, and `GraphError` when it cannot be compiled.
    """
    return graph_from(load(reference), reference, store, name=name, given=given)


def graph_from(
    value: Any, reference: str, store: Store | None, *, name: str | None = None, given: Mapping[str, Any] | None = None
) -> CompiledGraph:
    """The same of what has been loaded already, so that its file is not run once more."""
    if not isinstance(value, StateGraph | CompiledGraph) and callable(value):
        value = _running(partial(value, **(given or {})), reference)
    if isinstance(value, StateGraph):
        return _compiled(value, store, reference, name or reference.rpartition(":")[2])
    if isinstance(value, CompiledGraph):
        graph = value.with_config()  # a copy: where it pauses, its limits and its memory stay as they were compiled
        graph.checkpointer = store
        return graph
    raise UsageError(f"{reference!r} is a {type(value).__name__}, not a graph", hint="name a StateGraph")


def load(reference: str) -> Any:
    """What `reference` names. Raises `UsageError` when it cannot be found, or its file cannot be run."""
    place, colon, attribute = reference.rpartition(":")
    if not colon or not place or not attribute:
        raise UsageError(f"{reference!r} names no graph", hint="name it as module:attr or file.py:attr")
    module = _from_file(Path(place)) if place.endswith(".py") else _imported(place)
    return _attribute(module, place, attribute)


def agents_beside(reference: str) -> list[AgentDefinition]:
    """The agents of the files in `.claude/agents` beside a graph's own file, which come with the graph.

    In the working directory they are found anyway. A file that cannot be used is said, and the rest are there.
    """
    place, _, _ = reference.rpartition(":")
    folder = Path(place).resolve().parent / ".claude" / "agents"
    if not place.endswith(".py") or not folder.is_dir() or folder.parents[1] == Path.cwd():
        return []
    catalogue = Catalogue.below(folder)
    for problem in catalogue.problems:
        if problem.kind == "unusable":
            say(f"note: {clean(str(problem))}")
    return list(catalogue)


def absolute(reference: str) -> str:
    """The reference as it means the same from any working directory."""
    place, _, attribute = reference.rpartition(":")
    return f"{Path(place).resolve()}:{attribute}" if place.endswith(".py") else reference


def _compiled(graph: StateGraph, store: Store | None, reference: str, name: str) -> CompiledGraph:
    try:
        return graph.compile(store, limits=Limits(), name=name)
    except GraphError as error:
        error.add_note(f"in {reference}")
        raise


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}", hint="name the graph as file.py:attr")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a file that ends in .py has a spec"
    assert spec.loader is not None, "and a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # annotations of classes in the file are looked up here
    sys.path.insert(0, str(path.parent.resolve()))
    loader = spec.loader
    _running(lambda: loader.exec_module(module), str(path))
    return module


def _imported(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    module: ModuleType = _running(lambda: _found(name), name)
    return module


def _found(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # the module is there; what it imports is not
        raise UsageError(
            f"there is no module {name!r}: {error}", hint="run from the folder it is in, or name a file: file.py:attr"
        ) from error


def _running(code: Callable[[], Any], what: str) -> Any:
    """What a user's code returns. Raises `UsageError`, which names file and line, when it does not come to an end."""
    try:
        return code()
    except FanfoldError as error:
        if place := _place_of(error):
            error.add_note(f"at {place}")
        raise
    except SyntaxError as error:
        raise UsageError(f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{what} cannot be loaded: {brief(error)}", hint=f"raised at {_place_of(error) or what}"
        ) from error


def _place_of(error: BaseException) -> str | None:
    """The file and line of the user's code that was last at work: neither of ours nor of Python's import."""
    ours = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if not frame.filename.startswith((ours, "<frozen"))]
    return f"{places[-1].filename}, line {places[-1].lineno}" if places else None


def _attribute(module: ModuleType, place: str, name: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    graphs = [key for key, value in vars(module).items() if isinstance(value, StateGraph | CompiledGraph)]
    listed = f"; its graphs are: {', '.join(graphs)}" if graphs else "; it holds no graph"
    raise UsageError(f"{place} has no {name!r}{listed}{did_you_mean(name, graphs)}")
