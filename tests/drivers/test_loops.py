"""The event loops that blocking calls run in."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import asyncio, signal, sys
{before}
from fanfold import START, StateGraph
from typing import TypedDict

class State(TypedDict):
    loop: str

async def look(state):
    return {{"loop": type(asyncio.get_running_loop()).__module__.partition(".")[0]}}

graph = StateGraph(State).add_node(look).add_edge(START, "look").compile()
print(graph.invoke({{"loop": ""}})["loop"], [chunk["look"]["loop"] for chunk in graph.stream({{"loop": ""}})])
print(asyncio.run(graph.ainvoke({{"loop": ""}}))["loop"])
"""


POLICY = """
class Policy(asyncio.DefaultEventLoopPolicy): ...
asyncio.set_event_loop_policy(Policy())
"""


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("", "uvloop ['uvloop']\nasyncio\n"),
        ("sys.modules['uvloop'] = None", "asyncio ['asyncio']\nasyncio\n"),
        pytest.param(
            POLICY,
            "asyncio ['asyncio']\nasyncio\n",
            marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no policies any more"),
        ),
    ],
)
def test_a_blocking_call_runs_in_a_loop_of_uvloops_where_that_is_installed_and_no_policy_says_otherwise(
    before: str, found: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (found, "")
