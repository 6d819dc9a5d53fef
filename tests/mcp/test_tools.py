"""The tools, resources and prompts, by a client of the official SDK in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError

from fanfold import END, START, Send, StateGraph, interrupt
from fanfold.errors import UsageError
from fanfold.events import Noticed
from fanfold.mcp.offer import Offered
from fanfold.mcp.tools.answers import DEEPEST, bounded, levels, weight
from fanfold.mcp.tools.runs import PAGE
from fanfold.mcp.work import AtWork
from fanfold.store.base import RunRecord
from fanfold.store.opening import open_store
from tests.mcp.served import (
    ECHO,
    State,
    agents,
    asking,
    called,
    connected,
    offered,
    refused,
    server,
    until,
    waiting,
)

READING = {
    "query",
    "memory_get",
    "memory_search",
    "memory_namespaces",
    "runs_list",
    "run_get",
    "run_follow",
    "checkpoint_get",
}
CHANGING = {"memory_put", "memory_delete", "run_start", "run_resume", "run_cancel"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    agents(tmp_path, echo=ECHO)
    return tmp_path


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


# What there is


def test_without_leave_to_write_there_is_no_tool_that_changes_anything(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder, {"ask": offered(asking(), "ask")}, write=False) as client:
            tools = (await client.list_tools()).tools
            assert {tool.name for tool in tools} == READING
            assert "Unknown tool" in await refused(client, "memory_put", namespace=["a"], key="k", value={})
            assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["explain_run", "recall"]

    run(main())


def test_what_may_run_beside_other_calls_says_that_it_only_reads_and_nothing_else_does(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder, {"ask": offered(asking(), "ask")}) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            spawning = tools.keys() & {"task", "debate"}
            assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == READING | spawning
            assert tools.keys() == READING | CHANGING | spawning
            assert all(tool.output_schema and tool.description for tool in tools.values())

    run(main())


# Memory


def test_parallel_writers_who_read_decide_and_write_lose_nothing(folder: Path) -> None:
    async def add(client: Client) -> None:
        while True:
            item = (await called(client, "memory_get", namespace=["counts"], key="n"))["item"]
            value, version = ({"n": 0}, None) if item is None else (item["value"], item["version"])
            given = {"namespace": ["counts"], "key": "n", "value": {"n": value["n"] + 1}, "if_version": version}
            result = await client.call_tool("memory_put", given)
            if not result.is_error:
                return
            assert "ItemConflictError" in result.content[0].text

    async def main() -> None:
        async with connected(folder) as client:
            await asyncio.gather(*(add(client) for _ in range(20)))
            item = (await called(client, "memory_get", namespace=["counts"], key="n"))["item"]
            assert item["value"] == {"n": 20}

    run(main())


def test_what_others_wrote_is_overwritten_only_when_that_is_said(folder: Path) -> None:
    async def main() -> None:
        place = {"namespace": ["a"], "key": "k"}
        async with connected(folder) as client:
            await called(client, "memory_put", **place, value={"by": "ann"})
            assert "version 1" in await refused(client, "memory_put", **place, value={"by": "bo"})
            assert "one of them" in await refused(
                client, "memory_put", **place, value={"by": "bo"}, if_version=1, overwrite=True
            )
            await called(client, "memory_put", **place, value={"by": "cy"}, overwrite=True)
            assert (await called(client, "memory_get", **place))["item"]["value"] == {"by": "cy"}
            assert "ItemConflictError" in await refused(client, "memory_delete", **place, if_version=1)
            await called(client, "memory_delete", **place, if_version=2)
            assert (await called(client, "memory_get", **place))["item"] is None

    run(main())


def test_memory_is_searched_page_by_page_and_each_item_is_on_one_page(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder) as client:
            for number in range(7):
                value = {"text": f"duck {number}"}
                await called(client, "memory_put", namespace=["pond", str(number % 2)], key=str(number), value=value)
            found, cursor = [], 0
            while cursor is not None:
                page = await called(client, "memory_search", namespace=["pond"], query="duck", limit=3, cursor=cursor)
                found += [item["key"] for item in page["items"]]
                cursor = page["next"]
            assert sorted(found) == [str(number) for number in range(7)]
            told = await called(client, "memory_namespaces", prefix=["pond"])
            assert told == {"namespaces": [["pond", "0"], ["pond", "1"]], "next": None}

    run(main())


def test_what_no_client_could_read_or_list_is_not_written(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder) as client:
            deep = nested(DEEPEST)
            await called(client, "memory_put", namespace=["a"], key="k", value=deep)
            assert (await called(client, "memory_get", namespace=["a"], key="k"))["item"]["value"] == deep
            told = await refused(client, "memory_put", namespace=["a"], key="x", value=nested(DEEPEST + 1))
            assert f"{DEEPEST} at most" in told
            long = await refused(client, "memory_put", namespace=["a"] * 300, key="k" * 300, value={})
            assert "namespace and key have" in long

    run(main())


def test_what_is_too_deep_for_clients_is_cut_and_that_is_said(folder: Path) -> None:
    graph = StateGraph(State).add_node("dig", lambda _: {"answer": nested(150)}).add_edge(START, "dig")

    async def main() -> None:
        with open_store(f"sqlite:///{folder}/runs.db") as store:
            store.items.put(("a",), "deep", nested(150))
        async with connected(folder, {"dig": offered(graph, "dig")}) as client:
            account = await called(client, "run_start", graph="dig", input={"text": "x"})
            assert (account["whole"], levels(account["output"])) == (False, DEEPEST)
            (found,) = (await called(client, "memory_search", namespace=["a"]))["items"]
            assert (found["whole"], levels(found["value"])) == (False, DEEPEST)
            assert "150 levels" in await refused(client, "memory_get", namespace=["a"], key="deep")

    run(main())


def nested(depth: int) -> dict[str, Any]:
    """A value of so many levels."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"in": value}
    return value


