"""A mark for tests that are to run side by side: `@pytest.mark.parallel(min_concurrency=3)`.

The test's body, without its fixtures, is watched as by `audit.watch()`; a single run of ours in it is judged by its own
receipt. A test that passed otherwise fails with the receipt when it was not parallel:

- with no argument, when the verdict is not PARALLEL;
- with arguments, when one of them is not kept, or the verdict is SEQUENTIAL or NOTHING TO OVERLAP: who allows for two
  at once of fifteen does not ask for more.

pytest loads this module in every session of an environment in which fanfold is installed. It imports nothing until a
test has the mark.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from fanfold.events import LoopHeld
    from fanfold.receipt import Receipt

MARK: Final = "parallel"
_DESCRIPTION: Final = (
    "parallel(min_concurrency=None, min_speedup=None, max_blocked_ms=None): "
    "fail the test with fanfold's receipt unless what it ran on asyncio ran side by side"
)
_LEAST: Final[Mapping[str, float]] = {"min_concurrency": 1, "min_speedup": 0, "max_blocked_ms": 0}
"""The arguments, and the least that each may be."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", _DESCRIPTION)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse marks that say nothing that can be kept, all of them at once, before any test runs."""
    marks = [(item.nodeid, mark) for item in items for mark in item.iter_markers(MARK)]
    problems = [f"{id}: @pytest.mark.parallel {problem}" for id, mark in marks if (problem := _problem(mark))]
    if problems:
        raise pytest.UsageError("\n".join(problems))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Watch the test, whatever runs it: its own code, or a plugin for async tests."""
    mark = pyfuncitem.get_closest_marker(MARK)
    if mark is None:
        return (yield)
    from fanfold import audit

    with audit.watch(pyfuncitem.name) as watched:
        outcome = yield
    receipt = watched.receipt
    if missed := _missed(receipt, mark.kwargs, watched.longest_hold):
        pytest.fail("\n".join(["it did not run side by side: " + "; ".join(missed), *receipt.lines()]), pytrace=False)
    pyfuncitem.add_report_section("call", MARK, str(receipt))
    return outcome


def _problem(mark: pytest.Mark) -> str:
    """What is wrong with a mark's arguments, if anything is."""
    named = ", ".join(f"{name}=" for name in _LEAST)
    if mark.args:
        return f"takes its arguments by name: {named}"
    for name, value in mark.kwargs.items():
        if name not in _LEAST:
            return f"has no {name}=; there are {named}"
        kind, least = (int, "a whole number") if name == "min_concurrency" else (int | float, "a number")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, kind) or not _LEAST[name] <= value < float("inf"):
            return f"has {name}={value!r}; it is {least} from {_LEAST[name]:g} on"
    return ""


def _missed(receipt: Receipt, wanted: Mapping[str, float | None], hold: LoopHeld | None) -> list[str]:
    """In words, what was wanted and did not come; `hold` is the longest of the event loop."""
    least, speedup, blocked = (wanted.get(name) for name in _LEAST)
    found = []
    if least is not None and receipt.steady < least:
        found.append(f"at most {receipt.steady} ran at once, and {least} were asked for")
    if speedup is not None and receipt.speedup < speedup:
        found.append(f"it was {receipt.speedup:.2f}x as fast as one by one, and {speedup:g}x were asked for")
    if blocked is not None and receipt.blocked * 1000 > blocked:
        where = f", most at {hold.file}:{hold.line} in {hold.function}" if hold is not None and hold.file else ""
        took = f"{receipt.blocked * 1000:.0f} ms"
        found.append(f"the event loop was blocked for {took}, and {blocked:g} ms were allowed{where}")
    refused = {"SEQUENTIAL", "NOTHING TO OVERLAP"}
    if all(value is None for value in wanted.values()):
        refused.add("PARTLY SERIAL")
    if receipt.verdict in refused:
        found.append(f"the verdict is {receipt.verdict}")
    return found
