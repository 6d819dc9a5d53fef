"""The builder: nodes and edges as a user declares them, and the validation that makes a plan of them.

What is wrong with one call alone (a name twice, an edge out of END) is raised by that call. What can only be
judged of the whole (an edge to nowhere, no way in) is collected and raised together by `plan()`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

from fanfold.errors import GraphError, did_you_mean
from fanfold.kernel.channels import Channel, LastValue, alike
from fanfold.kernel.plan import Action, Handler, Join, Node, Plan, Route
from fanfold.kernel.quick import only_looks, quick_for
from fanfold.kernel.reach import Reach
from fanfold.kernel.schema import (
    Schema,
    asked_for,
    has,
    hints_of,
    input_schema,
    mapping_schema,
    read_schema,
    returned_keys,
)
from fanfold.types import END, START, CachePolicy, Command, RetryPolicy, TimeoutPolicy

Code: typing.TypeAlias = Callable[..., Any]


@dataclass(slots=True)
class _Branch:
    path: Action
    targets: Mapping[Hashable, str] | None


@dataclass(slots=True)
class Builder:
    """A graph under construction. Every method returns the builder, so that calls can be chained."""

    state_schema: Any
    context_schema: Any = None
    _: KW_ONLY
    input_schema: Any = None
    output_schema: Any = None
    nodes: dict[str, Node] = field(default_factory=dict, init=False, repr=False)
    channels: dict[str, Channel] = field(default_factory=dict, init=False, repr=False)
    _defaults: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _edges: dict[tuple[str, str], None] = field(default_factory=dict, init=False, repr=False)
    _joins: list[tuple[tuple[str, ...], str]] = field(default_factory=list, init=False, repr=False)
    _branches: dict[str, dict[str, _Branch]] = field(default_factory=dict, init=False, repr=False)
    _schema: Schema = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._schema = read_schema(self.state_schema)
        self.input_schema = self.state_schema if self.input_schema is None else self.input_schema
        self.output_schema = self.state_schema if self.output_schema is None else self.output_schema
        self._merge(self._schema)
        for declared, use in ((self.input_schema, "input"), (self.output_schema, "output")):
            if declared is not self.state_schema:
                self._merge(_without_managed(read_schema(declared), use))

    def __class_getitem__(cls, item: Any) -> Any:
        """`StateGraph[State]` is for type checkers and readers."""
        return cls

    @property
    def edges(self) -> set[tuple[str, str]]:
        """The plain edges, as (start, end)."""
        return set(self._edges)

    def add_node(
        self,
        node: str | Code,
        action: Any = None,
        *,
        defer: bool = False,
        metadata: Mapping[str, Any] | None = None,
        input_schema: Any = None,
        retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
        cache_policy: CachePolicy | None = None,
        error_handler: Code | None = None,
        destinations: Mapping[str, str] | Sequence[str] | None = None,
        timeout: float | timedelta | TimeoutPolicy | None = None,
        reads: Sequence[str] | None = None,
        writes: Sequence[str] | None = None,
        executor: Any = None,
    ) -> typing.Self:
        """Add a node; its name defaults to the function's.

        It is a function (sync or async), a compiled graph, or anything that has `invoke` or `ainvoke`. It sees the
        keys that `input_schema`, or the annotation of its first parameter, declares, else the whole state. `defer`
        keeps it until the graph would otherwise end. `retry_policy` may be several: the first that covers an error
        counts. `error_handler` is called with the node's input once no retry is left. `destinations` names the nodes
        that its Commands may lead to; `-> Command[Literal["a", "b"]]` does the same.

        With `reads` the node sees just these keys, as a dictionary; with `writes` it may write just these, and another
        one is an error. `executor` is where it runs: "loop" (the default of async code), "thread" (that of other code;
        an async function gets a loop of its own there), "process" (see `fanfold.work.process`), or an object of yours
        with `async call(function, *args)`.

        Raises `ValueError` for a name that is taken or reserved, `TypeError` when there is nothing to call.
        """
        name, code = (node, action) if isinstance(node, str) else (name_of(node), node if action is None else action)
        self._check_name(name)
        schema = None if input_schema is None else read_schema(input_schema)
        made = self._action(code, f"node {name!r}", schema)
        _check_executor(name, executor)
        if reads is not None and input_schema is not None:
            raise GraphError(f"node {name!r} has reads= and input_schema=, which say the same; give one of them")
        policies = (retry_policy,) if isinstance(retry_policy, RetryPolicy) else tuple(retry_policy or ())
        led = destinations if isinstance(destinations, Mapping) else dict.fromkeys(destinations or (), "")
        self.nodes[name] = Node(
            name=name,
            action=dataclasses.replace(made, executor=executor),
            targets=(),
            joins=(),
            routes=(),
            order=len(self.nodes) + 1,
            defer=defer,
            metadata=dict(metadata or {}),
            retry=policies,
            cache=cache_policy,
            handler=self._handler(name, error_handler, made.schema),
            timeout=TimeoutPolicy.coerce(timeout),
            destinations=dict(led) or dict.fromkeys(_commanded(code), ""),
            reads=_keys(reads),
            writes=_keys(writes),
            returns=None if writes is not None or made.graph is not None else returned_keys(made.function),
        )
        return self

    def _handler(self, node: str, code: Code | None, schema: Schema) -> Handler | None:
        if code is None:
            return None
        return Handler(f"__error_handler__{node}", self._action(code, f"error handler of {node!r}", schema))

    def set_node_defaults(
        self,
        *,
        retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
        cache_policy: CachePolicy | None = None,
        error_handler: Code | None = None,
        timeout: float | timedelta | TimeoutPolicy | None = None,
    ) -> typing.Self:
        """What nodes have that were added without a policy of their own, also those added before."""
        if retry_policy is not None:
            self._defaults["retry"] = (retry_policy,) if isinstance(retry_policy, RetryPolicy) else tuple(retry_policy)
        if cache_policy is not None:
            self._defaults["cache"] = cache_policy
        if error_handler is not None:
            action = self._action(error_handler, "the default error handler", None)
            self._defaults["handler"] = Handler("__default_error_handler__", action)
        if timeout is not None:
            self._defaults["timeout"] = TimeoutPolicy.coerce(timeout)
        return self

    def add_edge(self, start_key: str | Sequence[str], end_key: str) -> typing.Self:
        """Run `end_key` after `start_key`; with a list, after all of them have run, in whichever steps.

        Raises `ValueError` for an edge that leaves END or enters START.
        """
        if isinstance(start_key, str):
            _check_ends(start_key, [end_key])
            self._edges[start_key, end_key] = None
        elif not start_key:
            raise GraphError(f"the join to {end_key!r} waits for no node: name at least one")
        elif START in start_key:
            raise GraphError(
                f"the join to {end_key!r} waits for START, which runs once and before everything; leave it out"
            )
        else:
            for member in start_key:
                _check_ends(member, [end_key])
            self._joins.append((tuple(start_key), end_key))
        return self

    def add_conditional_edges(
        self,
        source: str,
        path: Code,
        path_map: Mapping[Hashable, str] | Sequence[str] | None = None,
    ) -> typing.Self:
        """After `source`, run what `path` answers: a name, END, a `Send`, or a list of them.

        `path` sees the state with the writes of `source` applied. `path_map` limits and renames its answers; without
        one, a `Literal` return annotation limits them. Raises `ValueError` for a second path of one name.
        """
        name = name_of(path)
        targets = _targets(path, path_map)
        _check_ends(source, () if targets is None else targets.values())
        branches = self._branches.setdefault(source, {})
        if name in branches:
            raise GraphError(f"node {source!r} has a conditional edge named {name!r} already")
        branches[name] = _Branch(self._action(path, f"conditional edge {name!r} of {source!r}", None), targets)
        return self

    def add_sequence(self, nodes: Sequence[Code | tuple[str, Code]]) -> typing.Self:
        """Add the nodes and an edge from each to the next."""
        previous: str | None = None
        for item in nodes:
            name, action = item if isinstance(item, tuple) else (name_of(item), item)
            self.add_node(name, action)
            if previous is not None:
                self.add_edge(previous, name)
            previous = name
        if previous is None:
            raise GraphError("a sequence needs at least one node")
        return self

    def set_entry_point(self, key: str) -> typing.Self:
        """The same as an edge from START."""
        return self.add_edge(START, key)

    def set_conditional_entry_point(
        self,
        path: Code,
        path_map: Mapping[Hashable, str] | Sequence[str] | None = None,
    ) -> typing.Self:
        """The same as conditional edges from START."""
        return self.add_conditional_edges(START, path, path_map)

    def set_finish_point(self, key: str) -> typing.Self:
        """The same as an edge to END."""
        return self.add_edge(key, END)

    def problems(self) -> tuple[str, ...]:
        """Everything that keeps the graph from running, in words; empty when nothing does."""
        found = [
            *(f"edge {a!r} -> {b!r}: {why}" for a, b in self._edges for why in self._misnamed([a], b)),
            *(f"join {list(a)!r} -> {b!r}: {why}" for a, b in self._joins for why in self._misnamed(a, b)),
            *self._branch_problems(),
            *self._node_problems(),
            *self._timeout_problems(),
        ]
        if not any(a == START for a, _ in self._edges) and START not in self._branches:
            found.append("nothing leaves START, so no node would ever run; add_edge(START, 'first node')")
        return tuple(found)

    def plan(self, name: str = "graph", *, stops: Iterable[str] = ()) -> Plan:
        """The frozen plan. Raises `GraphError` with every problem of the graph at once.

        `stops` are the nodes at which runs are to pause; they have to exist, too.
        """
        unknown = (f"interrupt at {stop!r}: {why}" for stop in stops for why in self._misnamed([stop], END))
        problems = (*self.problems(), *unknown)
        if problems:
            raise GraphError(problems)
        waited_for = ((members, end) for members, end in self._joins if end != END)  # nothing waits at the end
        joins = tuple(Join(frozenset(members), target) for members, target in waited_for)
        start = Node(START, None, (), (), (), 0)
        leads, joined = self._leads(), _memberships(joins)
        nodes = {
            node.name: self._finished(node, leads.get(node.name, ()), joined.get(node.name, ()))
            for node in (start, *self.nodes.values())
        }
        reach = Reach(nodes, self.channels)
        return Plan(
            name=name,
            state=self._schema,
            input=self._read(self.input_schema),
            output=self._read(self.output_schema),
            channels=dict(self.channels),
            nodes=nodes,
            joins=joins,
            context=self.context_schema,
            reach=reach if reach.helps else None,
        )

    def _leads(self) -> Mapping[str, list[str]]:
        """What the plain edges of each node lead to; a join to END is one from each member."""
        leads: dict[str, list[str]] = {}
        for start, end in self._edges:
            leads.setdefault(start, []).append(end)
        for members, end in self._joins:
            for member in members if end == END else ():
                leads.setdefault(member, []).append(end)
        return leads

    def _finished(self, node: Node, leads: Collection[str], joins: Iterable[int]) -> Node:
        """The node with what its edges lead to and its joins, and with the defaults for what it does not say itself."""
        name, action = node.name, node.action
        if action is not None and node.reads is not None:
            action = dataclasses.replace(action, schema=self._only(node.reads), declared=True)
        schema = action.schema if action else self._schema
        beside = "loop" if action and action.executor == "loop" else None  # where its paths run
        defaults = {key: value for key, value in self._defaults.items() if node.action and not getattr(node, key)}
        finished = dataclasses.replace(
            node,
            action=action,
            targets=tuple(target for target in leads if target != END),
            ends=END in leads,
            joins=tuple(joins),
            routes=tuple(
                Route(
                    label,
                    dataclasses.replace(b.path, schema=b.path.schema if b.path.declared else schema, executor=beside),
                    b.targets,
                )
                for label, b in self._branches.get(name, {}).items()
            ),
            **defaults,
        )
        return finished if finished.returns is None else self._promised(finished)

    def _promised(self, node: Node) -> Node:
        """The node with what the annotations of its return value, and of its error handler's, say that it writes.

        That is nothing, if it is the whole state, if it is no part of it, or if one of them does not say.
        """
        codes = [node.returns, *([] if node.handler is None else [returned_keys(node.handler.action.function)])]
        said = dict.fromkeys(key for keys in codes for key in keys or ())
        writes = tuple(key for key in said if key in self.channels)
        vague = None in codes or self._schema.single is not None or (said and not writes)
        if vague or len(writes) == len(self.channels):
            return dataclasses.replace(node, returns=None)
        return dataclasses.replace(node, writes=writes)

    def _only(self, keys: Sequence[str]) -> Schema:
        """The schema of a dictionary with these keys of the state."""
        channels = {key: self.channels[key] for key in keys if key in self.channels}
        managed = {key: self._schema.managed[key] for key in keys if key in self._schema.managed}
        return mapping_schema(channels, managed)

    def _action(self, code: Any, what: str, schema: Schema | None) -> Action:
        """How `code` is called. Raises `TypeError` when it cannot be."""
        graph = code if has(code, "ainvoke") and hasattr(code, "plan") else None
        function, is_async = (code.ainvoke, True) if graph is not None else _called(code, what)
        declared = schema or (None if graph is not None else input_schema(function))
        if declared is not None:
            self._merge(declared)
        asks = {} if graph is not None else asked_for(function)
        quick = None if is_async else quick_for(function)
        return Action(
            function,
            is_async,
            declared or self._schema,
            asks,
            graph,
            declared is not None,
            quick=quick,
            only_looks=quick is not None and only_looks(function),
        )

    def _read(self, declared: Any) -> Schema:
        return self._schema if declared is self.state_schema else read_schema(declared)

    def _merge(self, schema: Schema) -> None:
        for key, channel in schema.channels.items():
            known = self.channels.setdefault(key, channel)
            if alike(known, channel) or _is_plain(channel):
                continue
            if not _is_plain(known):
                raise GraphError(f"key {key!r} is declared twice, with different reducers: {known} and {channel}")
            self.channels[key] = channel

    def _check_name(self, name: str) -> None:
        if name in (START, END):
            raise GraphError(f"node name {name!r} is reserved")
        if name in self.nodes:
            raise GraphError(f"node {name!r} is there already; each node needs a name of its own")
        if bad := next((mark for mark in "|:" if mark in name), None):
            raise GraphError(f"node name {name!r} contains {bad!r}, which separates the parts of a task's path")

    def _misnamed(self, starts: Sequence[str], end: str) -> Iterable[str]:
        for name in (*starts, end):
            if name not in (START, END) and name not in self.nodes:
                yield f"names node {name!r}, which does not exist{did_you_mean(str(name), self.nodes)}"

    def _timeout_problems(self) -> Iterable[str]:
        """A thread cannot be stopped, so a time limit on blocking code would be a promise that nobody keeps."""
        for node in self.nodes.values():
            limited = node.timeout or self._defaults.get("timeout")
            if limited is None or node.action is None or node.action.stoppable:
                continue
            if node.action.executor is None:
                yield f"node {node.name!r} has a timeout and is a blocking function; make it async, or leave it out"
            else:
                place = f"executor={node.action.executor!r}"
                yield f"node {node.name!r} has a timeout and {place}, where what has begun cannot be stopped"

    def _branch_problems(self) -> Iterable[str]:
        for source, branches in self._branches.items():
            for name, branch in branches.items():
                targets = [] if branch.targets is None else list(dict.fromkeys(branch.targets.values()))
                whys = dict.fromkeys(why for target in targets or [END] for why in self._misnamed([source], target))
                yield from (f"conditional edge {name!r} of {source!r}: {why}" for why in whys)

    def _node_problems(self) -> Iterable[str]:
        for name, node in self.nodes.items():
            if name in _RESERVED:
                yield f"node {name!r}: the engine uses this name itself"
            whys = (why for target in node.destinations for why in self._misnamed([], target))
            yield from (f"destinations of node {name!r}: {why}" for why in whys)
            yield from self._declared_problems(node)
            yield from _executor_problems(node)
        for key in self.channels:
            if key in _RESERVED:
                yield f"key {key!r}: the engine uses this name itself"

    def _declared_problems(self, node: Node) -> Iterable[str]:
        if node.reads is not None and self._schema.single is not None:
            yield f"reads= of node {node.name!r}: the state is one value and has no keys"
            return
        readable = {**self.channels, **self._schema.managed}
        for use, keys, known in (("reads", node.reads, readable), ("writes", node.writes, self.channels)):
            for key in keys or ():
                if key not in known:
                    why = f"names key {key!r}, which the state does not have{did_you_mean(str(key), known)}"
                    yield f"{use}= of node {node.name!r}: {why}"


_RESERVED: typing.Final = frozenset(
    {"__input__", "__interrupt__", "__resume__", "__error__", "configurable", "checkpoint_id", "checkpoint_ns"}
)


def _memberships(joins: Sequence[Join]) -> Mapping[str, list[int]]:
    """The joins that each node is a member of."""
    joined: dict[str, list[int]] = {}
    for index, join in enumerate(joins):
        for member in join.members:
            joined.setdefault(member, []).append(index)
    return joined


def _without_managed(schema: Schema, use: str) -> Schema:
    """The schema, which people set or see: what the engine fills in for nodes is none of that."""
    if schema.managed:
        raise GraphError(
            f"the {use} schema declares {', '.join(map(repr, schema.managed))}, which the engine fills in for nodes;"
            f" declare it in the state schema"
        )
    return schema


def _check_ends(start: str, ends: Iterable[str]) -> None:
    if start == END:
        raise GraphError("END cannot be the start of an edge; nothing runs after it")
    if START in ends:
        raise GraphError(f"START cannot be the end of an edge from {start!r}; it runs once and before everything")


def _check_executor(node: str, executor: Any) -> None:
    """Raise `ValueError` or `TypeError` for an executor that is none."""
    if isinstance(executor, str) and executor not in _EXECUTORS:
        listed = ", ".join(map(repr, _EXECUTORS))
        raise GraphError(
            f"node {node!r} has executor={executor!r}; it is one of {listed}{did_you_mean(executor, _EXECUTORS)}"
        )
    if executor is not None and not isinstance(executor, str) and not callable(getattr(executor, "call", None)):
        raise TypeError(f"node {node!r} has executor={executor!r}, which has no call(function, *args)")


_EXECUTORS: typing.Final = ("loop", "thread", "process")


def _executor_problems(node: Node) -> Iterable[str]:
    """What keeps a node from running where it is said to run."""
    action = node.action
    if action is None or action.executor is None:
        return
    if action.graph is not None:
        yield f"node {node.name!r} is a graph and has an executor; give one to the nodes inside of it"
    elif action.executor == "process":
        function = action.function.func if isinstance(action.function, functools.partial) else action.function
        if inspect.isgeneratorfunction(getattr(function, "__wrapped__", None)):
            yield f"node {node.name!r} is a generator function, which cannot run in a process"
        elif "<" in getattr(function, "__qualname__", ""):
            yield f"node {node.name!r} runs in a process, where only a function of a module can be found by its name"
        for asked in action.asks.values():
            yield f"node {node.name!r} runs in a process and asks for {asked!r}, which is not there"


def _keys(declared: Sequence[str] | None) -> tuple[str, ...] | None:
    if declared is None:
        return None
    return (declared,) if isinstance(declared, str) else tuple(declared)


def _is_plain(channel: Channel) -> bool:
    return isinstance(channel, LastValue)


def name_of(code: Any) -> str:
    """What a function, a graph or another callable is called."""
    inner: Any = code.func if isinstance(code, functools.partial) else code
    if has(inner, "get_name") and has(inner, "invoke"):
        return str(inner.get_name())
    name = getattr(inner, "__name__", None) or getattr(inner, "name", None) or type(inner).__name__
    return str(name)


def _called(code: Any, what: str) -> tuple[Code, bool]:
    """The function behind `code`, and whether it is async."""
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        return _drained(code)
    if inspect.isroutine(code) or isinstance(code, functools.partial):
        return code, is_async(code)
    if has(code, "ainvoke") or has(code, "invoke"):
        return _runnable(code)
    if not callable(code):
        raise TypeError(
            f"{what} is {code!r}, which cannot be called; give a function, a graph, or something with invoke"
        )
    return code, is_async(code)


def _runnable(code: Any) -> tuple[Code, bool]:
    """The call of something with `ainvoke` or `invoke`, which takes the input and a config."""
    if not has(code, "ainvoke"):

        def invoke(state: Any, config: Any) -> Any:
            return code.invoke(state, config)

        return invoke, False

    async def ainvoke(state: Any, config: Any) -> Any:
        return await code.ainvoke(state, config)

    return ainvoke, True


def _drained(code: Code) -> tuple[Code, bool]:
    """A generator function as one that returns what it yields, added up where that can be added, else the last."""
    if inspect.isgeneratorfunction(code):

        @functools.wraps(code)
        def drain(*args: Any, **kwargs: Any) -> Any:
            return functools.reduce(_joined, code(*args, **kwargs), None)

        return drain, False

    @functools.wraps(code)
    async def adrain(*args: Any, **kwargs: Any) -> Any:
        return functools.reduce(_joined, [chunk async for chunk in code(*args, **kwargs)], None)

    return adrain, True


def _joined(sofar: Any, chunk: Any) -> Any:
    if sofar is None:
        return chunk
    try:
        return sofar + chunk
    except TypeError:  # such as dictionaries
        return chunk


def is_async(code: Any) -> bool:
    """Whether a call of `code` has to be awaited."""
    inner = code.func if isinstance(code, functools.partial) else code
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004


def _commanded(code: Any) -> tuple[str, ...]:
    """The nodes that the return annotation `Command[Literal[...]]` names, alone or in a union."""
    answer = hints_of(code).get("return") if callable(code) else None
    for part in (answer, *get_args(answer)):
        if get_origin(part) is Command:
            return tuple(name for literal in get_args(part) for name in get_args(literal) if isinstance(name, str))
    return ()


def _targets(path: Code, path_map: Mapping[Hashable, str] | Sequence[str] | None) -> Mapping[Hashable, str] | None:
    if path_map is not None:
        return (dict(path_map) if isinstance(path_map, Mapping) else {name: name for name in path_map}) or None
    answer = hints_of(path).get("return")
    return {name: name for name in get_args(answer)} if get_origin(answer) is Literal else None