def test_a_number_that_no_database_keeps_is_a_wrong_argument_and_no_fault_of_the_store(folder: Path) -> None:
    huge = 10**30

    async def main() -> None:
        async with connected(folder) as client:
            place = {"namespace": ["a"], "key": "k"}
            for tool, given in (
                ("memory_put", {**place, "value": {}, "if_version": huge}),
                ("memory_delete", {**place, "if_version": huge}),
                ("memory_search", {"namespace": ["a"], "cursor": huge}),
                ("run_follow", {"run_id": "x", "after": huge}),
            ):
                told = await refused(client, tool, **given)
                assert "less than or equal to" in told
                assert "StoreError" not in told

    run(main())


def test_a_value_that_is_too_large_is_refused_and_not_cut(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder) as client:
            text = await refused(client, "memory_put", namespace=["a"], key="k", value={"text": "x" * 300_000})
            assert "262,144 at most" in text
            assert (await called(client, "memory_get", namespace=["a"], key="k"))["item"] is None

    run(main())


# Runs


def test_runs_are_listed_page_by_page_and_a_new_one_shifts_no_page(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder, {"ask": offered(asking(), "ask")}) as client:
            started = []
            for number in range(5):
                account = await called(client, "run_start", graph="ask", input={"text": str(number)})
                started.append(account["run"]["run_id"])
            first = await called(client, "runs_list", limit=2)
            await called(client, "run_start", graph="ask", input={"text": "new"})
            second = await called(client, "runs_list", limit=2, cursor=first["next"])
            third = await called(client, "runs_list", limit=2, cursor=second["next"])
            listed = [each["run_id"] for page in (first, second, third) for each in page["runs"]]
            assert listed == started[::-1]
            assert third["next"] is None
            assert "is no cursor" in await refused(client, "runs_list", cursor="there")

    run(main())


