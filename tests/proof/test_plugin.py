"""`@pytest.mark.parallel`, in sessions of pytest's own. What blocks or sleeps there is what is to be judged."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import asyncio, operator, time
from typing import Annotated, TypedDict
import pytest

class State(TypedDict, total=False):
    log: Annotated[list, operator.add]

async def waits(*_):
    await asyncio.sleep(0.08)

async def blocks(*_):
    time.sleep(0.08)  # the culprit

async def gathers(work):
    await asyncio.gather(*(work() for _ in range(4)))

def side_by_side(framework, work):
    graph = framework.StateGraph(State)
    for number in range(4):
        graph.add_node(f"node{number}", work)
        graph.add_edge(framework.START, f"node{number}")
    return graph.compile()
"""


def session(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    """What a session of pytest says of a file that begins with `HEAD`."""
    pytester.makepyfile(test_it=HEAD + text)
    given = ("-p", "fanfold.pytest_plugin", "-p", "no:cacheprovider", "-W", "error", "--strict-markers", *options)
    return pytester.runpytest_subprocess(*given)


def test_what_ran_side_by_side_passes_and_what_did_not_fails_with_the_line_that_blocks(
    pytester: pytest.Pytester,
) -> None:
    result = session(
        pytester,
        """
@pytest.mark.parallel(min_concurrency=3)
def test_waits():
    asyncio.run(gathers(waits))

@pytest.mark.parallel(min_concurrency=3)
def test_blocks():
    asyncio.run(gathers(blocks))

def test_has_no_mark():
    asyncio.run(gathers(blocks))
""",
        "-rA",
    )
    result.assert_outcomes(passed=2, failed=1)
    culprit = HEAD.strip().split("\n").index("    time.sleep(0.08)  # the culprit") + 1
    result.stdout.fnmatch_lines(
        [
            "it did not run side by side: at most 1 ran at once, and 3 were asked for*",
            f"*held the event loop*test_it.py:{culprit} *",
            "4 agents in * SEQUENTIAL",
            "4 agents in * PARALLEL",
            "PASSED*test_waits*",
        ]
    )


def test_graphs_of_langgraphs_and_of_ours_are_judged(pytester: pytest.Pytester) -> None:
    result = session(
        pytester,
        """
import fanfold, langgraph.graph

@pytest.mark.parallel
@pytest.mark.parametrize("framework", [fanfold, langgraph.graph])
@pytest.mark.parametrize("work", [waits, blocks])
def test_graph(framework, work):
    graph = side_by_side(framework, work)
    asyncio.run(graph.ainvoke({"log": []}))

@pytest.mark.parallel
def test_blocking_call():
    side_by_side(langgraph.graph, lambda state: time.sleep(0.08)).invoke({"log": []})

@pytest.mark.parallel
def test_blocking_call_of_ours():
    side_by_side(fanfold, waits).invoke({"log": []})
""",
        "-rf",
        "-W",
        "ignore::DeprecationWarning",
    )
    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines(["FAILED*blocks-fanfold*", "FAILED*blocks-langgraph*"])


def test_an_async_test_is_judged_whatever_plugin_runs_it(pytester: pytest.Pytester) -> None:
    result = session(
        pytester,
        """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.parallel
@pytest.mark.anyio
@pytest.mark.parametrize("work", [waits, blocks])
async def test_async(work):
    await gathers(work)
""",
        "-p",
        "anyio",
        "-rf",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED*test_async*blocks*"])


def test_each_argument_is_kept_or_the_test_fails(pytester: pytest.Pytester) -> None:
    result = session(
        pytester,
        """
async def blocks_once():
    time.sleep(0.04)
    await gathers(waits)

async def two_at_once():
    await asyncio.gather(waits(), waits())
    await asyncio.gather(waits(), waits())

@pytest.mark.parallel(max_blocked_ms=20)
def test_blocked(): asyncio.run(blocks_once())

@pytest.mark.parallel(max_blocked_ms=500, min_speedup=1.5, min_concurrency=4)
def test_blocked_for_less(): asyncio.run(blocks_once())

@pytest.mark.parallel(min_speedup=3.99)
def test_slow(): asyncio.run(blocks_once())

@pytest.mark.parallel(min_concurrency=5)
def test_five(): asyncio.run(gathers(waits))

@pytest.mark.parallel()
def test_partly(): asyncio.run(two_at_once())

@pytest.mark.parallel(min_concurrency=2)
def test_two(): asyncio.run(two_at_once())

@pytest.mark.parallel(min_speedup=0)
def test_alone(): asyncio.run(waits())
""",
        "-rf",
    )
    result.assert_outcomes(passed=2, failed=5)
    said = [
        "the event loop was blocked for * ms, and 20 ms were allowed, most at *test_it.py:* in blocks_once",
        "it was *x as fast as one by one, and 3.99x were asked for",
        "at most 4 ran at once, and 5 were asked for",
        "the verdict is PARTLY SERIAL",
        "the verdict is NOTHING TO OVERLAP",
    ]
    result.stdout.fnmatch_lines([f"it did not run side by side: {text}" for text in said])


def test_a_test_that_fails_by_itself_says_why_and_has_no_receipt(pytester: pytest.Pytester) -> None:
    result = session(pytester, "@pytest.mark.parallel\ndef test_it():\n    assert 1 == 2\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*"])
    result.stdout.no_fnmatch_line("*side by side*")


def test_marks_that_cannot_be_kept_are_all_refused_before_any_test_runs(pytester: pytest.Pytester) -> None:
    wrong = {
        "3": "takes its arguments by name: min_concurrency=, min_speedup=, max_blocked_ms=",
        "min_concurency=3": "has no min_concurency=; there are min_concurrency=, *",
        "min_concurrency=2.5": "has min_concurrency=2.5; it is a whole number from 1 on",
        "min_concurrency=True": "has min_concurrency=True; *",
        "min_concurrency=0": "has min_concurrency=0; *",
        "min_speedup=float('nan')": "has min_speedup=nan; it is a number from 0 on",
        "max_blocked_ms='20'": "has max_blocked_ms='20'; *",
    }
    body = "    raise SystemExit\n"
    tests = [f"@pytest.mark.parallel({text})\ndef test_{number}():\n{body}" for number, text in enumerate(wrong)]
    result = session(pytester, "\n".join(tests))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [f"*test_{number}: @pytest.mark.parallel {problem}" for number, problem in enumerate(wrong.values())]
    result.stderr.fnmatch_lines(lines)


def test_without_the_mark_nothing_of_fanfolds_is_imported() -> None:
    program = (
        "import sys, fanfold.pytest_plugin\n"
        "ours = [name for name in sys.modules if name.startswith('fanfold')]\n"
        "assert ours == ['fanfold', 'fanfold.pytest_plugin'], ours\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
