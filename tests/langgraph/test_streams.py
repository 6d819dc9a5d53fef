"""What a consumer sees of a run while it goes on."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest

from fanfold import (
    START,
    CachePolicy,
    Command,
    EphemeralValue,
    GraphOutput,
    InMemoryCache,
    InMemorySaver,
    NodeError,
    Runtime,
    Send,
    StateGraph,
    StreamWriter,
    Topic,
    get_config,
    get_stream_writer,
    interrupt,
)
from fanfold.errors import OutsideError, ThreadBusyError, UsageError
from fanfold.stream import MOST_WAITING, Form, Streams
from tests.langgraph.conftest import Run
from tests.langgraph.parts import State, alone, lettered, say

THREAD = {"configurable": {"thread_id": "1"}}
NOTHING: dict[str, Any] = {"log": []}


def chain(**options: Any) -> Any:
    return lettered("ab", [(START, "a"), ("a", "b")]).compile(**options)


def asking(**options: Any) -> Any:
    graph = StateGraph(State).add_node("ask", lambda _: {"log": [interrupt("sure?")]}).add_edge(START, "ask")
    return graph.compile(checkpointer=InMemorySaver(), **options)


def failing(_: State) -> None:
    raise LookupError("lost")


# Modes


def test_values_are_the_state_after_the_input_and_after_each_step(stream: Run) -> None:
    chunks = stream(chain(), NOTHING, stream_mode="values")
    assert chunks == [{"log": []}, {"log": ["a"]}, {"log": ["a", "b"]}]


def test_a_step_that_writes_nothing_shows_no_values(stream: Run) -> None:
    assert stream(alone(lambda _: None), NOTHING, stream_mode=["values", "updates"]) == [
        ("values", {"log": []}),
        ("updates", {"node": None}),
    ]


def test_updates_are_the_default_and_come_one_per_task(stream: Run) -> None:
    assert stream(chain(), NOTHING) == [{"a": {"log": ["a"]}}, {"b": {"log": ["b"]}}]


def test_a_key_that_a_task_writes_twice_is_a_list_of_updates(stream: Run) -> None:
    graph = alone(lambda _: [Command(update={"log": [1]}), {"log": [2], "number": 3}])
    updates, tasks = stream(graph, NOTHING, stream_mode="updates"), stream(graph, NOTHING, stream_mode="tasks")
    assert updates == [{"node": [{"log": [1]}, {"log": [2]}, {"number": 3}]}]
    assert tasks[-1]["result"] == {"log": {"$writes": [[1], [2]]}, "number": 3}


def test_updates_come_in_the_order_in_which_tasks_end() -> None:
    async def go() -> list[Any]:
        gate = asyncio.Event()

        async def late(_: State) -> dict[str, Any]:
            await gate.wait()
            return {"log": ["late"]}

        async def early(_: State) -> dict[str, Any]:
            gate.set()
            return {"log": ["early"]}

        graph = StateGraph(State).add_node("a", late).add_node("b", early)
        graph.add_edge(START, "a").add_edge(START, "b")
        return [chunk async for chunk in graph.compile().astream(NOTHING)]

    assert asyncio.run(go()) == [{"b": {"log": ["early"]}}, {"a": {"log": ["late"]}}]


def test_tasks_show_their_input_and_then_what_came_of_them(stream: Run) -> None:
    begun, ended = stream(alone(say("x")), {"log": ["i"]}, stream_mode="tasks")
    assert (begun["name"], begun["input"], ended["result"]) == ("node", {"log": ["i"]}, {"log": ["x"]})
    assert (ended["id"], ended["error"], ended["interrupts"]) == (begun["id"], None, [])


def test_tasks_carry_the_metadata_of_their_node_and_the_tags_of_the_run(stream: Run) -> None:
    graph = StateGraph(State).add_node("a", say("a"), metadata={"team": "x"}).add_edge(START, "a").compile()
    begun = stream(graph, NOTHING, {"metadata": {"user": 1}, "tags": ["t"]}, stream_mode="tasks")[0]
    assert begun["metadata"] == {"user": 1, "team": "x", "tags": ["t"]}


def test_tasks_and_nodes_are_told_the_ids_that_the_config_names(stream: Run) -> None:
    seen: list[dict[str, Any]] = []
    ids = {"run_id": "r", "assistant_id": "a", "graph_id": "g", "task_id": "t"}
    config = {"configurable": {**ids, "user": "u"}, "metadata": {"run_id": "mine"}, "run_name": "whole"}
    graph = alone(lambda _: seen.append(dict(get_config())))
    begun = stream(graph, NOTHING, config, stream_mode="tasks")[0]
    assert begun["metadata"] == {**ids, "run_id": "mine"}
    assert begun["metadata"].items() <= seen[0]["metadata"].items()
    assert "user" not in seen[0]["metadata"]
    assert "run_name" not in seen[0], "it is the whole run's"


def test_all_tasks_of_a_step_begin_before_one_of_them_ends(stream: Run) -> None:
    graph = lettered("ab", [(START, "b"), (START, "a")]).compile()
    names = [(chunk["name"], "result" in chunk) for chunk in stream(graph, NOTHING, stream_mode="tasks")]
    assert names[:2] == [("a", False), ("b", False)]


def test_checkpoints_name_what_is_next(stream: Run) -> None:
    chunks = stream(chain(checkpointer=InMemorySaver()), NOTHING, THREAD, stream_mode="checkpoints")
    assert [(chunk["metadata"]["step"], chunk["next"]) for chunk in chunks] == [
        (-1, ["__start__"]),
        (0, ["a"]),
        (1, ["b"]),
        (2, []),
    ]


def test_without_a_store_there_are_no_checkpoints_to_show(stream: Run) -> None:
    assert stream(chain(), NOTHING, stream_mode="checkpoints") == []
    assert {chunk["type"] for chunk in stream(chain(), NOTHING, stream_mode="debug")} == {"task", "task_result"}


def test_debug_wraps_tasks_and_checkpoints_with_step_and_time(stream: Run) -> None:
    chunks = stream(chain(checkpointer=InMemorySaver()), NOTHING, THREAD, stream_mode="debug")
    assert [(chunk["type"], chunk["step"]) for chunk in chunks[:4]] == [
        ("checkpoint", -1),
        ("checkpoint", 0),
        ("task", 1),
        ("task_result", 1),
    ]


def test_an_unknown_mode_is_refused_with_a_suggestion(stream: Run) -> None:
    with pytest.raises(UsageError, match="did you mean 'updates'"):
        stream(chain(), NOTHING, stream_mode="update")


def test_values_hold_keys_that_the_output_leaves_out() -> None:
    class Output(TypedDict):
        number: int

    graph = StateGraph(State, output_schema=Output).add_node("a", lambda _: {"log": ["a"], "number": 1})
    compiled = graph.add_edge(START, "a").compile()
    assert compiled.invoke(NOTHING) == {"number": 1}
    assert list(compiled.stream(NOTHING, stream_mode="values"))[-1] == {"log": ["a"], "number": 1}


def test_output_keys_choose_what_values_and_updates_show(stream: Run) -> None:
    modes = ["values", "updates"]
    assert stream(alone(say("x")), {"log": [], "number": 1}, stream_mode=modes, output_keys=["number"]) == [
        ("values", {"number": 1}),
        ("updates", {"node": None}),
    ]
    assert stream(alone(say("x")), NOTHING, stream_mode=modes, output_keys="log") == [
        ("values", []),
        ("updates", {"node": ["x"]}),
        ("values", ["x"]),
    ]


def test_an_output_key_that_the_state_lacks_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match=r"'numbr'.*did you mean 'number'"):
        run(alone(say("x")), NOTHING, output_keys=["numbr"])


def test_another_mode_makes_invoke_return_the_chunks(run: Run) -> None:
    assert run(chain(), NOTHING, stream_mode="updates") == [{"a": {"log": ["a"]}}, {"b": {"log": ["b"]}}]


def test_chunks_that_invoke_returns_name_their_graph_where_asked_to(run: Run) -> None:
    graph = StateGraph(State).add_node("sub", alone(say("x"))).add_edge(START, "sub").compile()
    (inner, first), (outer, second) = run(graph, NOTHING, stream_mode="updates", subgraphs=True)
    assert (len(inner), first, outer, second) == (1, {"node": {"log": ["x"]}}, (), {"sub": {"log": ["x"]}})
    assert run(graph, NOTHING, subgraphs=True) == {"log": ["x"]}


def test_print_mode_prints_chunks_and_changes_nothing_else(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(chain(), NOTHING, print_mode="updates") == {"log": ["a", "b"]}
    assert capsys.readouterr().out.splitlines() == [
        "[updates] {'a': {'log': ['a']}}",
        "[updates] {'b': {'log': ['b']}}",
    ]


def test_messages_are_what_nodes_add_and_not_what_was_there(stream: Run) -> None:
    @dataclass
    class Message:
        content: str
        id: str | None = None

    old = Message("old", "1")
    graph = alone(lambda state: {"log": [*state["log"], Message("new")]})
    ((message, metadata),) = stream(graph, {"log": [old]}, stream_mode="messages")
    assert (message.content, message.id is None, metadata["langgraph_node"]) == ("new", False, "node")


# What nodes write to it


def test_a_writer_is_handed_to_a_node_in_three_ways(stream: Run) -> None:
    def node(_: State, *, writer: StreamWriter, runtime: Runtime) -> dict[str, Any]:
        for told, write in enumerate([writer, runtime.stream_writer, get_stream_writer()]):
            write(told)
        return {"log": ["x"]}

    assert stream(alone(node), NOTHING, stream_mode="custom") == [0, 1, 2]


def test_what_a_node_writes_comes_before_its_update(stream: Run) -> None:
    async def node(_: State) -> dict[str, Any]:
        get_stream_writer()("half")
        return {"log": ["x"]}

    assert stream(alone(node), NOTHING, stream_mode=["updates", "custom"]) == [
        ("custom", "half"),
        ("updates", {"node": {"log": ["x"]}}),
    ]


def test_code_outside_of_a_run_is_told_so() -> None:
    with pytest.raises(RuntimeError, match=r"get_stream_writer\(\) was called outside of a node"):
        get_stream_writer()
    assert issubclass(OutsideError, UsageError)


# Interrupts, errors, caches


def test_an_interrupt_shows_as_update_as_values_and_as_the_end_of_its_task(stream: Run) -> None:
    chunks = stream(asking(), NOTHING, THREAD, stream_mode=["values", "updates", "tasks"])
    assert [mode for mode, _ in chunks] == ["values", "tasks", "updates", "values", "tasks"]
    asked = chunks[2][1]["__interrupt__"]
    assert (asked[0].value, chunks[3][1]) == ("sure?", {"log": [], "__interrupt__": asked})
    assert chunks[4][1]["interrupts"][0]["value"] == "sure?"


def test_a_resumed_run_begins_with_the_values_where_it_stands(stream: Run) -> None:
    graph = asking()
    stream(graph, {"log": ["i"]}, THREAD)
    assert stream(graph, Command(resume="yes"), THREAD, stream_mode=["values", "updates"]) == [
        ("values", {"log": ["i"]}),
        ("updates", {"ask": {"log": ["yes"]}}),
        ("values", {"log": ["i", "yes"]}),
    ]


def test_a_breakpoint_shows_as_an_empty_interrupt(stream: Run) -> None:
    graph = chain(checkpointer=InMemorySaver())
    assert stream(graph, NOTHING, THREAD, interrupt_before=["b"])[-1] == {"__interrupt__": ()}
    assert stream(graph, None, THREAD) == [{"b": {"log": ["b"]}}]


def test_what_came_before_an_error_is_shown_and_then_the_error_is_raised(stream: Run) -> None:
    seen: list[Any] = []

    async def go(graph: Any) -> None:
        async for chunk in graph.astream(NOTHING, stream_mode="tasks"):
            seen.append(chunk)

    graph = alone(failing)
    with pytest.raises(LookupError, match="lost"):
        stream(graph, NOTHING)
    with pytest.raises(LookupError, match="lost"):
        asyncio.run(go(graph))
    assert isinstance(seen[-1]["error"], LookupError)


def test_results_of_an_earlier_sitting_are_marked_as_cached(stream: Run) -> None:
    tries: list[int] = []

    def flaky(_: State) -> dict[str, Any]:
        tries.append(1)
        if len(tries) == 1:
            raise LookupError("lost")
        return {"log": ["f"]}

    graph = StateGraph(State).add_node("a", say("a")).add_node("f", flaky).add_edge(START, "a").add_edge(START, "f")
    compiled = graph.compile(checkpointer=InMemorySaver(), on_error="finish")
    with pytest.raises(LookupError):
        stream(compiled, NOTHING, THREAD)
    assert stream(compiled, None, THREAD) == [
        {"a": {"log": ["a"]}, "__metadata__": {"cached": True}},
        {"f": {"log": ["f"]}},
    ]


def test_cached_writes_are_marked_and_have_no_task_result(stream: Run) -> None:
    graph = StateGraph(State).add_node("a", say("a"), cache_policy=CachePolicy()).add_edge(START, "a")
    compiled = graph.compile(cache=InMemoryCache())
    stream(compiled, NOTHING)
    chunks = stream(compiled, NOTHING, stream_mode=["tasks", "updates"])
    assert [mode for mode, _ in chunks] == ["tasks", "updates"]
    assert chunks[1][1] == {"a": {"log": ["a"]}, "__metadata__": {"cached": True}}


def test_an_error_handler_shows_under_its_own_name(stream: Run) -> None:
    def handler(_: State, error: NodeError) -> dict[str, Any]:
        return {"log": [error.node]}

    graph = StateGraph(State).add_node("f", failing, error_handler=handler).add_edge(START, "f").compile()
    chunks = stream(graph, NOTHING, stream_mode=["updates", "tasks"])
    assert [(mode, chunk.get("name")) for mode, chunk in chunks] == [
        ("tasks", "f"),
        ("tasks", "f"),
        ("updates", None),
        ("tasks", "__error_handler__f"),
    ]
    assert chunks[2][1] == {"__error_handler__f": {"log": ["f"]}}


# Sub-graphs


def nested() -> Any:
    return StateGraph(State).add_node("sub", chain()).add_edge(START, "sub").compile()


def test_chunks_of_a_sub_graph_are_seen_only_by_who_asks_for_them(stream: Run) -> None:
    assert [list(chunk) for chunk in stream(nested(), NOTHING)] == [["sub"]]
    chunks = stream(nested(), NOTHING, subgraphs=True)
    names = [([part.partition(":")[0] for part in namespace], *chunk) for namespace, chunk in chunks]
    assert names == [(["sub"], "a"), (["sub"], "b"), ([], "sub")]


def test_a_graph_that_a_node_streams_is_seen_by_the_node_and_by_the_consumer_of_the_run(stream: Run) -> None:
    inner, told = chain(), []

    def node(_: State) -> dict[str, Any]:
        told.extend(inner.stream(NOTHING, stream_mode="updates"))
        return {"log": ["done"]}

    chunks = stream(alone(node), NOTHING, subgraphs=True)
    assert told == [{"a": {"log": ["a"]}}, {"b": {"log": ["b"]}}]
    assert [chunk for _, chunk in chunks] == [*told, {"node": {"log": ["done"]}}]


def test_an_async_node_can_stream_a_graph(stream: Run) -> None:
    inner = chain()

    async def node(_: State) -> dict[str, Any]:
        return {"log": [chunk async for chunk in inner.astream(NOTHING, stream_mode="values")]}

    assert stream(alone(node), NOTHING) == [{"node": {"log": [{"log": []}, {"log": ["a"]}, {"log": ["a", "b"]}]}}]


# Version 2


def test_in_version_2_each_chunk_says_what_it_is(stream: Run) -> None:
    chunks = stream(alone(say("x")), NOTHING, stream_mode=["values", "updates"], version="v2")
    assert chunks == [
        {"type": "values", "ns": (), "data": {"log": []}, "interrupts": ()},
        {"type": "updates", "ns": (), "data": {"node": {"log": ["x"]}}},
        {"type": "values", "ns": (), "data": {"log": ["x"]}, "interrupts": ()},
    ]


def test_in_version_2_invoke_hands_over_the_output_in_its_type(run: Run) -> None:
    @dataclass
    class Number:
        number: int = 0

    output = run(alone(lambda state: {"number": state.number + 1}, Number), {"number": 1}, version="v2")
    assert (output, output["number"], "number" in output) == (GraphOutput(Number(2)), 2, True)


def test_in_version_2_questions_are_beside_the_value(run: Run) -> None:
    output = run(asking(), NOTHING, THREAD, version="v2")
    assert (output.value, output.interrupts[0].value, output["__interrupt__"]) == (NOTHING, "sure?", output.interrupts)


# The consumer


def test_a_consumer_that_leaves_stops_the_run() -> None:
    async def go() -> tuple[list[str], int]:
        ended: list[str] = []

        async def node(_: State, writer: Any) -> None:
            writer("begun")
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("stopped")

        chunks = alone(node).astream(NOTHING, stream_mode="custom")
        assert await anext(chunks) == "begun"
        await chunks.aclose()  # type: ignore[attr-defined]  # it is a generator
        return ended, len(asyncio.all_tasks())

    assert asyncio.run(go()) == (["stopped"], 1)


def test_a_blocking_consumer_that_leaves_stops_the_run() -> None:
    ended: list[str] = []

    async def node(_: State, writer: Any) -> None:
        writer("begun")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("stopped")

    for chunk in alone(node).stream(NOTHING, stream_mode="custom"):
        assert chunk == "begun"
        break
    assert ended == ["stopped"]


def test_a_slow_consumer_holds_the_run_before_what_waits_for_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fanfold.stream.MOST_WAITING", 4)
    ran: list[int] = []

    async def count(state: State) -> Command:
        ran.append(state["number"])
        return Command(update={"number": state["number"] + 1}, goto=["count"] if state["number"] < 50 else [])

    async def go() -> int:
        graph = StateGraph(State).add_node("count", count).add_edge(START, "count").compile()
        chunks = graph.astream({"number": 0})
        await anext(chunks)
        for _ in range(1000):
            await asyncio.sleep(0)
        held = len(ran)
        assert len([chunk async for chunk in chunks]) == 50
        return held

    assert asyncio.run(go()) < 10


def test_one_graph_runs_many_times_at_once() -> None:
    async def go() -> list[Any]:
        graph = chain()
        return list(await asyncio.gather(*(graph.ainvoke({"log": [n]}) for n in range(20))))

    assert asyncio.run(go()) == [{"log": [n, "a", "b"]} for n in range(20)]


def test_each_send_has_an_update_of_its_own(stream: Run) -> None:
    graph = StateGraph(State).add_node("w", lambda given: {"log": [given]})
    graph.add_conditional_edges(START, lambda _: [Send("w", n) for n in range(3)])
    chunks = stream(graph.compile(), NOTHING)
    assert sorted(chunk["w"]["log"][0] for chunk in chunks) == [0, 1, 2]


def test_a_blocking_node_that_writes_without_end_waits_for_the_consumer() -> None:
    written: list[int] = []

    def flood(state: State, writer: Any) -> None:
        for number in range(5 * MOST_WAITING):
            writer(number)
            written.append(number)

    chunks = (
        StateGraph(State).add_node(flood).add_edge(START, "flood").compile().stream({"log": []}, stream_mode="custom")
    )
    assert next(chunks) == 0
    most = MOST_WAITING + 1
    while len(written) < MOST_WAITING:  # it goes on until that many wait, and then it does not
        threading.Event().wait(0.001)
    assert len(written) <= most
    assert list(chunks) == list(range(1, 5 * MOST_WAITING))


def test_a_consumer_that_leaves_while_it_is_found_to_be_full_keeps_nobody_waiting() -> None:
    async def main() -> None:
        streams = Streams(Form(("custom",)))
        leaving = threading.Thread(target=streams.leave)

        class Slow(threading.Event):
            def clear(self) -> None:
                leaving.start()
                leaving.join(0.1)  # over by then, if nothing keeps it
                super().clear()

        streams._free = Slow()
        streams._free.set()
        for number in range(MOST_WAITING):
            streams.put((), "custom", number)
        leaving.join()
        assert streams._free.is_set()

    asyncio.run(main())


def test_a_consumer_that_leaves_frees_a_blocking_node_that_waits_for_it() -> None:
    ended = threading.Event()

    def flood(state: State, writer: Any) -> None:
        for number in range(5 * MOST_WAITING):
            writer(number)
        ended.set()

    chunks = (
        StateGraph(State).add_node(flood).add_edge(START, "flood").compile().stream({"log": []}, stream_mode="custom")
    )
    assert next(chunks) == 0
    chunks.close()
    assert ended.wait(30)


def test_a_thread_can_be_changed_while_a_blocking_stream_of_it_stands_still() -> None:
    graph = chain(checkpointer=InMemorySaver())
    chunks = graph.stream(NOTHING, THREAD)
    assert next(chunks) == {"a": {"log": ["a"]}}
    graph.update_state(THREAD, {"log": ["changed"]}, as_node="a")
    chunks.close()
    assert any("changed" in snapshot.values["log"] for snapshot in graph.get_state_history(THREAD))


def test_a_run_that_would_wait_for_a_stream_that_waits_for_it_is_refused() -> None:
    graph = chain(checkpointer=InMemorySaver())
    chunks = graph.stream(NOTHING, THREAD)
    next(chunks)
    with pytest.raises(ThreadBusyError, match="waits for the code that wants to run it again\n  end its stream"):
        graph.invoke(NOTHING, THREAD)
    assert list(chunks) == [{"b": {"log": ["b"]}}]
    assert graph.invoke(NOTHING, THREAD) == {"log": ["a", "b", "a", "b"]}


def test_what_is_shown_last_is_what_is_returned_also_if_it_has_lapsed_by_then(run: Run, stream: Run) -> None:
    class Lapsing(TypedDict, total=False):
        topic: Annotated[list[str], Topic(str)]
        brief: Annotated[str, EphemeralValue(str)]

    graph = StateGraph(Lapsing).add_node("say", lambda _: {"topic": "t", "brief": "b"}).add_node("rest", lambda _: None)
    app = graph.add_edge(START, "say").add_edge("say", "rest").compile()
    assert run(app, {"brief": "in"}) == {"topic": ["t"], "brief": "b"}
    assert stream(app, {"brief": "in"}, stream_mode="values")[-1] == {"topic": ["t"], "brief": "b"}