def test_runs_of_the_same_moment_are_each_on_one_page(folder: Path) -> None:
    async def main() -> None:
        async with server(folder) as made:
            from fanfold.store.base import RunOpened
            from fanfold.store.opening import open_store

            with open_store(f"sqlite:///{folder}/runs.db") as store:
                for number in range(5):
                    record = RunRecord(f"run-{number}", f"t-{number}", "g", "", "done", 1000.0)
                    store.submit(RunOpened(record)).result()
            async with Client(made) as client:
                listed, cursor = [], None
                while True:
                    page = await called(client, "runs_list", limit=2, cursor=cursor)
                    listed += [each["run_id"] for each in page["runs"]]
                    if (cursor := page["next"]) is None:
                        break
            assert sorted(listed) == [f"run-{number}" for number in range(5)]

    run(main())


def test_a_run_that_asks_something_is_answered_and_goes_on(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder, {"ask": offered(asking(), "ask")}) as client:
            account = await called(client, "run_start", graph="ask", input={"text": "ducks"})
            run_id = account["run"]["run_id"]
            assert account["run"]["status"] == "paused"
            assert [each["value"] for each in account["questions"]] == ["What about ducks?"]
            assert "run_resume" in account["note"]
            done = await called(client, "run_resume", run_id=run_id, answer="they swim")
            assert (done["run"]["status"], done["output"]["answer"]) == ("done", "they swim")
            assert "there is nothing to go on with" in await refused(client, "run_resume", run_id=run_id)

    run(main())


def test_a_run_goes_on_when_its_call_has_waited_long_enough_and_can_be_followed_to_its_end(folder: Path) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with connected(folder, {"wait": offered(waiting(gate), "wait")}) as client:
            begun = await called(client, "run_start", graph="wait", input={"text": "ducks"}, wait=0)
            run_id = begun["run"]["run_id"]
            assert begun["run"]["status"] == "running"
            told: list[dict[str, Any]] = []
            after, ended = 0, False
            while not ended:
                page = await called(client, "run_follow", run_id=run_id, after=after, wait=10)
                told += page["events"]
                after, ended = page["next"], page["ended"]
                gate.set()
            assert [event["no"] for event in told] == list(range(len(told)))
            assert (told[0]["kind"], told[-1]["kind"]) == ("run_started", "run_finished")
            account = await called(client, "run_get", run_id=run_id)
            assert (account["output"]["answer"], account["happened"]) == ("ducks", len(told))
            assert account["receipt"]

    run(main())


