"""The builder: nodes and edges as a user declares them, and the validation that makes a plan of them.

What is wrong with one call alone (a name twice, an edge out of END) is raised by that call. What can only be
judged of the whole (an edge to nowhere, no way in) is collected and raised together by `plan()`.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, get_args, get_origin

from fanfold.errors import GraphError, did_you_mean
from fanfold.kernel.channels import Channel, LastValue
from fanfold.kernel.plan import Join, Node, Plan, Route
from fanfold.kernel.schema import Schema, hints_of, input_schema, read_schema
from fanfold.types import END, START

Action: typing.TypeAlias = Callable[..., Any]


@dataclass(slots=True)
class _Declared:
    action: Action
    schema: Schema


@dataclass(slots=True)
class _Branch:
    path: Action
    targets: Mapping[Hashable, str] | None


@dataclass(slots=True)
class Builder:
    """A graph under construction. Every method returns the builder, so that calls can be chained."""

    state_schema: Any
    _: KW_ONLY
    input_schema: Any = None
    output_schema: Any = None
    _nodes: dict[str, _Declared] = field(default_factory=dict, init=False)
    _edges: dict[tuple[str, str], None] = field(default_factory=dict, init=False)
    _joins: list[tuple[tuple[str, ...], str]] = field(default_factory=list, init=False)
    _branches: dict[str, dict[str, _Branch]] = field(default_factory=dict, init=False)
    _channels: dict[str, Channel] = field(default_factory=dict, init=False)
    _schema: Schema = field(init=False)

    def __post_init__(self) -> None:
        self._schema = read_schema(self.state_schema)
        for declared in (self._schema, self._read(self.input_schema), self._read(self.output_schema)):
            self._merge(declared)

    def add_node(self, node: str | Action, action: Action | None = None) -> typing.Self:
        """Add a node; its name defaults to the function's.

        It sees the keys that the annotation of its first parameter declares, else the whole state. Raises
        `ValueError` for a name that is taken or reserved, `TypeError` when there is nothing to call.
        """
        name, action = (node, action) if isinstance(node, str) else (_name_of(node), action or node)
        if not callable(action):
            raise TypeError(f"node {name!r} is {action!r}, which cannot be called; add_node({name!r}, function)")
        self._check_name(name)
        declared = input_schema(action) or self._schema
        self._merge(declared)
        self._nodes[name] = _Declared(action, declared)
        return self

    def add_edge(self, start: str | Sequence[str], end: str) -> typing.Self:
        """Run `end` after `start`; with a list, after all of them have run, in whichever steps.

        Raises `ValueError` for an edge that leaves END or enters START.
        """
        if isinstance(start, str):
            _check_ends(start, [end])
            self._edges[start, end] = None
        elif not start:
            raise GraphError(f"the join to {end!r} waits for no node: name at least one")
        elif START in start:
            raise GraphError(
                f"the join to {end!r} waits for START, which runs once and before everything; leave it out"
            )
        else:
            for member in start:
                _check_ends(member, [end])
            self._joins.append((tuple(start), end))
        return self

    def add_conditional_edges(
        self,
        source: str,
        path: Action,
        path_map: Mapping[Hashable, str] | Sequence[str] | None = None,
    ) -> typing.Self:
        """After `source`, run what `path` answers: a name, END, a `Send`, or a list of them.

        `path` sees the state with the writes of `source` applied. `path_map` limits and renames its answers; without
        one, a `Literal` return annotation limits them. Raises `ValueError` for a second path of one name.
        """
        name = _name_of(path)
        targets = _targets(path, path_map)
        _check_ends(source, () if targets is None else targets.values())
        branches = self._branches.setdefault(source, {})
        if name in branches:
            raise GraphError(f"node {source!r} has a conditional edge named {name!r} already")
        branches[name] = _Branch(path, targets)
        return self

    def add_sequence(self, nodes: Iterable[Action | tuple[str, Action]]) -> typing.Self:
        """Add the nodes and an edge from each to the next."""
        previous: str | None = None
        for item in nodes:
            name, action = item if isinstance(item, tuple) else (_name_of(item), item)
            self.add_node(name, action)
            if previous is not None:
                self.add_edge(previous, name)
            previous = name
        if previous is None:
            raise GraphError("a sequence needs at least one node")
        return self

    def set_entry_point(self, node: str) -> typing.Self:
        """The same as an edge from START."""
        return self.add_edge(START, node)

    def set_finish_point(self, node: str) -> typing.Self:
        """The same as an edge to END."""
        return self.add_edge(node, END)

    def problems(self) -> tuple[str, ...]:
        """Everything that keeps the graph from running, in words; empty when nothing does."""
        found = [
            *(f"edge {a!r} -> {b!r}: {why}" for a, b in self._edges for why in self._misnamed([a], b)),
            *(f"join {list(a)!r} -> {b!r}: {why}" for a, b in self._joins for why in self._misnamed(a, b)),
            *self._branch_problems(),
        ]
        if not any(a == START for a, _ in self._edges) and START not in self._branches:
            found.append("nothing leaves START, so no node would ever run; add_edge(START, 'first node')")
        return tuple(found)

    def plan(self, name: str = "graph") -> Plan:
        """The frozen plan. Raises `GraphError` with every problem of the graph at once."""
        if problems := self.problems():
            raise GraphError(problems)
        joins = tuple(Join(frozenset(members), target) for members, target in self._joins if target != END)
        start = self._node(START, None, self._schema, 0, joins)
        nodes = {START: start}
        for order, (node, declared) in enumerate(self._nodes.items(), start=1):
            nodes[node] = self._node(node, declared.action, declared.schema, order, joins)
        return Plan(
            name=name,
            state=self._schema,
            input=self._read(self.input_schema),
            output=self._read(self.output_schema),
            channels=dict(self._channels),
            nodes=nodes,
            joins=joins,
        )

    def _node(self, name: str, action: Action | None, schema: Schema, order: int, joins: tuple[Join, ...]) -> Node:
        routes = tuple(
            Route(label, branch.path, branch.targets, input_schema(branch.path) or self._schema)
            for label, branch in self._branches.get(name, {}).items()
        )
        return Node(
            name=name,
            action=action,
            is_async=action is not None and _is_async(action),
            schema=schema,
            targets=tuple(b for a, b in self._edges if a == name and b != END),
            joins=tuple(index for index, join in enumerate(joins) if name in join.members),
            routes=routes,
            order=order,
        )

    def _read(self, declared: Any) -> Schema:
        return self._schema if declared is None else read_schema(declared)

    def _merge(self, schema: Schema) -> None:
        for key, channel in schema.channels.items():
            known = self._channels.setdefault(key, channel)
            if known == channel or _is_plain(channel):
                continue
            if not _is_plain(known):
                raise GraphError(f"key {key!r} is declared twice, with different reducers: {known} and {channel}")
            self._channels[key] = channel

    def _check_name(self, name: str) -> None:
        if name in (START, END):
            raise GraphError(f"node name {name!r} is reserved")
        if name in self._nodes:
            raise GraphError(f"node {name!r} is there already; each node needs a name of its own")
        if bad := next((mark for mark in "|:" if mark in name), None):
            raise GraphError(f"node name {name!r} contains {bad!r}, which separates the parts of a task's path")

    def _misnamed(self, starts: Sequence[str], end: str) -> Iterable[str]:
        for name in (*starts, end):
            if name not in (START, END) and name not in self._nodes:
                yield f"names node {name!r}, which does not exist{did_you_mean(name, self._nodes)}"

    def _branch_problems(self) -> Iterable[str]:
        for source, branches in self._branches.items():
            for name, branch in branches.items():
                targets = [] if branch.targets is None else list(dict.fromkeys(branch.targets.values()))
                whys = dict.fromkeys(why for target in targets or [END] for why in self._misnamed([source], target))
                yield from (f"conditional edge {name!r} of {source!r}: {why}" for why in whys)


def _is_plain(channel: Channel) -> bool:
    return isinstance(channel, LastValue)


def _check_ends(start: str, ends: Iterable[str]) -> None:
    if start == END:
        raise GraphError("END cannot be the start of an edge; nothing runs after it")
    if START in ends:
        raise GraphError(f"START cannot be the end of an edge from {start!r}; it runs once and before everything")


def _name_of(action: Any) -> str:
    inner = action.func if isinstance(action, functools.partial) else action
    name = getattr(inner, "__name__", None) or getattr(inner, "name", None) or type(inner).__name__
    return str(name)


def _is_async(action: Any) -> bool:
    inner = action.func if isinstance(action, functools.partial) else action
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004


def _targets(path: Action, path_map: Mapping[Hashable, str] | Sequence[str] | None) -> Mapping[Hashable, str] | None:
    if isinstance(path_map, Mapping):
        return dict(path_map)
    if path_map is not None:
        return {name: name for name in path_map}
    answer = hints_of(path).get("return")
    return {name: name for name in get_args(answer)} if get_origin(answer) is Literal else None
