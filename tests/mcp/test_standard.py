"""The server over standard input and output, as clients start it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mcp import Client

from tests.mcp.served import PATIENCE, called, command, environment

AT_ONCE = 4.0
"""Seconds; it would give up waiting for its client after five."""
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
LOUD = """
import os
import subprocess
import sys
from typing import TypedDict

from fanfold import START, StateGraph


class State(TypedDict, total=False):
    text: str
    read: str


def shout(state: State) -> State:
    print("to standard output")
    os.write(1, b"to its number")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    return {"read": sys.stdin.read() + os.read(0, 100).decode()}


graph = StateGraph(State).add_node(shout).add_edge(START, "shout")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_what_a_graph_prints_or_reads_does_not_disturb_the_conversation(folder: Path) -> None:
    (folder / "loud.py").write_text(LOUD)

    async def main() -> None:
        async with Client(command(folder, "--allow-write", "--graph", "loud=loud.py:graph")) as client:
            account = await called(client, "run_start", graph="loud", input={"text": "ducks"})
            assert (account["run"]["status"], account["output"]["read"]) == ("done", "")

    asyncio.run(asyncio.wait_for(main(), 60))


LOADED = """
import os
import pathlib
from typing import TypedDict

from fanfold import START, StateGraph

print("loaded")
os.write(1, b"to its number")
with pathlib.Path("times").open("a") as file:
    file.write("x")


class State(TypedDict, total=False):
    text: str


graph = StateGraph(State).add_node("say", lambda state: {"text": "ducks"}).add_edge(START, "say")
"""


def test_a_graphs_file_is_run_once_and_not_as_somebody_has_changed_it_since(folder: Path) -> None:
    (folder / "loaded.py").write_text(LOADED)

    async def main() -> None:
        async with Client(command(folder, "--allow-write", "--graph", "g=loaded.py:graph")) as client:
            (folder / "loaded.py").write_text(LOADED.replace("ducks", "geese"))
            for _ in range(2):
                account = await called(client, "run_start", graph="g", input={"text": ""})
                assert account["output"]["text"] == "ducks"
            assert (await called(client, "run_get", run_id=account["run"]["run_id"]))["output"]["text"] == "ducks"

    asyncio.run(asyncio.wait_for(main(), 60))
    assert (folder / "times").read_text() == "x"


def test_what_a_file_says_when_it_is_loaded_is_not_said_to_the_client(folder: Path) -> None:
    (folder / "loaded.py").write_text(LOADED)
    words = [sys.executable, "-m", "fanfold", "mcp", "serve", "--graph", "g=loaded.py:graph"]
    text = json.dumps(HELLO) + "\n"
    told = subprocess.run(
        words, input=text, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    )
    assert [json.loads(line)["id"] for line in told.stdout.splitlines()] == [1]
    assert "loaded" in told.stderr


@pytest.mark.timed
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_ends_when_it_is_told_to_although_its_client_says_nothing(folder: Path, number: int, code: int) -> None:
    words = [sys.executable, "-m", "fanfold", "mcp", "serve", "--allow-write"]
    with subprocess.Popen(
        words,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            print(json.dumps(HELLO), file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "fanfold"
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(PATIENCE) == code
            assert time.monotonic() - began < AT_ONCE
            assert process.stderr.read() == "serving .fanfold/runs.db over standard input and output\n"
        finally:
            process.kill()


def test_it_ends_without_an_error_when_its_client_has_gone(folder: Path) -> None:
    words = [sys.executable, "-m", "fanfold", "mcp", "serve"]
    done = subprocess.run(words, cwd=folder, env=environment(folder), input="", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_server_that_is_started_before_any_run_has_none_to_tell_of(folder: Path) -> None:
    async def main() -> None:
        async with Client(command(folder)) as client:
            assert await called(client, "runs_list") == {"runs": [], "next": None}
            assert (await called(client, "query", sql="select count(*) as n from runs"))["rows"] == [[0]]

    asyncio.run(asyncio.wait_for(main(), 60))