def test_who_follows_a_run_waits_for_the_next_thing_that_happens_and_not_for_one_that_did() -> None:
    async def main() -> None:
        at = AtWork("a run")
        followers = [asyncio.create_task(at.changed.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        at.heard(Noticed(at=0.0, message="ducks"))
        await asyncio.wait(followers)
        assert not at.changed.is_set()  # else they would look again and again, as fast as the store answers

    run(main())


def test_a_run_can_be_stopped_and_gone_on_with(folder: Path) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with connected(folder, {"wait": offered(waiting(gate), "wait")}) as client:
            begun = await called(client, "run_start", graph="wait", input={"text": "ducks"}, wait=0)
            run_id = begun["run"]["run_id"]
            assert (await called(client, "run_cancel", run_id=run_id))["status"] == "cancelled"
            assert "is not at work in this server: it is cancelled" in await refused(
                client, "run_cancel", run_id=run_id
            )
            gate.set()
            done = await called(client, "run_resume", run_id=run_id)
            assert (done["run"]["status"], done["output"]["answer"]) == ("done", "ducks")

    run(main())


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_cancelling_a_call_that_waits_for_a_run_stops_the_run(folder: Path, mode: Any) -> None:
    async def main() -> None:
        graphs = {"wait": offered(waiting(asyncio.Event()), "wait")}
        async with server(folder, graphs) as made, Client(made, mode=mode) as client:
            call = asyncio.create_task(called(client, "run_start", graph="wait", input={"text": "ducks"}))

            async def status() -> Any:
                runs = (await called(client, "runs_list"))["runs"]
                return runs and runs[0]["status"]

            assert await until(status) == "running"
            call.cancel()
            await asyncio.wait([call])

            async def stopped() -> bool:
                return bool(await status() == "cancelled")

            await until(stopped)

    run(main())


def test_when_the_server_ends_its_runs_are_stopped_and_kept(folder: Path) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        graphs = {"wait": offered(waiting(gate), "wait")}
        async with connected(folder, graphs) as client:
            await called(client, "run_start", graph="wait", input={"text": "ducks"}, wait=0)
        gate.set()
        async with connected(folder, graphs) as client:
            (run,) = (await called(client, "runs_list"))["runs"]
            assert run["status"] == "cancelled"
            assert (await called(client, "run_resume", run_id=run["run_id"]))["output"]["answer"] == "ducks"

    run(main())


def test_only_graphs_that_the_operator_named_are_loaded(folder: Path) -> None:
    async def main() -> None:
        forbidden = offered(asking(), "other")
        async with server(folder, {"ask": forbidden}) as made, Client(made) as client:
            begun = await called(client, "run_start", graph="ask", input={"text": "ducks"})
        async with connected(folder, {"mine": offered(asking(), "mine")}) as client:
            run_id = begun["run"]["run_id"]
            assert "there are: mine" in await refused(client, "run_start", graph="os:system", input={})
            assert "this server was not given" in await refused(client, "run_resume", run_id=run_id, answer="x")
            assert "this server was not given" in await refused(client, "checkpoint_get", run_id=run_id)
            account = await called(client, "run_get", run_id=run_id)
            assert (account["run"]["status"], account["output"]) == ("paused", None)
            assert "this server was not given" in account["note"]

    run(main())


def test_an_input_that_is_none_of_the_graphs_begins_no_run(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder, {"ask": offered(asking(), "ask")}) as client:
            text = await refused(client, "run_start", graph="ask", input={"txt": "ducks"})
            assert "did you mean 'text'" in text
            assert "the input sets no key" in await refused(client, "run_start", graph="ask", input={})
            assert (await called(client, "runs_list"))["runs"] == []

    run(main())


def test_a_checkpoint_tells_the_state_and_which_one_came_before(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder, {"ask": offered(asking(), "ask")}) as client:
            begun = await called(client, "run_start", graph="ask", input={"text": "ducks"})
            run_id = begun["run"]["run_id"]
            await called(client, "run_resume", run_id=run_id, answer="they swim")
            last = await called(client, "checkpoint_get", run_id=run_id)
            assert (last["values"], last["next"]) == ({"text": "ducks", "answer": "they swim"}, [])
            before = await called(client, "checkpoint_get", run_id=run_id, checkpoint_id=last["parent_id"])
            assert (before["values"], before["next"]) == ({"text": "ducks"}, ["ask"])
            assert "no checkpoint" in await refused(client, "checkpoint_get", run_id=run_id, checkpoint_id="none")

    run(main())


def test_a_run_that_fails_says_with_what_and_what_can_be_done(folder: Path) -> None:
    def fail(state: State) -> State:
        raise ValueError("the ink is wet")

    graph = StateGraph(State).add_node(fail).add_edge(START, "fail").add_edge("fail", END)

    async def main() -> None:
        async with connected(folder, {"fail": offered(graph, "fail")}) as client:
            account = await called(client, "run_start", graph="fail", input={"text": "ducks"})
            assert (account["run"]["status"], account["run"]["error"]) == ("failed", "ValueError: the ink is wet")
            assert "run_resume" in account["note"]

    run(main())


# Agents


def test_an_agent_is_asked_and_what_it_answers_is_handed_over(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder) as client:
            told = await called(client, "task", agent="Echo", prompt="Ducks swim.")
            assert (told["status"], told["agent"]) == ("done", "echo")
            assert told["output"] == "You repeat.\n\nDucks swim."
            account = await called(client, "run_get", run_id=told["run_id"])
            assert account["output"]["output"] == told["output"]

    run(main())


def test_who_waits_for_a_run_is_told_of_its_progress(folder: Path) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        heard: list[float] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            heard.append(done)
            if message == "wait is at work":
                gate.set()  # else it would never end

        async with connected(folder, {"wait": offered(waiting(gate), "wait")}) as client:
            given = {"graph": "wait", "input": {"text": "ducks"}}
            result = await client.call_tool("run_start", given, progress_callback=progress)
            assert result.structured_content["run"]["status"] == "done"
            assert heard == sorted(set(heard))

    run(main())


def test_an_unknown_agent_begins_no_run_and_names_those_there_are(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder) as client:
            assert 'did you mean "echo"' in await refused(client, "task", agent="ecco", prompt="Ducks swim.")
            assert (await called(client, "runs_list"))["runs"] == []

    run(main())


def test_a_debate_is_held_as_it_was_asked_for_and_in_the_servers_folder(folder: Path) -> None:
    (folder / "pond.md").write_text("Ducks swim in the pond.\n")

    async def main() -> None:
        async with connected(folder) as client:
            given = {"question": "Do ducks swim?", "rounds": 1, "advocates": 1, "challengers": 1}
            account = await called(client, "debate", **given, wait=60)
            assert account["run"]["status"] == "done"
            told = await client.read_resource(f"run://{account['run']['run_id']}/timeline")
            timeline = json.loads(told.contents[0].text)
            names = {task["name"] for task in timeline["tasks"]}
            assert {"pro-1", "con-1", "pro-1.r1", "con-1.r1"} <= names
            assert not names & {"pro-2", "con-2", "pro-1.r2"}
            assert "`pond.md`, verified" in account["output"]["report"]

    run(main())


# Resources, prompts and queries


def test_a_runs_timeline_and_receipt_can_be_read_by_their_address(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder, {"ask": offered(asking(), "ask")}) as client:
            begun = await called(client, "run_start", graph="ask", input={"text": "ducks"})
            run_id = begun["run"]["run_id"]
            timeline = json.loads((await client.read_resource(f"run://{run_id}/timeline")).contents[0].text)
            assert [task["name"] for task in timeline["tasks"]] == ["ask"]
            receipt = json.loads((await client.read_resource(f"run://{run_id}/audit")).contents[0].text)
            assert receipt["run_id"] == run_id
            names = {each["name"] for each in json.loads((await client.read_resource("agents://all")).contents[0].text)}
            assert {"echo", "sydney-research"} <= names
            views = json.loads((await client.read_resource("database://views")).contents[0].text)
            assert "runs" in {view["name"] for view in views}
            with pytest.raises(MCPError, match="RunNotFoundError"):
                await client.read_resource("run://nobody/audit")

    run(main())


def test_a_prompt_names_the_run_that_it_is_about(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder) as client:
            told = await client.get_prompt("explain_run", {"run_id": "abc"})
            assert "run://abc/audit" in told.messages[0].content.text

    run(main())


def test_a_query_reads_what_runs_have_come_to_and_says_which_wall_refused_a_write(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder, {"ask": offered(asking(), "ask")}) as client:
            await called(client, "run_start", graph="ask", input={"text": "ducks"})
            sql = "select graph, status from runs where status = $1"
            told = await called(client, "query", sql=sql, parameters=["paused"])
            assert (told["columns"], told["rows"], told["truncated"]) == (["graph", "status"], [["ask", "paused"]], "")
            text = await refused(client, "query", sql="delete from run")
            assert "QueryRefusedError [" in text

    run(main())


# Bounds


@pytest.mark.parametrize(
    "value",
    [
        "x" * 1_000_000,
        ["duck"] * 500_000,
        {str(number): "duck" * 100 for number in range(50_000)},
        {"texts": ["y" * 10_000] * 1000},
        {"deep": [[["z" * 300] * 300] * 300]},
    ],
    ids=["text", "list", "object", "texts", "deep"],
)
def test_an_answer_is_never_larger_than_a_client_is_promised(value: Any) -> None:
    told, whole = bounded(value, 65_536)
    assert weight(told) <= 65_536
    assert not whole


def test_a_small_value_is_whole() -> None:
    value = {"a": [1, 2.5, None, True, "x" * 10_000]}
    assert bounded(value) == (value, True)
    assert bounded([float("nan"), float("inf"), {1}, None]) == (["nan", "inf", [1], None], True)


def test_a_large_output_is_cut_and_that_is_said(folder: Path) -> None:
    def write(state: State) -> State:
        return {"answer": "x" * 1_000_000}

    graph = StateGraph(State).add_node(write).add_edge(START, "write").add_edge("write", END)

    async def main() -> None:
        async with connected(folder, {"write": offered(graph, "write")}) as client:
            account = await called(client, "run_start", graph="write", input={"text": "ducks"})
            assert account["whole"] is False
            assert "characters left out" in account["output"]["answer"]
            assert weight(account) < 100_000

    run(main())


def test_an_agents_answer_that_is_cut_says_so(folder: Path) -> None:
    async def main() -> None:
        async with connected(folder) as client:
            assert (await called(client, "task", agent="echo", prompt="short"))["whole"] is True
            long = await called(client, "task", agent="echo", prompt="x" * 200_000)
            assert long["whole"] is False
            assert weight(long) < 100_000

    run(main())


def test_many_questions_are_told_page_by_page_as_they_are_answered(folder: Path) -> None:
    def ask(state: State) -> State:
        interrupt("x" * 9_000 + state["text"])
        return {}

    graph = StateGraph(State).add_node("ask", ask).add_node("all", lambda _: {}).add_edge(START, "all")
    graph.add_conditional_edges("all", lambda _: [Send("ask", {"text": str(number)}) for number in range(PAGE + 30)])

    async def main() -> None:
        async with connected(folder, {"ask": offered(graph, "ask")}) as client:
            account = await called(client, "run_start", graph="ask", input={"text": "ducks"})
            assert "30 more questions" in account["note"]
            run_id = account["run"]["run_id"]
            assert weight(account) < 100_000
            kept = await called(client, "checkpoint_get", run_id=run_id)
            assert (len(kept["questions"]), len(kept["next"]), kept["whole"]) == (PAGE, PAGE, False)
            for left in (30, 0):
                answer = {question["id"]: "yes" for question in account["questions"]}
                account = await called(client, "run_resume", run_id=run_id, answer=answer)
                assert len(account["questions"]) == left
            assert account["run"]["status"] == "done"

    run(main())


def test_a_graph_that_cannot_be_compiled_is_an_error_in_words(folder: Path) -> None:
    def load(store: Any, name: str | None) -> Any:
        raise UsageError("there is no file 'gone.py'")

    async def main() -> None:
        async with connected(folder, {"gone": Offered("gone.py:graph", load)}) as client:
            assert "no file 'gone.py'" in await refused(client, "run_start", graph="gone", input={})

    run(main())


def test_a_text_that_is_no_text_everywhere_does_not_keep_an_answer_from_being_given(folder: Path) -> None:
    def write(state: State) -> State:
        return {"answer": "ä\udce9"}

    graph = StateGraph(State).add_node(write).add_edge(START, "write").add_edge("write", END)

    async def main() -> None:
        async with connected(folder, {"write": offered(graph, "write")}) as client:
            account = await called(client, "run_start", graph="write", input={"text": "ducks"})
            assert account["output"]["answer"] == "ä\\udce9"

    run(main())


def test_what_keeps_a_run_from_beginning_is_the_answer_also_to_who_does_not_wait(folder: Path) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with server(folder, {"wait": offered(waiting(gate), "wait")}) as first, Client(first) as client:
            begun = await called(client, "run_start", graph="wait", input={"text": "ducks"}, wait=0)
            async with server(folder, {"wait": offered(waiting(gate), "wait")}) as other, Client(other) as second:
                text = await refused(second, "run_resume", run_id=begun["run"]["run_id"], wait=0)
                assert "ThreadBusyError" in text
                cancel = await refused(second, "run_cancel", run_id=begun["run"]["run_id"])
                assert "another process runs it" in cancel

    run(main())
